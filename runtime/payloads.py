"""Payloads made up for a model: what load and measurements send it.

Shapes: as the model declares them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from stoker.runtime.catalog import Model
from stoker.runtime.digits import draw_digits
from stoker.runtime.onnx_model import Declared, OnnxBinder

SMALL_VOCABULARY = 64
"""Token numbers that every decoder has."""
OPEN_AXIS = 8
"""Length of an axis that an ONNX graph leaves open, such as that of a sequence."""
WORDS = ("the", "value", "of", "a", "statement", "is", "object", "import", "class", "name")


def sample_payload(model: Model, rng: np.random.Generator) -> object:
    """Return one payload that a model can serve.

    Raises:
        ModelError: its graph is not what it was.
    """
    if model.architecture == "digit_cnn":
        return draw_digits(1, rng)[0][0]
    if model.architecture == "llama":
        tokens = rng.integers(0, SMALL_VOCABULARY, rng.integers(16, 49)).tolist()
        return {"prompt": tokens, "max_tokens": 16, "ignore_end": True}
    if model.architecture == "onnx":
        return {name: _array(kind, rng) for name, kind in _inputs(model.folder).items()}
    return " ".join(rng.choice(WORDS, 12))


@cache
def _inputs(folder: Path) -> dict[str, Declared]:
    """Read the graph once: to open it takes longer than to run it."""
    return OnnxBinder(Model.read(folder)).inputs


def _array(declared: Declared, rng: np.random.Generator) -> Any:
    """Draw what an input takes: normal numbers, or 0 and 1, which are in any vocabulary."""
    dtype, axes = declared
    shape = tuple(OPEN_AXIS if length is None else length for length in axes)
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)
