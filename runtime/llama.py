"""A Llama decoder in Hugging Face layout: RMS norms, rotary positions, grouped queries, SwiGLU.

It computes the new tokens of many sequences at once, whatever part of their prompts or answers
they are, over a key-value cache in pages.

Shapes: N tokens of all sequences, D width, V vocabulary, L layers.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from stoker.runtime.catalog import Model, ModelError, value_type
from stoker.runtime.llama_config import LlamaConfig, read_llama
from stoker.runtime.pages import Group, Iteration, attend

TYPES = ("F64", "F32", "F16", "BF16")


class Attention(nn.Module):
    """Grouped-query attention under the names of the Hugging Face layout."""

    def __init__(self, shape: LlamaConfig) -> None:
        super().__init__()
        self.head_width = shape.head_width
        inner, shared = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        bias = shape.attention_bias
        self.q_proj = nn.Linear(shape.width, inner, bias)
        self.k_proj = nn.Linear(shape.width, shared, bias)
        self.v_proj = nn.Linear(shape.width, shared, bias)
        self.o_proj = nn.Linear(inner, shape.width, bias)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], cache: Tensor, slots: Tensor,
        groups: list[Group],
    ) -> Tensor:  # fmt: skip
        """Write keys and values to the cache, then attend. Shape: (N, D) -> (N, D)."""
        count = len(x)
        query = rotate(self.q_proj(x).view(count, -1, self.head_width), turn)
        key = rotate(self.k_proj(x).view(count, -1, self.head_width), turn)
        cache[0].flatten(0, 1).index_copy_(0, slots, key)
        cache[1].flatten(0, 1).index_copy_(0, slots, self.v_proj(x).view(key.shape))
        return cast(Tensor, self.o_proj(attend(query, cache[0], cache[1], groups)))


class Feed(nn.Module):
    """The gated feed-forward."""

    def __init__(self, shape: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.inner, shape.mlp_bias)
        self.up_proj = nn.Linear(shape.width, shape.inner, shape.mlp_bias)
        self.down_proj = nn.Linear(shape.inner, shape.width, shape.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (N, D) -> (N, D)."""
        return cast(Tensor, self.down_proj(nnf.silu(self.gate_proj(x)) * self.up_proj(x)))


class Layer(nn.Module):
    """One decoder layer, pre-norm."""

    def __init__(self, shape: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Feed(shape)
        self.input_layernorm = nn.RMSNorm(shape.width, shape.epsilon)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, shape.epsilon)


class Llama(nn.Module):
    """The decoder; tied embeddings need no output matrix in the file."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        shape = self.shape = read_llama(model.config, model.folder)
        self.ignored = _ignored(model, shape)
        _check_types(model, self.ignored)
        inner = self.model = nn.Module()
        inner.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        inner.layers = nn.ModuleList([Layer(shape) for _ in range(shape.layers)])
        inner.norm = nn.RMSNorm(shape.width, shape.epsilon)
        if not shape.tied:
            self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self._frequencies: Tensor | None = None

    @property
    def embedding(self) -> Tensor:
        """The embedding matrix: of the device and the type of all that is computed."""
        return cast(Tensor, cast(nn.Module, self.model.embed_tokens).weight)

    def forward(self, iteration: Iteration, cache: Tensor) -> Tensor:
        """Return the next-token logits of each sequence's last new token.

        Args:
            iteration: the tokens.
            cache: shape (L, 2, blocks, block tokens, key heads, width a head).

        Returns:
            Shape: (sequences, V).
        """
        x = nnf.embedding(iteration.tokens, self.embedding)
        turn = self._turn(iteration.positions, x)
        for i, layer in enumerate(cast(nn.ModuleList, self.model.layers)):
            part = cast(Layer, layer)
            normed = part.input_layernorm(x)
            x = x + part.self_attn(normed, turn, cache[i], iteration.slots, iteration.groups)
            x = x + part.mlp(part.post_attention_layernorm(x))
        x = cast(nn.Module, self.model.norm)(x[iteration.last])
        return nnf.linear(x, self.embedding if self.shape.tied else self.lm_head.weight)

    def _turn(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each position's angles. Shape of each: (N, 1, width a head / 2)."""
        if self._frequencies is None:
            self._frequencies = torch.tensor(self.shape.frequencies, device=like.device)
        angles = positions[:, None].float() * self._frequencies
        return angles.cos().to(like.dtype)[:, None], angles.sin().to(like.dtype)[:, None]


def _ignored(model: Model, shape: LlamaConfig) -> tuple[str, ...]:
    """Tensors of the file that are not needed: older files repeat what follows from the config."""
    names = tuple(t.name for t in model.tensors if t.name.endswith("rotary_emb.inv_freq"))
    return (*names, "lm_head.") if shape.tied else names


def _check_types(model: Model, ignored: tuple[str, ...]) -> None:
    """All weights are of one type, which is that of the cache as well."""
    for tensor in model.tensors:
        if tensor.name.startswith(ignored or ("\0",)):
            continue
        if tensor.dtype not in TYPES or tensor.dtype != value_type(model):
            where = f"{model.weights_file}: tensor {tensor.name}.dtype"
            raise ModelError(where, tensor.dtype, f"{' | '.join(TYPES)}, one for all tensors")


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn pairs (i, i + half) by their position's angle. Shape: (N, heads, width a head)."""
    cos, sin = turn
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
