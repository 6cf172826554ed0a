from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import CNN, GPT, MakeModel

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import FaultRates, draw
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.runtime.calibrate import calibrate, fit_line
from stoker.runtime.catalog import ModelError, deploy
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
    write_profile(profile, tmp_path / "profile.yaml")
    assert read_profile(tmp_path / "profile.yaml") == profile
    cluster = profile_cluster(
        profile, deploy(models, 5), device_bytes=[2**20], host_bytes=2**20, slo_s=0.5
    )
    assert [f.name for f in cluster.functions] == ["gpt-0", "cnn-0", "gpt-1", "cnn-1", "gpt-2"]
    for fn, name in ((0, "gpt"), (1, "cnn")):
        entry = profile["models"][name]
        for tier in ("disk", "host"):
            measured = entry["load_s"][tier]["p50"] + entry["order_s"]["p50"]
            # A busy machine may copy more slowly than it loads: then the copy is the limit.
            copied = entry["weights_bytes"] / 2**30 / profile["copy_gib_s"]
            limited = copied > entry["load_s"]["host"]["p50"]
            if not limited and (tier == "host" or measured > entry["load_s"]["host"]["p50"]):
                assert cluster.load_s(fn, tier) == pytest.approx(measured, rel=0.01)
    assert cluster.node.gpus[0].sharing == "exclusive"
    assert profile["process"]["start_s"] < profile["process"]["first_start_s"] + 1.0


def test_a_cluster_takes_the_figures_of_its_profile(make_model: MakeModel) -> None:
    served = deploy([make_model("m")], 1)
    cluster = profile_cluster(PROFILE, served, device_bytes=[2**28])
    f = cluster.functions[0]
    assert cluster.node.pcie.gib_s == pytest.approx(0.125 / 0.020)
    assert cluster.load_s(0, "host") == pytest.approx(0.021)
    assert cluster.load_s(0, "disk") == pytest.approx(0.146)
    assert f.load_gib_s == pytest.approx(1.0)
    assert (f.alpha_s, f.beta_s, f.max_batch) == (pytest.approx(0.011), 0.002, 8)
    assert cluster.profile == "by hand"


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
        ({"models": {"m": {**ENTRY, "order_s": {"p50": float("nan")}}}}, r"order_s\.p50"),
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
    steady = {f"p{q}": 2.0 for q in (5, 25, 50, 75, 95)}
    spread = {"p5": 3.0, "p25": 3.5, "p50": 4.0, "p75": 6.0, "p95": 8.0}
    none = dict.fromkeys(steady, 0.0)
    noisy = {"p5": -0.2, "p25": -0.1, "p50": 0.0, "p75": 0.2, "p95": 0.6}
    models: dict[str, Any] = {
        "a": {"load_s": {"disk": steady}, "residual": none},
        "b": {"load_s": {"disk": spread}, "residual": noisy},
    }
    loads, batches = residual_factors({"models": models})
    assert (len(loads), len(batches)) == (21, 21)
    # Means of 1 and of 3/4, 3.5/4, 1, 6/4, 8/4; of 1 and of 0.8, 0.9, 1, 1.2, 1.6.
    assert [loads[k] for k in (0, 1, 5, 10, 15, 19, 20)] == pytest.approx(
        [0.875, 0.875, 0.9375, 1.0, 1.25, 1.5, 1.5]
    )
    assert [batches[k] for k in (1, 5, 10, 15, 19)] == pytest.approx([0.9, 0.95, 1.0, 1.1, 1.3])
    assert loads[3] == pytest.approx((0.875 + 0.9375) / 2)  # 15 %, between 5 % and 25 %
    rates = FaultRates(load_factors=loads, service_factors=batches)
    cluster = Cluster(Node((Gpu(1.0),)), (Function("a", 1.0, 1.0),))
    drawn = draw(np.random.default_rng(0), cluster, 60.0, rates)
    assert (drawn.load_factors, drawn.service_factors) == (loads, batches)
    with pytest.raises(SpecError, match="load_sigma"):
        FaultRates(load_factors=loads, load_sigma=0.1)
    del models["b"]["residual"]["p95"]
    with pytest.raises(SpecError, match=r"models\.b: p95"):
        residual_factors({"models": models})
