"""The figures of a summary against plain NumPy, and the specs that are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.outcome import PERCENTILES, Result, percentiles
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Rules
from stoker.envs.problems import SyntheticProblems, stream

NODE = Node((Gpu(10.0),))
SMALL = SyntheticProblems(hours=1.0, requests_per_s=0.05, ratios=(0.2,))
REFUSING = Rules(scale_out="per_request", overload="drop")


@pytest.mark.parametrize("count", [1, 2, 3, 20, 101, 1000])
def test_percentiles_are_those_of_numpy(count: int) -> None:
    values = np.random.default_rng(count).lognormal(size=count)
    expected = np.percentile(values, PERCENTILES)
    assert percentiles(values, PERCENTILES) == pytest.approx(expected, rel=1e-12)


def test_percentiles_of_nothing_are_zero() -> None:
    assert percentiles(np.zeros(0), PERCENTILES) == [0.0, 0.0, 0.0]


def halfway(rules: Rules, warmup_s: float) -> tuple[Simulation, Result]:
    cluster, workload = SMALL.sample(stream(5, 0, 0))
    sim = Simulation([cluster], [workload], rules, warmup_s=warmup_s)
    sim.run(1800.0)
    return sim, sim.result()


@pytest.mark.parametrize("rules", [Rules(), REFUSING])
@pytest.mark.parametrize("warmup_s", [0.0, 600.0])
def test_a_summary_counts_what_the_requests_show(rules: Rules, warmup_s: float) -> None:
    sim, result = halfway(rules, warmup_s)
    tier, arrival_s = result.outcome.tier, result.outcome.arrival_s
    served = ~np.isin(tier, (2, 4))
    latency_s = (result.outcome.finish_s - arrival_s)[served & np.isfinite(result.outcome.finish_s)]
    figures = result.summary()
    assert figures["cold_ratio"] == np.isin(tier, (1, 3)).sum() / served.sum()
    assert figures["p95_s"] == pytest.approx(np.percentile(latency_s, 95))
    scored = (arrival_s >= warmup_s) & (arrival_s <= result.horizon_s)
    waiting = scored & (tier == 255) & np.isnan(result.outcome.start_s)
    late = int(sim.state.rows["late"][0]) + (scored & ~served).sum() + waiting.sum()
    assert figures["slo_attainment"] == 1.0 - late / scored.sum()
    waited_s = float(sim.state.rows["wait_s"][0]) + (1800.0 - arrival_s[waiting]).sum()
    assert figures["wait_s"] == pytest.approx(waited_s)


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("weights_gib", -1.0, "finite, >= 0"),
        ("device_gib", math.inf, "finite, >= 0"),
        ("alpha_s", math.nan, "finite, >= 0"),
        ("load_gib_s", 0.0, "> 0"),
        ("slo_s", math.nan, "> 0"),
        ("concurrency", 0, "an integer >= 1"),
    ],
)
def test_a_bad_field_of_a_function_is_named(field: str, value: float, accepted: str) -> None:
    values = {"weights_gib": 1.0, "device_gib": 1.0, field: value}
    with pytest.raises(SpecError) as caught:
        Function("a", **values)  # type: ignore[arg-type]
    assert (caught.value.field, caught.value.accepted) == (f"function[a].{field}", accepted)


def test_a_cluster_names_the_function_that_it_cannot_take() -> None:
    a, b, large = Function("a", 1.0, 1.0), Function("b", 1.0, 1.0), Function("c", 1.0, 11.0)
    with pytest.raises(SpecError, match=r"function\.name = 'b' .* names that differ"):
        Cluster(NODE, (a, b, b))
    with pytest.raises(SpecError, match=r"function\[c\]\.device_gib = 11\.0 .* <= 10\.0"):
        Cluster(NODE, (a, large))
    assert len(Cluster(NODE, (a, large), drop_oversized=True).functions) == 2
