"""Models on disk: a folder with `config.json` and `model.safetensors`, checked without torch.

A *model* is one such folder; a *deployment* serves a model under a function's name, so that few
folders make many functions.  Nothing here, and nothing in the runtime, ever loads a pickle.

Units: bytes, seconds.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from stoker.envs.cluster.errors import SpecError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
DTYPE_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}
ARCHITECTURES = ("byte_gpt", "digit_cnn", "bert")
HF_ARCHITECTURES = {"BertModel": "bert"}
_MAX_HEADER_BYTES = 100_000_000


class ModelError(SpecError):
    """A model folder cannot be served; names the file, the field and what is accepted."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Offset of its first byte in the file's data section."""
    stop: int


@dataclass(frozen=True)
class Model:
    """A checked model folder: what must be moved to serve it."""

    name: str
    folder: Path
    architecture: str
    config: dict[str, Any] = field(hash=False)
    tensors: tuple[Tensor, ...] = field(repr=False)
    data_start: int
    """Offset of the data section in the file."""
    data_bytes: int
    """Bytes moved on a load: the whole data section, as one flat block."""

    @property
    def weights_file(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS

    @classmethod
    def read(cls, folder: str | Path, name: str | None = None) -> Model:
        """Read and check a folder; only the file's header is read, not its weights.

        Raises:
            ModelError: a file is missing, cut short or inconsistent.
        """
        path = Path(folder)
        config = read_config(path / CONFIG)
        tensors, data_start, data_bytes = read_header(path / WEIGHTS)
        return cls(
            name=name or path.name,
            folder=path.resolve(),
            architecture=_architecture(path / CONFIG, config),
            config=config,
            tensors=tensors,
            data_start=data_start,
            data_bytes=data_bytes,
        )

    def config_int(self, key: str, at_least: int = 1) -> int:
        """Return a whole number of the config, or say which field of which file is wrong."""
        value = self.config.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            where = f"{self.folder / CONFIG}: {key}"
            raise ModelError(where, value, f"an integer >= {at_least}")
        return value


@dataclass(frozen=True)
class Deployment:
    """A function: a name under which a model is served."""

    function: str
    model: Model


def read_config(path: Path) -> dict[str, Any]:
    """Read a config file as a JSON object."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(str(path), "missing", "a JSON object") from None
    except (OSError, ValueError) as error:
        raise ModelError(str(path), str(error), "a JSON object") from None
    if not isinstance(config, dict):
        raise ModelError(str(path), type(config).__name__, "a JSON object")
    return config


def _architecture(path: Path, config: dict[str, Any]) -> str:
    asked: object = config.get("architecture")
    if asked is None:
        listed = config.get("architectures")
        asked = listed[0] if isinstance(listed, list) and listed else None
        asked = HF_ARCHITECTURES.get(str(asked), asked)
    if asked not in ARCHITECTURES:
        raise ModelError(f"{path}: architecture", asked, " | ".join(ARCHITECTURES))
    return str(asked)


def read_header(path: Path) -> tuple[tuple[Tensor, ...], int, int]:
    """Read and check a safetensors header.

    Returns:
        The tensors, the offset of the data section and its length.
    """
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
    return tensors, 8 + length, room


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


def read_models(folder: str | Path) -> tuple[Model, ...]:
    """Read every model below a folder, in order of name.

    Raises:
        ModelError: there is none, or one of them cannot be served.
    """
    found = sorted(path.parent for path in Path(folder).glob(f"*/{CONFIG}"))
    if not found:
        raise ModelError("models", str(folder), f"a folder of folders with {CONFIG}")
    return tuple(Model.read(path) for path in found)


def deploy(models: list[Model] | tuple[Model, ...], count: int) -> tuple[Deployment, ...]:
    """Serve few models under `count` function names, in turn: name-0, name-1, ...

    Raises:
        ModelError: no model, or fewer functions than one.
    """
    if not models:
        raise ModelError("models", 0, "at least one model")
    if count < 1:
        raise ModelError("functions", count, "at least one function")
    used: dict[str, int] = {}
    deployments = []
    for model in islice(cycle(models), count):
        copy = used.get(model.name, 0)
        used[model.name] = copy + 1
        deployments.append(Deployment(f"{model.name}-{copy}", model))
    return tuple(deployments)
