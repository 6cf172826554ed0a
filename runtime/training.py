"""Trains a few small, real models in seconds, so that the runtime has something true to serve.

A byte-level decoder learns Python's own documentation, a convolutional net reads drawn digits.
The wide variants exist to be heavy to load: they get few steps, and their `config.json` says so.

Units: seconds, bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from stoker.runtime.catalog import CONFIG, WEIGHTS, Model
from stoker.runtime.digits import draw_digits
from stoker.runtime.models import ByteGpt, DigitCnn

RECIPE = 2
"""Raised when a change here makes models that were trained before worth training again."""

Progress = Callable[[str, float], None]
"""Called with a model's name and the fraction of its training that is done."""


@dataclass(frozen=True)
class Recipe:
    """One demo model: its shape and how long it is trained."""

    name: str
    config: dict[str, Any]
    steps: int
    batch: int
    learning_rate: float


_GPT = {"architecture": "byte_gpt", "context": 64, "prompt_bytes": 32, "new_bytes": 2}
DEMO_RECIPES = (
    Recipe("gpt-small", {**_GPT, "width": 96, "heads": 4, "layers": 4}, 90, 8, 4e-3),
    Recipe("gpt-wide", {**_GPT, "width": 256, "heads": 8, "layers": 6}, 12, 4, 1e-3),
    Recipe("digits", {"architecture": "digit_cnn", "channels": 16, "hidden": 1600}, 120, 48, 2e-3),
    Recipe(
        "digits-wide", {"architecture": "digit_cnn", "channels": 32, "hidden": 12800}, 10, 32, 1e-3
    ),
)
"""About 2, 20, 5 and 80 MB."""


def train_demo_models(
    folder: str | Path,
    seed: int = 0,
    progress: Progress | None = None,
    recipes: tuple[Recipe, ...] = DEMO_RECIPES,
) -> tuple[Model, ...]:
    """Train the demo models, or return those that an earlier call left in the folder.

    Returns:
        The models in the order of the recipes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return tuple(_one(Path(folder), recipe, seed, progress) for recipe in recipes)
    finally:
        torch.set_num_threads(threads)


def _one(folder: Path, recipe: Recipe, seed: int, progress: Progress | None) -> Model:
    target = folder / recipe.name
    stamp = {"recipe": RECIPE, "seed": seed, "steps": recipe.steps}
    if (target / CONFIG).exists():
        model = Model.read(target)
        if model.config.get("training", {}).get("stamp") == stamp:
            return model
    rng = np.random.default_rng([seed, len(recipe.name), recipe.steps])
    torch.manual_seed(int(rng.integers(2**31)))
    blank = Model(recipe.name, target, recipe.config["architecture"], recipe.config, (), ())
    module = ByteGpt(blank) if blank.architecture == "byte_gpt" else DigitCnn(blank)
    teacher = _text_loss if isinstance(module, ByteGpt) else _digit_loss
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.05)
    began = time.perf_counter()
    loss = _train(module, recipe, teacher, rng, progress)
    told: dict[str, Any] = {
        "stamp": stamp,
        "loss": round(loss, 4),
        "seconds": round(time.perf_counter() - began, 2),
        "note": "trained for seconds: a real model to load and run, not a good one",
    }
    if isinstance(module, DigitCnn):
        told["accuracy"] = _accuracy(module, rng)
    return save_model(module, {**recipe.config, "training": told}, target)


def _train(
    module: nn.Module,
    recipe: Recipe,
    teacher: Callable[[Any, int, np.random.Generator], Tensor],
    rng: np.random.Generator,
    progress: Progress | None,
) -> float:
    optimizer = torch.optim.Adam(module.parameters(), lr=recipe.learning_rate)
    loss = float("nan")
    for step in range(recipe.steps):
        optimizer.zero_grad(set_to_none=True)
        value = teacher(module, recipe.batch, rng)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        loss = float(value.detach())
        if progress is not None:
            progress(recipe.name, (step + 1) / recipe.steps)
    return loss


def corpus() -> NDArray[np.uint8]:
    """Return the text to learn: the documentation that ships with Python."""
    from pydoc_data import topics

    text = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    return np.frombuffer(text.encode("utf-8"), np.uint8)


_corpus: list[NDArray[np.uint8]] = []


def _text_loss(module: ByteGpt, batch: int, rng: np.random.Generator) -> Tensor:
    if not _corpus:
        _corpus.append(corpus())
    text, context = _corpus[0], module.positions.num_embeddings
    starts = rng.integers(0, len(text) - context - 1, batch)
    rows = torch.from_numpy(np.stack([text[s : s + context + 1] for s in starts])).long()
    return nnf.cross_entropy(module(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


def _digit_loss(module: DigitCnn, batch: int, rng: np.random.Generator) -> Tensor:
    images, labels = draw_digits(batch, rng)
    return nnf.cross_entropy(
        module(torch.from_numpy(images).unsqueeze(1)), torch.from_numpy(labels)
    )


def _accuracy(module: DigitCnn, rng: np.random.Generator) -> float:
    images, labels = draw_digits(200, rng)
    with torch.inference_mode():
        guesses = module(torch.from_numpy(images).unsqueeze(1)).argmax(-1).numpy()
    return round(float((guesses == labels).mean()), 3)


def save_model(module: nn.Module, config: dict[str, Any], folder: Path) -> Model:
    """Write a model folder whole, or not at all, and read it back checked."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.draft")
    draft.mkdir()
    try:
        (draft / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(dict(module.state_dict()), draft / WEIGHTS)
        # On disk for good: pages that are still dirty cannot be dropped from the page cache.
        with (draft / WEIGHTS).open("rb") as file:
            os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Model.read(folder)
