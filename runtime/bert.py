"""A BERT encoder in Hugging Face layout, as sentence-transformers use it: text to unit vector.

Shapes: B batch, T tokens, D width.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from stoker.runtime.catalog import CONFIG, Model, ModelError

MAX_TOKENS = 128
"""Longer texts are cut, as sentence-transformers does for its small models."""


class WordPiece:
    """Greedy longest-match word pieces over the vocabulary of `tokenizer.json` or `vocab.txt`."""

    def __init__(self, model: Model) -> None:
        self.vocabulary = _vocabulary(model)
        for token in ("[CLS]", "[SEP]", "[UNK]", "[PAD]"):
            if token not in self.vocabulary:
                where = f"{model.folder}: vocabulary"
                raise ModelError(where, f"no {token}", "a BERT vocabulary with its special tokens")

    def encode(self, text: str, most: int = MAX_TOKENS) -> list[int]:
        """Return token ids between [CLS] and [SEP], at most `most` in all."""
        pieces = [piece for word in _words(text) for piece in self._pieces(word)][: most - 2]
        known = self.vocabulary
        return [known["[CLS]"], *pieces, known["[SEP]"]]

    def _pieces(self, word: str) -> list[int]:
        pieces: list[int] = []
        start = 0
        while start < len(word):
            mark = "##" if start else ""
            for stop in range(len(word), start, -1):
                found = self.vocabulary.get(mark + word[start:stop])
                if found is not None:
                    break
            else:
                return [self.vocabulary["[UNK]"]]
            pieces.append(found)
            start = stop
        return pieces


def _vocabulary(model: Model) -> dict[str, int]:
    path = model.folder / "tokenizer.json"
    try:
        if path.exists():
            table = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
            return {str(token): int(number) for token, number in table.items()}
        path = model.folder / "vocab.txt"
        lines = path.read_text(encoding="utf-8").splitlines()
        return {token: number for number, token in enumerate(lines)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(str(path), repr(error), "a WordPiece vocabulary") from None


def _words(text: str) -> list[str]:
    """Lower-case, strip accents, and split at spaces and around punctuation."""
    spaced = []
    for char in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(char)
        if kind == "Mn":
            continue
        apart = kind.startswith(("P", "S"))
        spaced.append(f" {char} " if apart else char)
    return "".join(spaced).split()


class Attention(nn.Module):
    """Multi-head self-attention under the names of the Hugging Face layout."""

    def __init__(self, width: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        inner = nn.Module()
        for name in ("query", "key", "value"):
            inner.add_module(name, nn.Linear(width, width))
        self.add_module("self", inner)
        self.output = _residual(width, width, epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend where the mask is true. Shapes: (B, T, D), (B, 1, 1, T)."""
        inner = dict(self.named_children())["self"]
        batch, time, width = x.shape

        def split(name: str) -> Tensor:
            projected = dict(inner.named_children())[name](x)
            return cast(Tensor, projected.view(batch, time, self.heads, -1).transpose(1, 2))

        seen = nnf.scaled_dot_product_attention(
            split("query"), split("key"), split("value"), attn_mask=mask
        )
        return _add_norm(self.output, seen.transpose(1, 2).reshape(batch, time, width), x)


class Layer(nn.Module):
    """One encoder layer, post-norm."""

    def __init__(self, width: int, heads: int, inner: int, epsilon: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, epsilon)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = _residual(inner, width, epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Shape: (B, T, D) -> (B, T, D)."""
        x = self.attention(x, mask)
        return _add_norm(self.output, nnf.gelu(self.intermediate["dense"](x)), x)


def _residual(inner: int, width: int, epsilon: float) -> nn.ModuleDict:
    norm = nn.LayerNorm(width, eps=epsilon)
    return nn.ModuleDict({"dense": nn.Linear(inner, width), "LayerNorm": norm})


def _add_norm(part: nn.ModuleDict, x: Tensor, skip: Tensor) -> Tensor:
    return cast(Tensor, part["LayerNorm"](part["dense"](x) + skip))


class Bert(nn.Module):
    """The encoder, mean pooling over tokens and a unit-length result."""

    ignored: tuple[str, ...] = ("embeddings.position_ids", "pooler.")

    def __init__(self, model: Model) -> None:
        super().__init__()
        width, heads = model.config_int("hidden_size"), model.config_int("num_attention_heads")
        if width % heads:
            where = f"{model.folder / CONFIG}: num_attention_heads"
            raise ModelError(where, heads, f"a divisor of hidden_size ({width})")
        epsilon = float(model.config.get("layer_norm_eps", 1e-12))
        self.most = min(model.config_int("max_position_embeddings"), MAX_TOKENS)
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(model.config_int("vocab_size"), width),
                "position_embeddings": nn.Embedding(
                    model.config_int("max_position_embeddings"), width
                ),
                "token_type_embeddings": nn.Embedding(model.config_int("type_vocab_size"), width),
                "LayerNorm": nn.LayerNorm(width, eps=epsilon),
            }
        )
        inner = model.config_int("intermediate_size")
        layers = range(model.config_int("num_hidden_layers"))
        stack = nn.ModuleList([Layer(width, heads, inner, epsilon) for _ in layers])
        self.encoder = nn.ModuleDict({"layer": stack})
        self.words = WordPiece(model)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return one unit vector a text. Shapes: (B, T), (B, T) -> (B, D)."""
        part = self.embeddings
        where = torch.arange(tokens.shape[1], device=tokens.device)
        x = part["word_embeddings"](tokens) + part["position_embeddings"](where)
        x = part["LayerNorm"](x + part["token_type_embeddings"](torch.zeros_like(tokens)))
        for layer in cast(nn.ModuleList, self.encoder["layer"]):
            x = layer(x, mask[:, None, None, :])
        kept = mask.unsqueeze(-1).to(x.dtype)
        return nnf.normalize((x * kept).sum(1) / kept.sum(1), dim=-1)

    def answer(self, payloads: list[Any]) -> list[Any]:
        """Embed each text (str)."""
        rows = [self.words.encode(str(p), self.most) for p in payloads]
        longest = max(len(row) for row in rows)
        pad = self.words.vocabulary["[PAD]"]
        padded = [row + [pad] * (longest - len(row)) for row in rows]
        device = next(self.parameters()).device
        tokens = torch.tensor(padded, device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(longest, device=device) < lengths.unsqueeze(1)
        return list(self(tokens, mask).cpu().numpy())
