"""Lengths of ServeGen's requests: distributions in windows of six hours, and draws from them.

Shapes: K values, N requests.  Units: seconds, tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError

MEDIA = ("image", "audio", "video")
FIELDS = (
    "input_tokens", "output_tokens", "text_tokens",
    *(f"{medium}_{what}" for medium in MEDIA for what in ("tokens", "count")),
)  # fmt: skip
Ints = NDArray[np.int32]


@dataclass
class Lengths:
    """Distributions in one window; those that are empty there are left out."""

    start_s: float
    fields: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = field(default_factory=dict)
    """Values, ascending as in the file, and their cumulated probabilities. Shapes: (K,), (K,)"""

    @property
    def usable(self) -> bool:
        """Whether both lengths of a request can be drawn."""
        return "output_tokens" in self.fields and (
            "input_tokens" in self.fields or "text_tokens" in self.fields
        )


def read_lengths(name: str, text: str) -> list[Lengths]:
    """Read a client's distributions; windows without any are left out.

    Raises:
        SpecError: names the member of the archive, the window and the field.
    """
    try:
        windows: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(name, text[:40], f"a JSON object ({error.msg})") from error
    out = []
    for start, fields in windows.items():
        made = Lengths(float(start))
        for column, pairs in fields.items():
            if column not in FIELDS:
                raise SpecError(f"{name}: {start}", column, " | ".join(FIELDS))
            values, chances = _distribution(f"{name}: {start}.{column}", pairs)
            if len(values):
                made.fields[column] = values, chances.cumsum() / chances.sum()
        out.append(made)
    return sorted((made for made in out if made.usable), key=lambda made: made.start_s)


def draw_tokens(
    rng: np.random.Generator,
    lengths: Sequence[list[Lengths]],
    arrivals: Sequence[NDArray[np.float64]],
) -> tuple[Ints | None, Ints | None]:
    """Draw prompt and output of every request, client after client; None where nothing is known."""
    lenders = [known for known in lengths if known]
    if not lenders:
        return None, None
    prompts, outputs = [], []
    for own, arrival_s in zip(lengths, arrivals, strict=True):
        known = own or lenders[int(rng.integers(len(lenders)))]
        at = np.searchsorted([w.start_s for w in known], arrival_s, "right") - 1
        prompt, output = np.zeros(len(at), np.int32), np.zeros(len(at), np.int32)
        for w in np.unique(at).tolist():  # -1: before the first window that has any
            which = np.flatnonzero(at == w)
            prompt[which], output[which] = _draw(rng, known[max(w, 0)], len(which))
        prompts.append(prompt)
        outputs.append(output)
    return np.concatenate(prompts), np.concatenate(outputs)


def _draw(rng: np.random.Generator, window: Lengths, n: int) -> tuple[Ints, Ints]:
    """Draw prompt and output of n requests of a window. Shapes: (N,), (N,)."""

    def one(column: str) -> NDArray[np.int64]:
        if column not in window.fields:
            return np.zeros(n, np.int64)
        values, cumulated = window.fields[column]
        return values[np.minimum(cumulated.searchsorted(rng.random(n)), len(values) - 1)]

    prompt = one("input_tokens") + one("text_tokens")
    for medium in MEDIA:
        prompt = prompt + one(f"{medium}_count") * one(f"{medium}_tokens")
    return prompt.astype(np.int32), one("output_tokens").astype(np.int32)


def _distribution(at: str, pairs: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read "{length: probability, ...}". Shapes: (K,), (K,)."""
    entries = str(pairs).strip().removeprefix("{").removesuffix("}").split(",")
    values, chances = [], []
    for entry in (e for e in entries if e.strip()):
        length, _, chance = entry.partition(":")
        try:
            values.append(int(length))
            chances.append(float(chance))
        except ValueError as error:
            raise SpecError(at, entry.strip(), "length: probability") from error
        if not (values[-1] >= 0 and 0.0 <= chances[-1] < math.inf):
            raise SpecError(at, entry.strip(), "a length >= 0 and a probability >= 0")
    return np.array(values, np.int64), np.array(chances, np.float64)
