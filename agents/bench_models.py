"""Models of random weights for measurements: their speed does not depend on what they know.

Units: bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from stoker.runtime.catalog import CONFIG, WEIGHTS, Model

WIDE_CNN = {"architecture": "digit_cnn", "channels": 32, "hidden": 12800}
"""80 MB of weights and little to compute."""
SMALL_CNN = {"architecture": "digit_cnn", "channels": 16, "hidden": 1600}
DECODER: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 2048,
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 688,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
"""5 million parameters in the proportions of larger ones."""


def write_random(folder: Path, config: dict[str, Any], seed: int = 0) -> Model:
    """Write a model folder of random float32 weights."""
    rng = np.random.default_rng(seed)
    shapes = _cnn(config) if "architecture" in config else _llama(config)
    tensors = {
        name: rng.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
        if len(shape) > 1
        else np.ones(shape, np.float32)
        for name, shape in shapes.items()
    }
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(config))
    save_file(tensors, folder / WEIGHTS)
    return Model.read(folder)


def _cnn(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
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


def _llama(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    shared = width * config["num_key_value_heads"] // config["num_attention_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}"
        shapes |= {
            f"{at}.input_layernorm.weight": (width,),
            f"{at}.post_attention_layernorm.weight": (width,),
            f"{at}.self_attn.q_proj.weight": (width, width),
            f"{at}.self_attn.k_proj.weight": (shared, width),
            f"{at}.self_attn.v_proj.weight": (shared, width),
            f"{at}.self_attn.o_proj.weight": (width, width),
            f"{at}.mlp.gate_proj.weight": (inner, width),
            f"{at}.mlp.up_proj.weight": (inner, width),
            f"{at}.mlp.down_proj.weight": (width, inner),
        }
    return shapes
