"""Takes an ONNX file apart into a model folder: graph without weights, weights as safetensors.

Weights become inputs of the graph, so that the runtime can hand it memory of its own: an ONNX model
then moves through the tiers as any other, and a load is one copy.

Units: bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from stoker.runtime.catalog import CONFIG, Model
from stoker.runtime.onnx_model import GRAPH
from stoker.runtime.weights import WEIGHTS, ModelError

LEAST_BYTES = 1024
"""Smaller constants stay in the graph: shapes and axes must be known when it is read."""
MOVED = ("float64", "float32", "float16", "int64", "int32", "int8", "uint8")


def import_onnx(source: str | Path, folder: str | Path) -> Model:
    """Write a model folder whole, or not at all, and read it back checked.

    Raises:
        ModelError: not an ONNX file, or without weights to speak of.
    """
    import onnx

    path, target = Path(source), Path(folder)
    try:
        program = onnx.load(str(path))
        onnx.checker.check_model(program)
    except Exception as error:  # protobuf and the checker raise kinds of their own
        raise ModelError(str(path), " ".join(str(error).split())[:200], "an ONNX model") from None
    tensors = _take_weights(program.graph)
    if not tensors:
        raise ModelError(str(path), "no weights", f"an initializer of {LEAST_BYTES} bytes or more")
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    draft.mkdir(parents=True)
    try:
        (draft / CONFIG).write_text(json.dumps({"architecture": "onnx"}) + "\n", encoding="utf-8")
        (draft / GRAPH).write_bytes(program.SerializeToString())
        save_file(tensors, draft / WEIGHTS)
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Model.read(target)


def _take_weights(graph: Any) -> dict[str, NDArray[Any]]:
    """Make inputs of the large initializers and return their values."""
    from onnx import helper, numpy_helper

    declared = {value.name for value in graph.input}
    tensors, kept = {}, []
    for initializer in graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.nbytes < LEAST_BYTES or values.dtype.name not in MOVED:
            kept.append(initializer)
            continue
        tensors[initializer.name] = np.ascontiguousarray(values)
        if initializer.name not in declared:
            shape = list(values.shape)
            graph.input.append(
                helper.make_tensor_value_info(initializer.name, initializer.data_type, shape)
            )
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return tensors
