"""ONNX models: taken apart, moved through the tiers, answered as numpy says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from running import MIB
from safetensors.numpy import load_file, save_file
from small_llamas import write_llama
from small_models import GPT, MakeModel
from test_runtime_replay import made_for, play

from stoker.baselines.ttl import FixedTtl
from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.calibrate import calibrate
from stoker.runtime.catalog import Model, ModelError, deploy
from stoker.runtime.device import Device
from stoker.runtime.messages import WorkerSpec
from stoker.runtime.onnx_import import import_onnx
from stoker.runtime.onnx_model import OnnxBinder
from stoker.runtime.payloads import sample_payload
from stoker.runtime.process import OrderFailed
from stoker.runtime.soak import SoakSettings, same, soak


def write_perceptron(path: Path, seed: int, batch: int | str = "n") -> dict[str, Any]:
    """y = relu(x W + b) V, with a reshape whose shape is a small constant."""
    rng = np.random.default_rng(seed)
    w, b, v = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((24, 64), (64,), (64, 6))
    )
    shape = np.array([-1, 2, 3], np.int64)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2, 3])],
        [
            numpy_helper.from_array(a, n)
            for n, a in (("w", w), ("b", b), ("v", v), ("shape", shape))
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return {"w": w, "b": b, "v": v}


def expected(weights: dict[str, Any], x: Any) -> Any:
    return (np.maximum(x @ weights["w"] + weights["b"], 0) @ weights["v"]).reshape(2, 3)


def made(tmp_path: Path, name: str, seed: int, batch: int | str = "n") -> tuple[Model, Any]:
    weights = write_perceptron(tmp_path / f"{name}.onnx", seed, batch)
    return import_onnx(tmp_path / f"{name}.onnx", tmp_path / name), weights


def inputs(seed: int, count: int) -> list[Any]:
    return list(np.random.default_rng(seed).standard_normal((count, 24)).astype(np.float32))


def test_large_weights_leave_the_graph_and_small_constants_stay(tmp_path: Path) -> None:
    model, weights = made(tmp_path, "m", 0)
    assert model.architecture == "onnx"
    assert {t.name for t in model.tensors} == {"w", "v"}
    assert model.data_bytes == weights["w"].nbytes + weights["v"].nbytes
    assert (model.folder / "graph.onnx").stat().st_size < 2000


def test_answers_after_swaps_are_those_of_numpy(tmp_path: Path, make_model: MakeModel) -> None:
    (one, first), (two, second) = made(tmp_path, "one", 1), made(tmp_path, "two", 2)
    models = [one, two, make_model("g", GPT, 3)]
    xs = inputs(0, 5)
    rng = np.random.default_rng(0)

    async def swap() -> None:
        room = aligned(one.data_bytes) + aligned(models[2].data_bytes) + 128
        real = TorchBackend(deploy(models, 3), [room], 8 * MIB)
        await real.start()
        try:
            for number in range(40):
                fn = int(rng.integers(3))
                await real.load(0, number, fn, "host" if rng.random() < 0.7 else "disk")
                if fn < 2:
                    answers = (await real.run(0, number, xs)).value
                    want = [expected((first, second)[fn], x) for x in xs]
                    np.testing.assert_allclose([a["y"] for a in answers], want, atol=1e-4)
                await real.drop(0, number, bool(rng.random() < 0.7))
            assert real.ledger.device == (0,)
        finally:
            await real.close()

    asyncio.run(swap())


def test_weights_are_views_of_the_arena_and_not_copies(tmp_path: Path) -> None:
    model, weights = made(tmp_path, "m", 0)
    device = Device(WorkerSpec(0, "cpu", aligned(model.data_bytes), deploy([model], 1)))
    device.load(1, 0, "disk", -1)
    (x,) = inputs(1, 1)
    np.testing.assert_allclose(device.run(1, (x,))[0]["y"], expected(weights, x), atol=1e-4)
    device.slab.zero_()
    assert (device.run(1, (x,))[0]["y"] == 0.0).all()


def test_a_graph_of_a_fixed_batch_takes_requests_one_by_one(tmp_path: Path) -> None:
    model, weights = made(tmp_path, "m", 0, batch=1)
    device = Device(WorkerSpec(0, "cpu", aligned(model.data_bytes), deploy([model], 1)))
    device.load(1, 0, "disk", -1)
    xs = inputs(2, 3)
    answers = device.run(1, tuple({"x": x[None]} for x in xs))
    want = [expected(weights, x)[None] for x in xs]
    np.testing.assert_allclose([a["y"] for a in answers], want, atol=1e-4)


def test_a_wrong_input_is_named(tmp_path: Path) -> None:
    model, _ = made(tmp_path, "m", 0)

    async def run() -> None:
        real = TorchBackend(deploy([model], 1), [MIB])
        await real.start()
        try:
            await real.load(0, 1, 0, "disk")
            with pytest.raises(OrderFailed, match=r"inputs \['z'\] are not .* \['x'\]"):
                await real.run(0, 1, [{"z": inputs(0, 1)[0]}])
            with pytest.raises(OrderFailed):
                await real.run(0, 1, [np.zeros(7, np.float32)])
            assert len((await real.run(0, 1, inputs(0, 2))).value) == 2
        finally:
            await real.close()

    asyncio.run(run())


def test_what_is_no_onnx_model_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"bad\.onnx.*an ONNX model"):
        import_onnx(bad, tmp_path / "bad")
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        import_onnx(tmp_path / "absent.onnx", tmp_path / "absent")
    assert not (tmp_path / "bad").exists()


def test_a_graph_that_does_not_fit_its_weights_is_named(tmp_path: Path) -> None:
    model, _ = made(tmp_path, "m", 0)
    graph = model.folder / "graph.onnx"
    weights = load_file(model.weights_file)
    save_file({**weights, "v": np.zeros((64, 7), np.float32)}, model.weights_file)
    with pytest.raises(ModelError, match=r"input v\.shape = \(64, 6\)"):
        OnnxBinder(Model.read(model.folder))
    program = onnx.load(str(graph))
    kept = [v for v in program.graph.input if v.name != "v"]
    del program.graph.input[:]
    program.graph.input.extend(kept)
    absent = numpy_helper.from_array(np.ones((64, 6), np.float32), "v")
    program.graph.initializer.append(absent)
    graph.write_bytes(program.SerializeToString())
    with pytest.raises(ModelError, match=r"input v = 'missing'"):
        OnnxBinder(model)
    graph.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"graph\.onnx"):
        OnnxBinder(model)
    graph.unlink()
    with pytest.raises(ModelError, match=r"graph\.onnx = 'missing'"):
        OnnxBinder(model)


def test_a_graph_may_not_reach_other_files(tmp_path: Path) -> None:
    model, weights = made(tmp_path, "m", 0)
    secret = tmp_path / "m" / "secret.bin"
    secret.write_bytes(weights["w"].tobytes())
    graph = model.folder / "graph.onnx"
    program = onnx.load(str(graph))
    (stolen,) = (i for i in program.graph.initializer if i.name == "b")
    stolen.ClearField("raw_data")
    stolen.data_location = TensorProto.EXTERNAL
    entry = stolen.external_data.add()
    entry.key, entry.value = "location", str(secret)
    graph.write_bytes(program.SerializeToString())
    with pytest.raises(ModelError, match=r"external_data = 'another file'"):
        OnnxBinder(model)


def write_two_inputs(path: Path) -> None:
    """y = mask * table[ids]: a batch of sequences, both of open length."""
    table = np.ones((500, 4), np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Cast", ["mask"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weight", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "embedding",
        [info(name, TensorProto.INT64, ["n", "length"]) for name in ("ids", "mask")],
        [info("y", TensorProto.FLOAT, ["n", "length", 4])],
        [numpy_helper.from_array(table, "table"),
         numpy_helper.from_array(np.array([2], np.int64), "last")],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )


def test_payloads_are_made_up_from_the_inputs_that_a_graph_declares(tmp_path: Path) -> None:
    write_two_inputs(tmp_path / "two.onnx")
    two = import_onnx(tmp_path / "two.onnx", tmp_path / "two")
    rng = np.random.default_rng(0)
    payload: Any = sample_payload(two, rng)
    assert {name: (a.dtype, a.shape) for name, a in payload.items()} == {
        "ids": (np.int64, (8,)), "mask": (np.int64, (8,)),
    }  # fmt: skip
    assert set(np.concatenate(list(payload.values()))) <= {0, 1}
    open_batch, closed = made(tmp_path, "m", 0)[0], made(tmp_path, "one", 0, batch=1)[0]
    drawn: Any = [sample_payload(model, rng)["x"] for model in (open_batch, closed)]  # type: ignore[index]
    assert [(x.dtype, x.shape) for x in drawn] == [(np.float32, (24,)), (np.float32, (1, 24))]


def test_onnx_models_are_measured_and_replayed_as_any_other(tmp_path: Path) -> None:
    write_two_inputs(tmp_path / "two.onnx")
    models = [
        import_onnx(tmp_path / "two.onnx", tmp_path / "two"), made(tmp_path, "m", 0)[0],
    ]  # fmt: skip
    profile = calibrate(models, passes=2, batches=(1, 2), seed=1)
    assert all(profile["models"][m.name]["batch_s"][2] > 0.0 for m in models)
    lived = play(models, 4, 40.0)
    assert lived.result.counters["served"] == 100 and not lived.error_counts()


def test_answers_of_a_soak_are_compared_by_their_numbers(tmp_path: Path) -> None:
    write_two_inputs(tmp_path / "two.onnx")
    models = [import_onnx(tmp_path / "two.onnx", tmp_path / "two"), made(tmp_path, "m", 0)[0]]
    served = deploy(models, 4)
    room = 2 * max(d.device_bytes for d in served)
    settings = SoakSettings(minutes=0.05, rate_hz=60.0, mishap_every_s=60.0)
    report = soak(made_for(served, room, room), served, [lambda: FixedTtl(0.2)], settings)
    assert report.accounted and report.ends["served"] > 100 and report.wrong == 0
    assert same({"y": np.array([1.0, 2.0])}, {"y": np.array([1.0, 2.0001])})
    assert not same({"y": np.array([1.0, 2.0])}, {"y": np.array([1.0, 2.01])})
    assert not same({"y": np.array([1.0])}, {"y": np.array([1.0, 1.0])})


def test_a_decoder_is_no_onnx_model(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m").folder
    (folder / "config.json").write_text('{"architecture": "onnx"}')
    with pytest.raises(ModelError, match=r"graph\.onnx = 'missing'"):
        OnnxBinder(Model.read(folder))
