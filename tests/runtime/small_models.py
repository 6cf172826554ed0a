"""Small untrained models, written to disk on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from stoker.runtime.catalog import Model

GPT = {
    "architecture": "byte_gpt",
    "width": 32,
    "heads": 2,
    "layers": 2,
    "context": 32,
    "prompt_bytes": 16,
    "new_bytes": 4,
}
CNN = {"architecture": "digit_cnn", "channels": 8, "hidden": 256}

MakeModel = Callable[..., Model]


def gpt_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    w = config["width"]
    shapes = {
        "bytes_in.weight": (256, w),
        "positions.weight": (config["context"], w),
        "norm.weight": (w,),
        "norm.bias": (w,),
    }
    for i in range(config["layers"]):
        at = f"blocks.{i}"
        for name, rows, columns in (
            ("qkv", 3 * w, w),
            ("mix", w, w),
            ("up", 4 * w, w),
            ("down", w, 4 * w),
        ):
            shapes[f"{at}.{name}.weight"] = (rows, columns)
            shapes[f"{at}.{name}.bias"] = (rows,)
        for name in ("norm1", "norm2"):
            shapes[f"{at}.{name}.weight"] = (w,)
            shapes[f"{at}.{name}.bias"] = (w,)
    return shapes


def cnn_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    c, h = config["channels"], config["hidden"]
    return {
        "conv1.weight": (c, 1, 3, 3),
        "conv1.bias": (c,),
        "conv2.weight": (c, c, 3, 3),
        "conv2.bias": (c,),
        "wide.weight": (h, c * 49),
        "wide.bias": (h,),
        "classes.weight": (10, h),
        "classes.bias": (10,),
    }


def write_model(folder: Path, config: dict[str, Any], seed: int) -> Model:
    """Write a model of random weights; two seeds give two models that answer differently."""
    rng = np.random.default_rng(seed)
    shapes = gpt_shapes(config) if config["architecture"] == "byte_gpt" else cnn_shapes(config)
    tensors = {
        name: (rng.standard_normal(shape) * 0.3).astype(np.float32)
        for name, shape in shapes.items()
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return Model.read(folder)


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((28, 28), dtype=np.float32)
