from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import CNN, GPT, MakeModel

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import FaultRates, draw
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.workload import Workload
from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.calibrate import calibrate, fit_line, in_groups
from stoker.runtime.catalog import ModelError, deploy
from stoker.runtime.keep_all import KeepAll
from stoker.runtime.probe import Probed, probe
from stoker.runtime.profile import (
    FORMAT,
    check_profile,
    profile_cluster,
    read_profile,
    residual_factors,
    write_profile,
)

ENTRY = {
    "weights_bytes": 2**27,
    "device_bytes": 2**27,
    "load_s": {"disk": {"p50": 0.145}, "host": {"p50": 0.020}},
    "order_s": {"p50": 0.001},
    "load_order_s": {"p50": 0.001},
    "alpha_s": 0.010,
    "beta_s": 0.002,
    "max_batch": 8,
}
PROFILE = {"format": FORMAT, "name": "by hand", "copy_gib_s": 12.5, "models": {"m": ENTRY}}


def test_a_measured_profile_makes_a_cluster_and_survives_yaml(
    make_model: MakeModel, tmp_path: Path
) -> None:
    models = [make_model("gpt", GPT), make_model("cnn", CNN)]
    told: list[str] = []
    profile = calibrate(
        models, batches=(1, 2, 4), passes=3, progress=lambda what, done: told.append(what)
    )
    assert told[0] == "process start" and told[-1] == "copies"
    assert set(profile["beside"]) == {"batch", "load"} and min(profile["beside"].values()) > 0.3
    write_profile(profile, tmp_path / "profile.yaml")
    assert read_profile(tmp_path / "profile.yaml") == profile
    cluster = profile_cluster(
        profile, deploy(models, 5), device_bytes=[2**20], host_bytes=2**20, slo_s=0.5
    )
    assert [f.name for f in cluster.functions] == ["gpt-0", "cnn-0", "gpt-1", "cnn-1", "gpt-2"]
    for fn, name in ((0, "gpt"), (1, "cnn")):
        entry = profile["models"][name]
        for tier in ("disk", "host"):
            measured = entry["load_s"][tier]["p50"] + entry["load_order_s"]["p50"]
            # A busy machine may copy more slowly than it loads: then the copy is the limit.
            copied = entry["weights_bytes"] / 2**30 / profile["copy_gib_s"]
            limited = copied > min(load["p50"] for load in entry["load_s"].values())
            if not limited and (tier == "host" or measured > entry["load_s"]["host"]["p50"]):
                assert cluster.load_s(fn, tier) == pytest.approx(measured, rel=0.01)
    assert cluster.node.gpus[0].sharing == "exclusive"
    assert profile["process"]["start_s"] < profile["process"]["first_start_s"] + 1.0


def test_models_that_fit_with_one_more_are_measured_at_once() -> None:
    # Together and the largest once more: 3 + 5 + 5, then 4 + 1 + 4; 6 and 10 stand alone.
    assert in_groups([3, 5, 4, 1, 6, 10], 13) == [[0, 1], [2, 3], [4], [5]]
    assert in_groups([1, 1, 1], 4) == [[0, 1, 2]]
    assert in_groups([7], 7) == [[0]]


def test_models_are_measured_in_memory_that_holds_one_of_them(make_model: MakeModel) -> None:
    models = [make_model("one", GPT), make_model("other", GPT, 1)]
    largest = max(aligned(m.data_bytes) for m in models)
    profile = calibrate(models, batches=(1, 2), passes=1, rest_s=0.001, memory_bytes=largest)
    assert "beside" not in profile
    check_profile(profile)
    for entry in profile["models"].values():
        assert set(entry["batch_s"]) == {1, 2} and min(entry["batch_s"].values()) > 0.0
    with pytest.raises(ModelError, match=rf"size = {largest}.*memory, {largest - 64} bytes"):
        calibrate(models, memory_bytes=largest - 64)


def test_a_probe_asks_one_half_cold_and_the_other_warm(make_model: MakeModel) -> None:
    models = [make_model("gpt", GPT), make_model("cnn", CNN)]
    room = 2 * sum(aligned(m.data_bytes) for m in models)
    told: list[float] = []

    async def ask() -> list[Probed]:
        backend = TorchBackend(deploy(models, 4), [room])
        await backend.start()
        return await probe(backend, room, 3, 0.001, np.random.default_rng(0), told.append)

    answered = asyncio.run(ask())
    assert len(answered) == 2
    for found in answered:
        assert len(found.loads_s) == len(found.load_orders_s) == 3
        assert len(found.batches_s) == len(found.orders_s) == 3
        assert min(found.load_orders_s) > 0.0 and min(found.orders_s) > 0.0
    assert told == sorted(told) and told[-1] == 1.0


def test_a_cluster_takes_the_figures_of_its_profile(make_model: MakeModel) -> None:
    served = deploy([make_model("m")], 1)
    cluster = profile_cluster(PROFILE, served, device_bytes=[2**28])
    f = cluster.functions[0]
    assert cluster.node.pcie.gib_s == pytest.approx(0.125 / 0.020)
    assert cluster.load_s(0, "host") == pytest.approx(0.021)
    assert cluster.load_s(0, "disk") == pytest.approx(0.146)
    assert f.load_gib_s == pytest.approx(0.125 / 0.145)
    assert (f.alpha_s, f.beta_s, f.max_batch) == (pytest.approx(0.011), 0.002, 8)
    assert cluster.profile == "by hand" and f.batch_s == ()


def test_an_order_to_load_and_batches_of_each_size_take_what_was_measured(
    make_model: MakeModel,
) -> None:
    curve = {1: 0.012, 2: 0.016, 4: 0.015, 8: 0.023}
    entry = {**ENTRY, "load_order_s": {"p50": 0.004}, "batch_s": curve}
    profile = {**PROFILE, "models": {"m": entry}}
    cluster = profile_cluster(profile, deploy([make_model("m")], 1), device_bytes=[2**28])
    assert cluster.load_s(0, "disk") == pytest.approx(0.149)
    # A millisecond of way; 3 and 5 to 7 lie between their neighbours, 3 and 4 not below 2.
    expected = (0.013, 0.017, 0.017, 0.017, 0.018, 0.020, 0.022, 0.024)
    assert cluster.functions[0].batch_s == pytest.approx(expected)


def test_loads_of_a_device_follow_each_other(make_model: MakeModel) -> None:
    served = deploy([make_model("m")], 2)
    cluster = profile_cluster(PROFILE, served, device_bytes=[2**29])
    work = Workload(np.array([0.0, 0.0]), np.array([0, 1]), ("m-0", "m-1"), 1.0)
    (result,) = simulate(cluster, work, KeepAll())
    # Both orders are out at 1 ms; 145 ms of disk each, then 1 + 10 + 2 ms of a batch.
    assert result.outcome.finish_s == pytest.approx([0.159, 0.304])


def test_batches_and_loads_slow_each_other_as_measured(make_model: MakeModel) -> None:
    served = deploy([make_model("m")], 2)
    work = Workload(np.array([0.0, 0.0]), np.array([0, 1]), ("m-0", "m-1"), 1.0)

    def finishes(beside: dict[str, float]) -> list[float]:
        profile = {**PROFILE, "beside": beside}
        cluster = profile_cluster(profile, served, device_bytes=[2**29])
        (result,) = simulate(cluster, work, KeepAll())
        found: list[float] = result.outcome.finish_s.tolist()
        return found

    # Alone, 146 ms of load and 13 of a batch, then 145 of the second load and 13 of a batch.
    assert finishes({"batch": 2.0, "load": 1.0}) == pytest.approx([0.172, 0.304])
    assert finishes({"batch": 1.0, "load": 1.25}) == pytest.approx([0.159, 0.3066])
    # A factor below one is noise of the measurement; a profile need not have been asked.
    assert finishes({"batch": 0.9, "load": 0.9}) == finishes({}) == pytest.approx([0.159, 0.304])


def test_a_function_without_figures_is_named(make_model: MakeModel) -> None:
    with pytest.raises(SpecError, match=r"function\[x-0\]\.model = 'x'.*expected m"):
        profile_cluster(PROFILE, deploy([make_model("x")], 1), device_bytes=[2**28])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format": "other"}, "format"),
        ({"models": {}}, "models"),
        ({"models": {"m": 3}}, r"models\.m"),
        ({"models": {"m": {**ENTRY, "alpha_s": "fast"}}}, r"models\.m\.alpha_s = 'fast'"),
        ({"models": {"m": {**ENTRY, "beta_s": -1.0}}}, r"models\.m\.beta_s"),
        ({"models": {"m": {**ENTRY, "load_s": {}}}}, r"models\.m\.load_s\.disk\.p50"),
        ({"models": {"m": {**ENTRY, "order_s": {"p50": float("nan")}}}}, r"\.order_s\.p50"),
        ({"models": {"m": {**ENTRY, "load_order_s": None}}}, r"load_order_s\.p50"),
        ({"beside": {"drop": 1.0}}, r"beside = .*batch and load"),
        ({"beside": {"batch": -1.0}}, r"beside\.batch = -1"),
    ],
)
def test_a_profile_with_a_bad_figure_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError, match=field):
        check_profile({**PROFILE, **change})


def test_a_profile_file_is_never_trusted(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    for text in ("!!python/object/apply:os.system ['true']", "a: [", "- 1"):
        path.write_text(text)
        with pytest.raises(SpecError, match=r"profile .*p\.yaml"):
            read_profile(path)
    with pytest.raises(SpecError, match="none"):
        read_profile(tmp_path / "none.yaml")


def test_a_line_is_fitted_without_negative_parts() -> None:
    sizes = np.array([1, 2, 4, 8])
    assert fit_line(sizes, 0.5 + 0.25 * sizes) == pytest.approx((0.5, 0.25))
    assert fit_line(sizes, 0.1 * sizes**1.2)[0] == 0.0
    assert fit_line(sizes, np.array([4.0, 3.0, 2.0, 1.0])) == (2.5, 0.0)
    assert fit_line(np.array([2]), np.array([1.0])) == (0.0, 0.5)


def test_calibration_without_models_is_refused() -> None:
    with pytest.raises(ModelError, match="models"):
        calibrate([])


def test_residuals_become_factors_on_start_up_and_service_times() -> None:
    levels = (1, 5, 10, 25, 50, 75, 90, 95, 99)

    def by_level(*values: float) -> dict[str, float]:
        return {f"p{q}": value for q, value in zip(levels, values, strict=True)}

    steady, none = by_level(*[2.0] * 9), by_level(*[0.0] * 9)
    spread = by_level(2.0, 3.0, 3.2, 3.5, 4.0, 6.0, 7.0, 8.0, 16.0)
    noisy = by_level(-0.3, -0.2, -0.15, -0.1, 0.0, 0.2, 0.4, 0.6, 1.0)
    models: dict[str, Any] = {
        "a": {"load_s": {"disk": steady}, "residual": none},
        "b": {"load_s": {"disk": spread}, "residual": noisy},
    }
    loads, batches = residual_factors({"models": models})
    assert (len(loads), len(batches)) == (21, 21)
    # Loads: 4, 5, 5.2, 5.5, 6, 8, 9, 10, 18 s over 6 s. Batches: means of 1 and of 0.8, 0.9, ...
    assert [loads[k] for k in (0, 1, 5, 10, 15, 19, 20)] == pytest.approx(
        [4 / 6, 5 / 6, 5.5 / 6, 1.0, 8 / 6, 10 / 6, 3.0]
    )
    assert [batches[k] for k in (1, 5, 10, 15, 19, 20)] == pytest.approx(
        [0.9, 0.95, 1.0, 1.1, 1.3, 1.5]
    )
    assert loads[3] == pytest.approx((5.2 + 0.3 / 3.0) / 6)  # 15 %, between 10 % and 25 %
    rates = FaultRates(load_factors=loads, service_factors=batches)
    cluster = Cluster(Node((Gpu(1.0),)), (Function("a", 1.0, 1.0),))
    drawn = draw(np.random.default_rng(0), cluster, 60.0, rates)
    assert (drawn.load_factors, drawn.service_factors) == (loads, batches)
    with pytest.raises(SpecError, match="load_sigma"):
        FaultRates(load_factors=loads, load_sigma=0.1)
    del models["b"]["residual"]["p95"]
    with pytest.raises(SpecError, match=r"models\.b: p95"):
        residual_factors({"models": models})
