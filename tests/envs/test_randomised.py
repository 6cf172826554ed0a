"""Randomised problems: figures stay in their ranges and use them, and a seed decides everything."""

from __future__ import annotations

import math
from dataclasses import fields
from statistics import NormalDist
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import stoker  # noqa: F401
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.simulation import simulate
from stoker.envs.problems import stream
from stoker.envs.randomised import RandomisedProblems, Ranges

SMALL = RandomisedProblems(functions=12, hours=1.0, requests_per_s=0.5)
EPISODES = 60
FIXED = {f.name: (getattr(Ranges(), f.name)[0],) * 2 for f in fields(Ranges)}
"""Every range shut at its lower end."""


def draws(problems: RandomisedProblems, count: int = EPISODES) -> list[Any]:
    return [problems.sample_with_faults(stream(0, 0, k)) for k in range(count)]


@pytest.fixture(scope="module")
def drawn() -> list[Any]:
    return draws(SMALL)


def spread(values: list[float], low: float, high: float, *, log: bool = False) -> None:
    """Check that values lie within a range and reach into both of its outer quarters."""
    assert all(low <= v <= high for v in values)
    scale = math.log if log else float
    places = [(scale(v) - scale(low)) / (scale(high) - scale(low)) for v in values]
    assert min(places) < 0.25 and max(places) > 0.75


def test_links_have_rates_of_the_published_ranges(drawn: list[Any]) -> None:
    gb = 1e9 / 2**30
    spread([c.node.pcie.gib_s for c, _, _ in drawn], 8 * gb, 55 * gb, log=True)
    spread([c.node.disk.gib_s for c, _, _ in drawn], 0.5 * gb, 12 * gb, log=True)
    only_ssd = Ranges(network_gib_s=(1.0 * gb, 7.0 * gb))
    disks = [c.node.disk.gib_s for c, _, _ in draws(RandomisedProblems(12, 1.0, ranges=only_ssd))]
    spread(disks, 1.0 * gb, 7.0 * gb, log=True)


def test_telemetry_noise_and_failures_stay_in_their_ranges(drawn: list[Any]) -> None:
    spread([f.telemetry_delay_s for _, _, f in drawn], 0.0, 120.0)
    spread([f.telemetry_loss for _, _, f in drawn], 0.0, 0.01)
    # The noise is kept as 41 quantiles, each in the middle of its share.
    outermost = NormalDist().inv_cdf(40.5 / 41)
    sigmas = [math.log(f.load_factors[-1]) / outermost for _, _, f in drawn]
    spread(sigmas, 0.05, 0.4)
    often = Ranges(failure_every_s=(600.0, 1200.0), repair_s=(60.0, 120.0))
    runs = draws(RandomisedProblems(12, 10.0, ranges=often), 20)
    counts = [len(f.losses) for _, _, f in runs]
    # Once in 660 s to 1,320 s over 36,000 s: 27 to 55 of them.
    assert 20 < np.mean(counts) < 60


def test_the_memory_ratio_is_what_was_drawn(drawn: list[Any]) -> None:
    ratios = [float(c.profile.rpartition(" ")[2]) for c, _, _ in drawn]
    spread(ratios, 0.25, 1.0)


def test_speeds_change_by_at_most_a_third_and_services_with_them() -> None:
    same = Ranges(**{**FIXED, "batch_factor": (1.0, 1.0)})
    other = Ranges(**{**FIXED, "batch_factor": (0.7, 1.3)})
    (a, one), (b, two) = (
        RandomisedProblems(40, 1.0, ranges=r).sample(stream(0, 0, 0)) for r in (same, other)
    )
    factors = [g.alpha_s / f.alpha_s for f, g in zip(a.functions, b.functions, strict=True)]
    spread(factors, 0.7, 1.3)
    assert one.service_s is not None and two.service_s is not None
    assert np.allclose(two.service_s / one.service_s, np.array(factors)[one.function])


def test_zipf_burstiness_and_the_phase_of_the_day_are_used() -> None:
    def traffic(**changes: tuple[float, float]) -> Any:
        made = Ranges(**{**FIXED, **changes})
        return RandomisedProblems(20, 24.0, ranges=made).sample(stream(0, 0, 0))[1]

    flat, steep = traffic(zipf=(0.0, 0.0)), traffic(zipf=(2.0, 2.0))
    assert np.bincount(steep.function)[0] > 5 * np.bincount(flat.function)[0]
    early, late = traffic(peak_h=(6.0, 6.0)), traffic(peak_h=(18.0, 18.0))
    noon = 12 * 3600.0
    assert (early.arrival_s < noon).mean() > (late.arrival_s < noon).mean() + 0.1
    calm, bursty = traffic(gamma_cv=(0.5, 0.5)), traffic(gamma_cv=(8.0, 8.0))
    assert calm.arrival_s.tobytes() != bursty.arrival_s.tobytes()


def test_the_same_stream_gives_the_same_bytes_and_another_does_not() -> None:
    (a, one, f), (b, two, g) = (SMALL.sample_with_faults(stream(1, 2, 3)) for _ in range(2))
    assert a == b and f == g
    for column in ("arrival_s", "function", "service_s"):
        assert getattr(one, column).tobytes() == getattr(two, column).tobytes()
    cluster, workload = SMALL.sample(stream(1, 2, 3))
    assert cluster == a and workload.arrival_s.tobytes() == one.arrival_s.tobytes()
    other, third, h = SMALL.sample_with_faults(stream(1, 2, 4))
    assert other != a and h != f and third.arrival_s.tobytes() != one.arrival_s.tobytes()


def test_what_is_drawn_runs(drawn: list[Any]) -> None:
    for cluster, workload, faults in drawn[:5]:
        result = simulate(cluster, workload, FixedTtl(600.0), faults=[faults])[0]
        assert len(result.outcome.arrival_s) == len(workload)


@pytest.mark.parametrize("view", ["cluster", "function"])
def test_environments_take_them(view: str) -> None:
    env = gym.make_vec("stoker/KeepAlive-v0", num_envs=2, view=view, problems=SMALL)
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    assert first.tobytes() == again.tobytes()
    env.step(env.action_space.sample())


def test_several_gpus_hold_every_function() -> None:
    cluster, _ = RandomisedProblems(12, 1.0, gpus=4).sample(stream(0, 0, 0))
    assert len(cluster.gpus) == 4
    assert min(g.memory_gib for g in cluster.gpus) >= max(f.device_gib for f in cluster.functions)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Ranges(zipf=(1.3, 0.7)), r"ranges\.zipf = \(1\.3, 0\.7\)"),
        (lambda: Ranges(ssd_gib_s=(0.0, 1.0)), r"ranges\.ssd_gib_s = \(0\.0, 1\.0\)"),
        (lambda: Ranges(peak_h=(0.0, math.inf)), r"ranges\.peak_h"),
        (lambda: RandomisedProblems(functions=0), r"problems\.functions = 0.*>= 1"),
        (lambda: RandomisedProblems(gpus=0), r"problems\.gpus = 0"),
        (lambda: RandomisedProblems(hours=0.0), r"problems\.hours = 0\.0"),
    ],
)
def test_a_bad_range_is_named(made: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        made()
