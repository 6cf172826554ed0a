"""Serves a graph that `import_onnx` has written, through onnxruntime on the CPU.

A payload is an object of input names and arrays, without the batch axis; a graph of one input takes
the array alone.  The answer is an object of output names and arrays.

Shapes: B batch.  Units: bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stoker.runtime.catalog import Model
from stoker.runtime.weights import WEIGHTS, ModelError

GRAPH = "graph.onnx"
EXTERNAL = b"\x0a\x08location"
"""Protobuf of the key that names the file of a tensor kept elsewhere."""
ERRORS = 3
"""Log level of onnxruntime: no warnings on standard error."""
TYPES = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
STORED = {
    "F64": "tensor(double)",
    "F32": "tensor(float)",
    "F16": "tensor(float16)",
    "I64": "tensor(int64)",
    "I32": "tensor(int32)",
    "I8": "tensor(int8)",
    "U8": "tensor(uint8)",
}


Declared = tuple[Any, tuple[int | None, ...]]
"""Type and shape of an input; None = an axis that is open."""


class OnnxBinder:
    """Points the weights of a graph at a flat block of bytes, and away from it again."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._session = _session(model)
        weights = {tensor.name: tensor for tensor in model.tensors}
        declared = {value.name: value for value in self._session.get_inputs()}
        for name, tensor in weights.items():
            found = declared.get(name)
            if found is None or found.type != STORED.get(tensor.dtype):
                value = "missing" if found is None else found.type
                raise ModelError(f"{model.folder / GRAPH}: input {name}", value, tensor.dtype)
            if tuple(found.shape) != tensor.shape:
                where = f"{model.folder / GRAPH}: input {name}.shape"
                raise ModelError(where, tuple(found.shape), f"{tensor.shape}")
        self._inputs = [value for name, value in declared.items() if name not in weights]
        for value in self._inputs:
            if value.type not in TYPES:
                where = f"{model.folder / GRAPH}: input {value.name}"
                raise ModelError(where, value.type, " | ".join(TYPES))
        self._outputs = self._session.get_outputs()
        values = [*self._inputs, *self._outputs]
        self._batches = all(v.shape and not isinstance(v.shape[0], int) for v in values)
        """Whether the first axis of all inputs and outputs is open, and so a batch."""
        self._bound: dict[str, Any] = {}
        self._views: list[NDArray[Any]] = []

    @property
    def inputs(self) -> dict[str, Declared]:
        """What a payload holds, by name, without the batch axis."""
        first = int(self._batches)
        return {
            v.name: (
                TYPES[v.type],
                tuple(n if isinstance(n, int) else None for n in v.shape[first:]),
            )
            for v in self._inputs
        }

    def bind(self, block: Tensor) -> None:
        """Make every weight a view of the block. Shape: (bytes,)."""
        from onnxruntime import OrtValue

        raw = block.numpy()
        self.release()
        for tensor in self.model.tensors:
            kind = TYPES[STORED[tensor.dtype]]
            view: NDArray[Any] = raw[tensor.start : tensor.stop].view(kind).reshape(tensor.shape)
            self._views.append(view)
            self._bound[tensor.name] = OrtValue.ortvalue_from_numpy(view)

    def release(self) -> None:
        """Let go of the block."""
        self._bound.clear()
        self._views.clear()

    def answer(self, payloads: list[Any]) -> list[Any]:
        """Serve one batch."""
        rows = [self._row(payload) for payload in payloads]
        if not self._batches:
            return [self._run(row) for row in rows]
        batch = {v.name: np.stack([row[v.name] for row in rows]) for v in self._inputs}
        found = self._run(batch)
        return [{name: values[i] for name, values in found.items()} for i in range(len(rows))]

    def _row(self, payload: Any) -> dict[str, NDArray[Any]]:
        names = [value.name for value in self._inputs]
        given = payload if isinstance(payload, dict) else {names[0]: payload}
        if sorted(given) != sorted(names):
            raise ValueError(f"inputs {sorted(given)} are not those of the model, {sorted(names)}")
        return {v.name: np.asarray(given[v.name], TYPES[v.type]) for v in self._inputs}

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        from onnxruntime import OrtValue

        given = {
            name: OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values))
            for name, values in inputs.items()
        }
        found = self._session.run_with_ort_values(None, {**self._bound, **given})
        return {v.name: o.numpy() for v, o in zip(self._outputs, found, strict=True)}


def _plain(path: Path) -> bytes:
    """Return the graph as protobuf itself writes it, once it is sure to keep to itself.

    Written anew, a reference to another file has one form only.
    """
    import onnx

    raw: bytes = onnx.load_model_from_string(path.read_bytes()).SerializeToString()
    if EXTERNAL in raw:
        raise ModelError(f"{path}: external_data", "another file", f"{WEIGHTS} alone")
    return raw


def _session(model: Model) -> Any:
    """Read the graph; it may name no other file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    path = model.folder / GRAPH
    try:
        raw = _plain(path)
        return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    except FileNotFoundError:
        raise ModelError(str(path), "missing", "the graph that `import_onnx` writes") from None
    except ModelError:
        raise
    except Exception as error:  # onnxruntime and protobuf raise kinds of their own
        line = " ".join(str(error).split())[:200]
        raise ModelError(str(path), line, "a graph that onnxruntime reads") from None
