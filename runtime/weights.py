"""Weight files: one safetensors file or several with an index, read as one flat block of bytes.

Only headers are read here; nothing is ever unpickled.

Units: bytes.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stoker.envs.cluster.errors import SpecError
from stoker.runtime.arena import aligned

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPE_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}
_MAX_HEADER_BYTES = 100_000_000


class ModelError(SpecError):
    """A model folder cannot be served; names the file, the field and what is accepted."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Offset of its first byte in the flat block."""
    stop: int


@dataclass(frozen=True)
class Shard:
    """One weight file, and where its data section goes in the flat block."""

    path: Path
    data_start: int
    """Offset of the data section in the file."""
    data_bytes: int
    base: int = 0
    """Offset of the data section in the flat block."""


def read_weights(folder: Path) -> tuple[tuple[Tensor, ...], tuple[Shard, ...]]:
    """Read and check the headers of a folder's weights.

    Raises:
        ModelError: a file is missing, cut short or inconsistent.
    """
    index = folder / INDEX
    if (folder / WEIGHTS).exists() or not index.exists():
        tensors, shard = read_header(folder / WEIGHTS)
        return tensors, (shard,)
    placed = _read_index(index)
    every: list[Tensor] = []
    shards: list[Shard] = []
    base = 0
    for name in sorted(set(placed.values())):
        tensors, shard = read_header(folder / name)
        found = {tensor.name for tensor in tensors}
        for tensor_name in (t for t, file in placed.items() if file == name and t not in found):
            raise ModelError(f"{shard.path}: tensor {tensor_name}", "missing", f"as in {INDEX}")
        twice = found & {tensor.name for tensor in every}
        if twice:
            raise ModelError(f"{shard.path}: tensor {min(twice)}", "a second time", "once")
        every += [replace(t, start=t.start + base, stop=t.stop + base) for t in tensors]
        shards.append(replace(shard, base=base))
        base += aligned(shard.data_bytes)
    return tuple(every), tuple(shards)


def _read_index(path: Path) -> dict[str, str]:
    """Return the file of each tensor."""
    try:
        placed = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(str(path), repr(error), "a JSON object with weight_map") from None
    if not isinstance(placed, dict) or not placed:
        raise ModelError(f"{path}: weight_map", placed, "tensor names and files")
    for name, file in placed.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise ModelError(f"{path}: weight_map.{name}", file, "a file of this folder")
    return placed


def read_header(path: Path) -> tuple[tuple[Tensor, ...], Shard]:
    """Read and check a safetensors header."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
            if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
                accepted = f"a length of 2..{max(size - 8, 0)} for a file of {size} bytes"
                raise ModelError(f"{path}: header", length, accepted)
            raw = file.read(length)
    except FileNotFoundError:
        raise ModelError(str(path), "missing", "a safetensors file") from None
    except OSError as error:
        raise ModelError(str(path), str(error), "a readable safetensors file") from None
    try:
        entries = json.loads(raw)
    except ValueError as error:
        raise ModelError(f"{path}: header", str(error), "a JSON object") from None
    if not isinstance(entries, dict):
        raise ModelError(f"{path}: header", type(entries).__name__, "a JSON object")
    room = size - 8 - length
    found = [_tensor(path, key, entry) for key, entry in entries.items() if key != "__metadata__"]
    tensors = tuple(sorted(found, key=lambda tensor: tensor.start))
    _check_cover(path, tensors, room)
    return tensors, Shard(path.resolve(), 8 + length, room)


def _tensor(path: Path, name: str, entry: Any) -> Tensor:
    at = f"{path}: tensor {name}"
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        tensor = Tensor(name, str(dtype), tuple(int(n) for n in shape), int(start), int(stop))
    except (KeyError, TypeError, ValueError):
        raise ModelError(at, entry, "dtype, shape and data_offsets") from None
    if tensor.dtype not in DTYPE_BYTES:
        raise ModelError(f"{at}.dtype", tensor.dtype, " | ".join(DTYPE_BYTES))
    expected = math.prod(tensor.shape) * DTYPE_BYTES[tensor.dtype]
    if min(tensor.shape, default=0) < 0 or tensor.stop - tensor.start != expected:
        raise ModelError(f"{at}.data_offsets", (start, stop), f"{expected} bytes")
    if tensor.start % DTYPE_BYTES[tensor.dtype]:
        raise ModelError(f"{at}.data_offsets", (start, stop), "an offset aligned to its dtype")
    return tensor


def _check_cover(path: Path, tensors: tuple[Tensor, ...], room: int) -> None:
    end = 0
    for tensor in tensors:
        if tensor.start != end:
            at = f"{path}: tensor {tensor.name}.data_offsets"
            raise ModelError(at, tensor.start, f"a start at {end}: no gap, no overlap")
        end = tensor.stop
    if end != room:
        kind = "cut short" if end > room else "followed by foreign bytes"
        raise ModelError(f"{path}: data", f"{room} bytes ({kind})", f"{end} bytes")
