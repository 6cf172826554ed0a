"""Small Llama models of random weights, and an independent reference that keeps no cache."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import Tensor

from stoker.runtime.catalog import Model

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def llama_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    hd = config.get("head_dim", d // config["num_attention_heads"])
    q, kv = config["num_attention_heads"] * hd, config["num_key_value_heads"] * hd
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (v, d)}
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}"
        for name, rows, columns in (
            ("self_attn.q_proj", q, d), ("self_attn.k_proj", kv, d), ("self_attn.v_proj", kv, d),
            ("self_attn.o_proj", d, q), ("mlp.gate_proj", f, d), ("mlp.up_proj", f, d),
            ("mlp.down_proj", d, f),
        ):  # fmt: skip
            shapes[f"{at}.{name}.weight"] = (rows, columns)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{at}.{name}.weight"] = (d,)
    shapes["model.norm.weight"] = (d,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (v, d)
    return shapes


def write_llama(folder: Path, seed: int = 0, shards: int = 1, **changes: Any) -> Model:
    """Write a model of random weights in Hugging Face layout, in one file or several."""
    config = {**LLAMA, **changes}
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in llama_shapes(config).items():
        scale, centre = (0.2, 1.0) if name.endswith("norm.weight") else (shape[-1] ** -0.5, 0.0)
        tensors[name] = (centre + scale * rng.standard_normal(shape)).astype(np.float32)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return Model.read(folder)
    placed = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(tensors.items())[i::shards])
        save_file(part, folder / file)
        placed |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return Model.read(folder)


def _wavelengths(config: dict[str, Any], width: int) -> Tensor:
    """Angles a position, by the published formulas of Llama 3.1, in float64."""
    inverse = config["rope_theta"] ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    scaling = config.get("rope_scaling")
    if scaling is None:
        return inverse
    old = scaling["original_max_position_embeddings"]
    low, high, factor = (scaling[k] for k in ("low_freq_factor", "high_freq_factor", "factor"))
    wavelength = 2 * math.pi / inverse
    smooth = (old / wavelength - low) / (high - low)
    between = (1 - smooth) * inverse / factor + smooth * inverse
    slow = torch.where(wavelength > old / low, inverse / factor, between)
    return torch.where(wavelength < old / high, inverse, slow)


class Reference:
    """Full attention over the whole sequence, one sequence at a time, every head by itself."""

    def __init__(self, model: Model) -> None:
        self.config = model.config
        self.weights: dict[str, Tensor] = {}
        for path in sorted(model.folder.glob("*.safetensors")):
            self.weights |= load_file(path)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        scale = (x * x).mean(-1, keepdim=True) + self.config["rms_norm_eps"]
        return x / scale.sqrt() * self.weights[name]

    def _rotated(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        angles = torch.outer(
            torch.arange(len(x), dtype=torch.float64), _wavelengths(self.config, width)
        )
        plane = torch.polar(torch.ones_like(angles), angles)
        turned = torch.complex(x[:, : width // 2].double(), x[:, width // 2 :].double()) * plane
        return torch.cat((turned.real, turned.imag), -1).float()

    def logits(self, tokens: list[int]) -> Tensor:
        """Next-token logits at every position. Shape: (T, V)."""
        config, weights = self.config, self.weights
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        x = weights["model.embed_tokens.weight"][torch.tensor(tokens)]
        causal = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
        for i in range(config["num_hidden_layers"]):
            at = f"model.layers.{i}"
            y = self._norm(x, f"{at}.input_layernorm.weight")
            q, k, v = (y @ weights[f"{at}.self_attn.{n}_proj.weight"].T for n in "qkv")
            width = q.shape[-1] // heads
            seen = []
            for h in range(heads):
                g = h * kv_heads // heads
                query = self._rotated(q[:, h * width : (h + 1) * width])
                key = self._rotated(k[:, g * width : (g + 1) * width])
                score = (query @ key.T / math.sqrt(width)).masked_fill(~causal, -torch.inf)
                seen.append(score.softmax(-1) @ v[:, g * width : (g + 1) * width])
            x = x + torch.cat(seen, -1) @ weights[f"{at}.self_attn.o_proj.weight"].T
            y = self._norm(x, f"{at}.post_attention_layernorm.weight")
            gate, up = (y @ weights[f"{at}.mlp.{n}_proj.weight"].T for n in ("gate", "up"))
            x = x + (nnf.silu(gate) * up) @ weights[f"{at}.mlp.down_proj.weight"].T
        tied = config["tie_word_embeddings"]
        out = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]
        return self._norm(x, "model.norm.weight") @ out.T

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """Continue a prompt by its most likely tokens."""
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self.logits(tokens)[-1].argmax()))
        return tokens[len(prompt) :]
