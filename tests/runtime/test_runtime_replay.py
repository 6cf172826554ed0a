"""Workloads in real time on real processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_llamas import write_llama
from small_models import CNN, GPT, MakeModel
from test_runtime_live import Keep

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import GIB, Cluster, Function, Gpu, Node
from stoker.envs.workload.workload import Workload
from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.calibrate import calibrate
from stoker.runtime.catalog import Deployment, Generation, Model, deploy
from stoker.runtime.keeper import Keeper
from stoker.runtime.profile import profile_cluster
from stoker.runtime.replay import ReplayResult, replay


def made_for(served: tuple[Deployment, ...], device_bytes: int, host_bytes: int) -> Cluster:
    functions = tuple(
        Function(
            d.function, d.model.data_bytes / GIB, aligned(d.model.data_bytes) / GIB,
            alpha_s=0.002, max_batch=4, slo_s=1.0,
        )
        for d in served
    )  # fmt: skip
    gpu = Gpu(device_bytes / GIB, 1.0, sharing="exclusive")
    return Cluster(Node((gpu,), host_gib=host_bytes / GIB), functions)


def play(models: list[Model], count: int, rate_hz: float, **options: Any) -> ReplayResult:
    served = deploy(models, count)
    largest = max(aligned(m.data_bytes) for m in models)
    spec = made_for(served, 2 * largest, 2 * largest)
    rng = np.random.default_rng(0)
    arrival_s = np.sort(rng.uniform(0.0, 2.5, round(2.5 * rate_hz)))
    function = rng.integers(0, count, len(arrival_s)).astype(np.int32)
    work = Workload(arrival_s, function, tuple(d.function for d in served), 2.5)
    made: list[TorchBackend] = []
    if "backend" in options:
        sizes = [round(spec.node.gpus[0].memory_gib * GIB)]
        made.append(TorchBackend(served, sizes, round(spec.node.host_gib * GIB)))
        options = {**options, "backend": made[0]}
        step = options["progress"]
        options["progress"] = lambda what, done: step(made[0])
    policy = options.pop("policy", Keep(0.2, 1.0))
    return replay(spec, work, policy, served, **options)


def test_a_replay_recalls_the_traffic_of_the_one_before(
    make_model: MakeModel, tmp_path: Path
) -> None:
    models = [make_model("gpt", GPT, 1), make_model("cnn", CNN, 2)]
    path = tmp_path / "memory.npz"
    for lives in (1, 2):
        assert play(models, 4, 40.0, keeper=Keeper(path)).result.counters["served"] == 100
        with np.load(path) as memory:
            assert memory["arrivals"].sum() == 100 * lives


def test_every_request_of_a_replay_is_served_and_booked(make_model: MakeModel) -> None:
    models = [make_model("gpt", GPT, 1), make_model("cnn", CNN, 2)]
    told: list[tuple[str, float]] = []
    result = play(models, 4, 60.0, progress=lambda what, done: told.append((what, done)))
    assert told[-1] == ("replay", 1.0)
    assert result.errors == (None,) * 150 and np.isfinite(result.latency_s).all()
    figures = result.summary()
    assert figures["requests"] == 150 and figures["failed"] == figures["fallbacks"] == 0
    assert figures["evictions"] + figures["loads"] > 4 and figures["total_usd"] > 0.0
    seconds = [figures[f"gpu_{kind}_s"] for kind in ("busy", "loading", "idle", "off")]
    assert sum(seconds) == pytest.approx(result.result.horizon_s)
    np.testing.assert_allclose(
        result.result.outcome.latency_s, result.latency_s, atol=0.005, err_msg="two watches"
    )
    assert result.ledger.host_misses == 0 and result.ledger_gap_bytes == 0


def test_a_decoder_is_calibrated_and_serves_a_replay_beside_another_model(
    make_model: MakeModel, tmp_path: Path
) -> None:
    models = [write_llama(tmp_path / "llm"), make_model("cnn", CNN)]
    profile = calibrate(models, batches=(1, 2), passes=2)
    served = deploy(models, 2, Generation(blocks=64, max_batch=6))
    sizes = [aligned(d.device_bytes) for d in served]
    spec = profile_cluster(profile, served, device_bytes=[sum(sizes)], host_bytes=sizes[1])
    llm = spec.functions[0]
    assert (llm.concurrency, llm.max_batch) == (6, 1)
    assert llm.device_gib * GIB == pytest.approx(sizes[0])
    assert spec.node.gpus[0].sharing == "parallel"
    rng = np.random.default_rng(0)
    arrival_s = np.sort(rng.uniform(0.0, 2.0, 120))
    function = rng.integers(0, 2, 120).astype(np.int32)
    work = Workload(arrival_s, function, tuple(d.function for d in served), 2.0)
    result = replay(spec, work, Keep(np.inf, 0.0), served)
    assert result.errors == (None,) * 120 and result.ledger_gap_bytes == 0
    seen = result.statistics
    count = int((function == 0).sum())
    assert len(seen.first_token_s) == count and len(seen.between_tokens_s) == 15 * count


def test_a_worker_killed_in_a_replay_costs_the_requests_in_flight_only(
    make_model: MakeModel,
) -> None:
    killed: list[int] = []

    def kill(backend: TorchBackend) -> None:
        if not killed:
            killed.append(backend.workers[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    model = make_model("slow", GPT, 0, width=64, layers=4)
    result = play([model], 2, 150.0, backend=True, progress=kill)
    failed = [i for i, error in enumerate(result.errors) if error]
    assert killed and 1 <= len(failed) < 60
    assert all("worker of device 0 died" in (result.errors[i] or "") for i in failed)
    assert result.result.counters["failed"] == len(failed)
    assert np.isfinite(np.delete(result.latency_s, failed)).all()
    assert np.isfinite(result.latency_s[-20:]).all()
    assert result.summary()["lost_instances"] >= 1 and result.ledger_gap_bytes == 0


def test_a_model_that_breaks_in_a_replay_fails_alone(make_model: MakeModel) -> None:
    good, bad = make_model("good"), make_model("bad", seed=1)
    broken: list[bool] = []

    def cut(backend: TorchBackend) -> None:
        if not broken:
            broken.append(True)
            path = bad.weights_file
            os.truncate(path, path.stat().st_size - 64)

    result = play([good, bad], 2, 12.0, policy=Keep(0.0, 0.0), backend=True, progress=cut)
    reasons = result.error_counts()
    assert len(reasons) == 1 and "bad/model.safetensors: data" in next(iter(reasons))
    function = result.result.outcome.function
    assert all(function[i] == 1 for i, error in enumerate(result.errors) if error)


def test_a_replay_of_what_does_not_match_is_refused(make_model: MakeModel) -> None:
    served = deploy([make_model("m")], 2)
    spec = made_for(served, 2**22, 0)
    work = Workload(np.zeros(1), np.zeros(1, np.int32), ("a",), 1.0)
    with pytest.raises(SpecError, match=r"workload\.names = 1"):
        replay(spec, work, Keep(1.0, 1.0), served)
    with pytest.raises(SpecError, match=r"replay\.deployments"):
        replay(spec, work, Keep(1.0, 1.0), served[:1])
