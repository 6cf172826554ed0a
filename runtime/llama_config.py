"""What `config.json` of a Llama model says, checked without torch.

Units: tokens, bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.runtime.weights import ModelError

ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True)
class LlamaConfig:
    """Shape and constants of a decoder."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    """Heads of keys and values; each serves heads / kv_heads query heads."""
    head_width: int
    inner: int
    context: int
    """Most tokens of a prompt and its continuation."""
    epsilon: float
    frequencies: tuple[float, ...]
    """Angle a position of each pair of dimensions. Length head_width / 2"""
    tied: bool
    """The output matrix is the embedding's."""
    attention_bias: bool
    mlp_bias: bool
    end_tokens: frozenset[int]
    """A sequence ends with one of these."""

    def cache_bytes(self, positions: int, value_bytes: int) -> int:
        """Bytes of keys and values of so many positions."""
        return 2 * self.layers * positions * self.kv_heads * self.head_width * value_bytes


def read_llama(config: Mapping[str, Any], folder: Path) -> LlamaConfig:
    """Check a config of the Hugging Face layout.

    Raises:
        ModelError: a field is missing, or asks for what is not served here.
    """
    fields = _Fields(config, folder / "config.json")
    width, heads = fields.whole("hidden_size"), fields.whole("num_attention_heads")
    kv_heads = fields.whole("num_key_value_heads", heads)
    if heads % kv_heads:
        fields.refuse("num_key_value_heads", f"a divisor of num_attention_heads ({heads})")
    if "head_dim" not in config and width % heads:
        fields.refuse("num_attention_heads", f"a divisor of hidden_size ({width})")
    head_width = fields.whole("head_dim", width // heads)
    if head_width % 2:
        fields.refuse("head_dim", "an even number")
    context = fields.whole("max_position_embeddings")
    if config.get("hidden_act", "silu") != "silu":
        fields.refuse("hidden_act", "silu")
    window = config.get("sliding_window")
    if window is not None and not (isinstance(window, int) and window >= context):
        fields.refuse("sliding_window", f"null, or at least the context ({context})")
    return LlamaConfig(
        vocabulary=fields.whole("vocab_size"),
        width=width,
        layers=fields.whole("num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        inner=fields.whole("intermediate_size"),
        context=context,
        epsilon=fields.real("rms_norm_eps", 1e-6),
        frequencies=_frequencies(fields, head_width),
        tied=fields.flag("tie_word_embeddings"),
        attention_bias=fields.flag("attention_bias"),
        mlp_bias=fields.flag("mlp_bias"),
        end_tokens=_end_tokens(config, folder),
    )


class _Fields:
    """Reads fields of one file and names them where they are wrong."""

    def __init__(self, config: Mapping[str, Any], path: Path) -> None:
        self.config, self.path = config, path

    def refuse(self, name: str, accepted: str) -> None:
        raise ModelError(f"{self.path}: {name}", self.config.get(name), accepted)

    def whole(self, name: str, default: int | None = None) -> int:
        value = self.config.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.refuse(name, "an integer >= 1")
        assert isinstance(value, int)
        return value

    def real(self, name: str, default: float) -> float:
        value = self.config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0.0:
            self.refuse(name, "a number > 0")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.config.get(name, False)
        if not isinstance(value, bool):
            self.refuse(name, "true | false")
        return bool(value)


def _frequencies(fields: _Fields, head_width: int) -> tuple[float, ...]:
    """Rotary frequencies, scaled as the config says (its older and its newer form)."""
    asked = fields.config.get("rope_parameters") or fields.config.get("rope_scaling") or {}
    if not isinstance(asked, dict):
        raise ModelError(f"{fields.path}: rope_scaling", asked, "an object or null")
    scaling = _Fields(asked, fields.path)
    theta = scaling.real("rope_theta", fields.real("rope_theta", 10_000.0))
    plain = [theta ** (-2.0 * i / head_width) for i in range(head_width // 2)]
    kind = asked.get("rope_type", asked.get("type", "default"))
    if kind == "default":
        return tuple(plain)
    if kind == "linear":
        factor = scaling.real("factor", 1.0)
        return tuple(f / factor for f in plain)
    if kind == "llama3":
        return tuple(_stretched(f, scaling) for f in plain)
    raise ModelError(f"{fields.path}: rope_scaling.rope_type", kind, " | ".join(ROPE_TYPES))


def _stretched(frequency: float, scaling: _Fields) -> float:
    """Llama 3.1: slow dimensions are slowed by `factor`, fast ones stay, between them a ramp."""
    factor = scaling.real("factor", 8.0)
    low, high = scaling.real("low_freq_factor", 1.0), scaling.real("high_freq_factor", 4.0)
    turns = scaling.real("original_max_position_embeddings", 8192.0) * frequency / (2.0 * math.pi)
    ramp = min(max((turns - low) / (high - low), 0.0), 1.0)
    return (1.0 - ramp) * frequency / factor + ramp * frequency


def _end_tokens(config: Mapping[str, Any], folder: Path) -> frozenset[int]:
    """Of `generation_config.json` if there is one, as Hugging Face has it, else of the config."""
    asked = config.get("eos_token_id")
    path = folder / "generation_config.json"
    try:
        asked = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id", asked)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(str(path), repr(error), "a JSON object") from None
    listed = asked if isinstance(asked, list) else [] if asked is None else [asked]
    if not all(isinstance(token, int) for token in listed):
        raise ModelError(f"{path.parent}: eos_token_id", asked, "an integer or a list of them")
    return frozenset(listed)
