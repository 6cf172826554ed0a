"""Architectures that the torch worker serves, each a plain module with `answer(payloads)`.

A module is built without memory (on the meta device) and its parameters are then bound to views
of one flat block of bytes, so a load is one copy.

Shapes: B batch, T positions, D width, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from stoker.runtime.catalog import CONFIG, DTYPE_BYTES, Model, ModelError

if TYPE_CHECKING:
    from stoker.runtime.llama import Llama
    from stoker.runtime.onnx_model import OnnxBinder

DTYPES = {
    "F64": torch.float64,
    "I64": torch.int64,
    "F32": torch.float32,
    "I32": torch.int32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "U8": torch.uint8,
}


class Servable(Protocol):
    """What the worker needs of a module."""

    ignored: tuple[str, ...]
    """Prefixes of tensors in the file that the module does not use."""

    def answer(self, payloads: list[Any]) -> list[Any]:
        """Serve one batch: plain payloads in, plain answers out, in the same order."""
        ...


class GptBlock(nn.Module):
    """Pre-norm attention and a four-fold feed-forward, with a key-value cache."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, cache: list[Tensor] | None = None) -> Tensor:
        """Attend and transform; the cache, if any, grows by T positions. Shape: (B, T, D)."""
        batch, time, width = x.shape
        split = self.qkv(self.norm1(x)).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        if cache is not None:
            if cache:
                key, value = torch.cat((cache[0], key), 2), torch.cat((cache[1], value), 2)
            cache[:] = [key, value]
        seen = nnf.scaled_dot_product_attention(query, key, value, is_causal=time > 1)
        x = x + self.mix(seen.transpose(1, 2).reshape(batch, time, width))
        return x + cast(Tensor, self.down(nnf.gelu(self.up(self.norm2(x)))))


class ByteGpt(nn.Module):
    """A decoder over bytes: continues a prompt greedily by a fixed number of bytes.

    Prompts are cut, or padded on the left with spaces, to `prompt_bytes`: every request costs the
    same and a batch needs no mask.
    """

    ignored: tuple[str, ...] = ()

    def __init__(self, model: Model) -> None:
        super().__init__()
        width, heads = model.config_int("width"), model.config_int("heads")
        if width % heads:
            where = f"{model.folder / CONFIG}: heads"
            raise ModelError(where, heads, f"a divisor of width ({width})")
        self.prompt_bytes = model.config_int("prompt_bytes")
        self.new_bytes = model.config_int("new_bytes")
        context = model.config_int("context", self.prompt_bytes + self.new_bytes)
        self.bytes_in = nn.Embedding(256, width)
        self.positions = nn.Embedding(context, width)
        layers = range(model.config_int("layers"))
        self.blocks = nn.ModuleList([GptBlock(width, heads) for _ in layers])
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, caches: list[list[Tensor]] | None = None) -> Tensor:
        """Return next-byte logits. Shape: (B, T) -> (B, T, 256)."""
        past = caches[0][0].shape[2] if caches and caches[0] else 0
        where = torch.arange(past, past + tokens.shape[1], device=tokens.device)
        x = self.bytes_in(tokens) + self.positions(where)
        for i, block in enumerate(self.blocks):
            x = block(x, caches[i] if caches is not None else None)
        return nnf.linear(self.norm(x), self.bytes_in.weight)

    def answer(self, payloads: list[Any]) -> list[Any]:
        """Continue each prompt (str) greedily."""
        rows = [_prompt(p, self.prompt_bytes) for p in payloads]
        tokens = torch.tensor(rows, device=self.norm.weight.device)
        caches: list[list[Tensor]] = [[] for _ in self.blocks]
        written = []
        for _ in range(self.new_bytes):
            tokens = self(tokens, caches)[:, -1:].argmax(-1)
            written.append(tokens)
        return [bytes(r).decode("latin-1") for r in torch.cat(written, 1).tolist()]


def _prompt(payload: Any, length: int) -> list[int]:
    raw = str(payload).encode("utf-8", "replace")[-length:]
    return list(raw.rjust(length, b" "))


class DigitCnn(nn.Module):
    """Two convolutions and one wide hidden layer over 28 x 28 grey images; ten classes."""

    ignored: tuple[str, ...] = ()
    side = 28

    def __init__(self, model: Model) -> None:
        super().__init__()
        channels, hidden = model.config_int("channels"), model.config_int("hidden")
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.wide = nn.Linear(channels * 49, hidden)
        self.classes = nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores. Shape: (B, 1, 28, 28) -> (B, 10)."""
        x = nnf.max_pool2d(nnf.relu(self.conv1(images)), 2)
        x = nnf.max_pool2d(nnf.relu(self.conv2(x)), 2)
        return cast(Tensor, self.classes(nnf.relu(self.wide(x.flatten(1)))))

    def answer(self, payloads: list[Any]) -> list[Any]:
        """Classify images (28 x 28, 0..1): the class and its probability."""
        shape = (self.side, self.side)
        images = np.stack([np.asarray(p, np.float32).reshape(shape) for p in payloads])
        batch = torch.from_numpy(images).unsqueeze(1).to(self.conv1.weight.device)
        chances = self(batch).softmax(-1)
        top, classes = chances.max(-1)
        return [
            {"class": c, "probability": p}
            for c, p in zip(classes.tolist(), top.tolist(), strict=True)
        ]


def build(model: Model) -> nn.Module:
    """Build a model's module without memory, and hold its file against it.

    Raises:
        ModelError: a tensor is missing, foreign or of another shape.
    """
    from stoker.runtime.bert import Bert
    from stoker.runtime.llama import Llama

    kinds = {"byte_gpt": ByteGpt, "digit_cnn": DigitCnn, "bert": Bert, "llama": Llama}
    with torch.device("meta"):
        module = kinds[model.architecture](model)
    module.eval().requires_grad_(False)
    wanted = {name: tuple(p.shape) for name, p in module.named_parameters()}
    found = {tensor.name: tensor.shape for tensor in model.tensors}
    where = model.weights_file
    for name, shape in wanted.items():
        if found.get(name) != shape:
            value = found.get(name, "missing")
            raise ModelError(f"{where}: tensor {name}.shape", value, f"{shape}, as {CONFIG} says")
    ignored = cast(Servable, module).ignored
    for name in found:
        if name not in wanted and not name.startswith(ignored or ("\0",)):
            raise ModelError(f"{where}: tensor {name}", "unexpected", "a tensor of the model")
    return module


class Binder:
    """Points a module's parameters at a flat block of bytes, and away from it again."""

    def __init__(self, model: Model) -> None:
        self.module = build(model)
        owners = dict(self.module.named_modules())
        used = {name for name, _ in self.module.named_parameters()}
        self._slots = [
            (owners[tensor.name.rpartition(".")[0]], tensor.name.rpartition(".")[2], tensor)
            for tensor in model.tensors
            if tensor.name in used
        ]

    def bind(self, block: Tensor) -> None:
        """Make every parameter a view of the block. Shape: (bytes,)."""
        for owner, name, tensor in self._slots:
            count = (tensor.stop - tensor.start) // DTYPE_BYTES[tensor.dtype]
            flat = block[tensor.start : tensor.stop].view(DTYPES[tensor.dtype])
            view = flat[:count].view(tensor.shape)
            owner._parameters[name] = nn.Parameter(view, requires_grad=False)

    def release(self) -> None:
        """Let go of the block."""
        for owner, name, _ in self._slots:
            owner._parameters[name] = None

    @property
    def decoder(self) -> Llama:
        """The module, of a model that generates."""
        from stoker.runtime.llama import Llama

        assert isinstance(self.module, Llama)
        return self.module

    def answer(self, payloads: list[Any]) -> list[Any]:
        """Serve one batch."""
        with torch.inference_mode():
            return cast(Servable, self.module).answer(payloads)


def binder_of(model: Model) -> Binder | OnnxBinder:
    """Return what binds a model to memory."""
    from stoker.runtime.onnx_model import OnnxBinder

    return OnnxBinder(model) if model.architecture == "onnx" else Binder(model)


def load_reference(model: Model) -> Binder | OnnxBinder:
    """Load a model into memory of its own: the never-swapped reference."""
    binder = binder_of(model)
    raw = bytearray(model.data_bytes)
    for shard in model.shards:
        data = shard.path.read_bytes()[shard.data_start :]
        raw[shard.base : shard.base + shard.data_bytes] = data
    binder.bind(torch.frombuffer(raw, dtype=torch.uint8))
    return binder
