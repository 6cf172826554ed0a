"""Models on disk: a folder with `config.json` and safetensors files, checked without torch.

A *model* is one such folder; a *deployment* serves a model under a function's name, so that few
folders make many functions.  Nothing here, and nothing in the runtime, ever loads a pickle.

Units: bytes, seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from stoker.runtime.arena import aligned
from stoker.runtime.llama_config import read_llama
from stoker.runtime.weights import DTYPE_BYTES, WEIGHTS, ModelError, Shard, Tensor, read_weights

__all__ = [
    "ARCHITECTURES",
    "CONFIG",
    "DTYPE_BYTES",
    "WEIGHTS",
    "Deployment",
    "Generation",
    "Model",
    "ModelError",
    "Tensor",
    "check_budget",
    "deploy",
    "read_config",
    "read_models",
    "value_type",
]
CONFIG = "config.json"
ARCHITECTURES = ("byte_gpt", "digit_cnn", "bert", "llama", "onnx")
HF_ARCHITECTURES = {
    "BertModel": "bert",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
}


@dataclass(frozen=True)
class Model:
    """A checked model folder: what must be moved to serve it."""

    name: str
    folder: Path
    architecture: str
    config: dict[str, Any] = field(hash=False)
    tensors: tuple[Tensor, ...] = field(repr=False)
    shards: tuple[Shard, ...] = field(repr=False)

    @property
    def data_bytes(self) -> int:
        """Bytes moved on a load: the data sections of all files, as one flat block."""
        last = self.shards[-1]
        return last.base + last.data_bytes

    @property
    def weights_file(self) -> Path:
        """The safetensors file, or the first of them."""
        return self.shards[0].path

    @classmethod
    def read(cls, folder: str | Path, name: str | None = None) -> Model:
        """Read and check a folder; only the file's header is read, not its weights.

        Raises:
            ModelError: a file is missing, cut short or inconsistent.
        """
        path = Path(folder)
        config = read_config(path / CONFIG)
        tensors, shards = read_weights(path)
        return cls(
            name=name or path.name,
            folder=path.resolve(),
            architecture=_architecture(path / CONFIG, config),
            config=config,
            tensors=tensors,
            shards=shards,
        )

    def config_int(self, key: str, at_least: int = 1) -> int:
        """Return a whole number of the config, or say which field of which file is wrong."""
        value = self.config.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            where = f"{self.folder / CONFIG}: {key}"
            raise ModelError(where, value, f"an integer >= {at_least}")
        return value


@dataclass(frozen=True)
class Generation:
    """How an instance of a decoder generates."""

    blocks: int = 256
    """Pages of its key-value cache: the memory that it holds beside its weights."""
    block_tokens: int = 16
    """Positions a page."""
    max_batch: int = 32
    """Most sequences in one iteration."""
    token_budget: int = 512
    """Most tokens of an iteration, prompts being cut into chunks; 0 = whole prompts."""

    def __post_init__(self) -> None:
        for name, least in (("blocks", 1), ("block_tokens", 1), ("max_batch", 1)):
            if getattr(self, name) < least:
                raise ModelError(f"generation.{name}", getattr(self, name), f">= {least}")
        check_budget(self.token_budget)


def check_budget(token_budget: int) -> None:
    """Refuse a budget that is no number of tokens."""
    if isinstance(token_budget, bool) or not isinstance(token_budget, int) or token_budget < 0:
        raise ModelError("generation.token_budget", token_budget, "an integer >= 0")


@dataclass(frozen=True)
class Deployment:
    """A function: a name under which a model is served."""

    function: str
    model: Model
    generation: Generation = Generation()
    """Of a decoder; other models have no use for it."""

    @property
    def decoder(self) -> bool:
        """Whether it generates tokens by iterations that requests join and leave."""
        return self.model.architecture == "llama"

    @property
    def device_bytes(self) -> int:
        """What an instance holds on the device: its weights, and a decoder's cache."""
        if not self.decoder:
            return self.model.data_bytes
        how, model = self.generation, self.model
        shape = read_llama(model.config, model.folder)
        value_bytes = DTYPE_BYTES[value_type(model)]
        cache = shape.cache_bytes(how.blocks * how.block_tokens, value_bytes)
        return aligned(model.data_bytes) + cache


def value_type(model: Model) -> str:
    """Type that a decoder computes in: that of its embedding."""
    for tensor in model.tensors:
        if tensor.name == "model.embed_tokens.weight":
            return tensor.dtype
    where = f"{model.weights_file}: tensor model.embed_tokens.weight"
    raise ModelError(where, "missing", "an embedding")


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


def read_models(folder: str | Path) -> tuple[Model, ...]:
    """Read every model below a folder, in order of name.

    Raises:
        ModelError: there is none, or one of them cannot be served.
    """
    found = sorted(path.parent for path in Path(folder).glob(f"*/{CONFIG}"))
    if not found:
        raise ModelError("models", str(folder), f"a folder of folders with {CONFIG}")
    return tuple(Model.read(path) for path in found)


def deploy(
    models: list[Model] | tuple[Model, ...], count: int, generation: Generation | None = None
) -> tuple[Deployment, ...]:
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
        how = generation or Generation()
        deployments.append(Deployment(f"{model.name}-{copy}", model, how))
    return tuple(deployments)
