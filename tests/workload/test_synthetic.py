"""Synthetic traffic: seeded bytes, and processes that have the moments they claim."""

from __future__ import annotations

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import Workload, generate, marginals, mmpp2, processes, synthetic


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def dispersion(times: np.ndarray, horizon_s: float, window_s: float = 1.0) -> float:
    counts = np.histogram(times, np.arange(0.0, horizon_s + window_s, window_s))[0]
    return float(counts.var() / counts.mean())


def same_bytes(a: Workload, b: Workload) -> bool:
    columns = ("arrival_s", "function", "service_s", "prompt_tokens", "output_tokens")
    pairs = [(getattr(a, c), getattr(b, c)) for c in columns]
    return all((x is None) == (y is None) for x, y in pairs) and all(
        x.tobytes() == y.tobytes() for x, y in pairs if x is not None
    )


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    assert same_bytes(generate(rng(1)), generate(rng(1)))
    assert not same_bytes(generate(rng(1)), generate(rng(2)))
    assert same_bytes(mmpp2(rng(1)), mmpp2(rng(1)))
    assert not same_bytes(mmpp2(rng(1)), mmpp2(rng(2)))


def test_traffic_has_the_rate_and_the_popularity_asked_for() -> None:
    mix = synthetic.Mix(timer=0.0, poisson=1.0, gamma=0.0, mmpp2=0.0)
    w = generate(rng(), functions=10, hours=24.0, requests_per_s=1.0, mix=mix, diurnal_depth=0.0)
    assert len(w) == pytest.approx(86_400, rel=0.02)
    counts = np.bincount(w.function, minlength=10)
    harmonic = sum(1 / k for k in range(1, 11))
    assert counts[0] / len(w) == pytest.approx(1 / harmonic, rel=0.03)
    assert counts[4] / counts[0] == pytest.approx(1 / 5, rel=0.05)


def test_the_default_mix_loses_no_traffic_to_timers() -> None:
    w = generate(rng(), functions=1000, hours=24.0, requests_per_s=10.0)
    assert len(w) == pytest.approx(864_000, rel=0.05)


def test_every_function_has_one_service_time_within_the_range() -> None:
    w = generate(rng(), functions=20)
    assert w.service_s is not None
    for fn in range(20):
        assert len(set(w.service_s[w.function == fn].tolist())) <= 1
    assert w.service_s.min() >= 0.05 and w.service_s.max() <= 20.0


def test_a_timer_fires_once_a_period() -> None:
    times = processes.timer(rng(), 300.0, 86_400.0, 0.0)
    assert len(times) == 288
    assert np.allclose(np.diff(times), 300.0)
    jittered = np.diff(processes.timer(rng(), 300.0, 864_000.0, 1.0))
    assert jittered.std() == pytest.approx(np.sqrt(2.0), rel=0.1)


@pytest.mark.parametrize("cv", [0.5, 1.0, 4.0])
def test_gamma_gaps_have_the_mean_and_the_variation_asked_for(cv: float) -> None:
    gaps = np.diff(processes.gamma(rng(), 2.0, 200_000.0, cv))
    assert gaps.mean() == pytest.approx(0.5, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_a_poisson_process_has_dispersion_one() -> None:
    times = processes.poisson(rng(), 5.0, 20_000.0)
    assert len(times) == pytest.approx(100_000, rel=0.02)
    assert dispersion(times, 20_000.0) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("fit", "mean_per_s", "limit", "relax_per_s"),
    [
        ("azure_llm_2023_code", 2.567, 169.04, 0.14114),
        ("azure_llm_2023_conv", 5.530, 50.4, 0.01229),
    ],
)
def test_mmpp2_has_the_rate_and_the_dispersion_of_its_fit(
    fit: str, mean_per_s: float, limit: float, relax_per_s: float
) -> None:
    # The fit's index of dispersion over a window t: 1 + A (1 - (1 - exp(-r t)) / (r t)).
    assert processes.FITS[fit].mean_per_s == pytest.approx(mean_per_s, abs=1e-3)
    horizon_s = 1_000_000.0
    times = processes.mmpp2(rng(), processes.FITS[fit], horizon_s)
    assert len(times) / horizon_s == pytest.approx(mean_per_s, rel=0.03)
    for window_s in (1.0, 60.0):
        x = relax_per_s * window_s
        expected = 1.0 + limit * (1.0 - (1.0 - np.exp(-x)) / x)
        assert dispersion(times, horizon_s, window_s) == pytest.approx(expected, rel=0.05)


def test_stretching_an_mmpp2_keeps_its_requests_a_burst() -> None:
    fit = processes.FITS["azure_llm_2023_code"]
    slow = fit.at_rate(0.01)
    assert slow.mean_per_s == pytest.approx(0.01)
    burst = slow.high_per_s * slow.high_sojourn_s
    assert burst == pytest.approx(fit.high_per_s * fit.high_sojourn_s)


def test_half_of_the_day_before_and_after_the_peak_differ_by_the_depth() -> None:
    day_s = 86_400.0
    times = processes.diurnal(np.linspace(0.0, day_s, 240_001)[:-1], day_s, 0.5, 6.0)
    per_hour = np.histogram(times, 24, (0.0, day_s))[0]
    # Around 06:00 the rate is 1.5 times the mean, around 18:00 half of it.
    assert per_hour[5:7].mean() == pytest.approx(15_000, rel=0.01)
    assert per_hour[17:19].mean() == pytest.approx(5_000, rel=0.02)
    assert len(times) == per_hour.sum()


def test_bending_several_processes_at_once_bends_each() -> None:
    horizon_s = 14_400.0
    apart = [processes.poisson(rng(seed), 0.1, horizon_s) for seed in range(3)]
    bent = [processes.diurnal(times, horizon_s, 0.3, 14.0) for times in apart]
    together = processes.diurnal(np.concatenate(apart), horizon_s, 0.3, 14.0)
    assert together.tobytes() == np.concatenate(bent).tobytes()


@pytest.mark.parametrize("rate_per_s", [1e-5, 1e-3, 1.0])
def test_every_process_draws_sorted_times(rate_per_s: float) -> None:
    horizon_s = 3_600.0
    fit = processes.FITS["azure_llm_2023_code"].at_rate(rate_per_s)
    for seed in range(5):
        for times in (
            processes.timer(rng(seed), 1.0 / rate_per_s, horizon_s, 30.0),
            processes.poisson(rng(seed), rate_per_s, horizon_s),
            processes.gamma(rng(seed), rate_per_s, horizon_s, 4.0),
            processes.mmpp2(rng(seed), fit, horizon_s),
        ):
            assert np.all(np.diff(times) >= 0.0)


def test_traffic_ends_before_the_horizon() -> None:
    assert processes.within(np.array([-0.1, 0.0, 9.9, 10.0]), 10.0).tolist() == [0, 1, 1, 0]
    for seed in range(5):
        for w in (generate(rng(seed), timer_jitter_s=300.0), mmpp2(rng(seed), hours=0.02)):
            assert w.arrival_s.min() >= 0.0 and w.arrival_s.max() < w.horizon_s


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        (synthetic.Mix(), [10, 6, 2, 2]),
        (synthetic.Mix(timer=0.0), [0, 11, 6, 3]),
        (synthetic.Mix(0.0, 0.0, 1.0, 1.0), [0, 0, 10, 10]),
        (synthetic.Mix(1.0, 0.0, 0.0, 0.0), [20, 0, 0, 0]),
    ],
)
def test_processes_are_dealt_in_exact_shares(mix: synthetic.Mix, expected: list[int]) -> None:
    kinds = synthetic._deal(rng(), np.full(20, 0.001), mix)
    assert np.bincount(kinds, minlength=4).tolist() == expected


def test_only_functions_too_fast_for_a_timer_are_dealt_another_process() -> None:
    kinds = synthetic._deal(rng(), np.full(20, 1.0), synthetic.Mix(1.0, 0.0, 0.0, 0.0))
    assert set(kinds.tolist()) == {synthetic.POISSON}


def test_token_draws_match_the_trace_they_were_fitted_to() -> None:
    w = mmpp2(rng(), fit="azure_llm_2023_code", hours=24.0)
    assert w.prompt_tokens is not None and w.output_tokens is not None
    assert np.median(w.prompt_tokens) == pytest.approx(1469, rel=0.05)
    assert np.median(w.output_tokens) == pytest.approx(13, abs=1)
    assert w.output_tokens.mean() == pytest.approx(27.9, rel=0.08)
    assert w.prompt_tokens.max() <= 7437


def test_drawn_durations_have_the_published_median() -> None:
    drawn = marginals.durations_s(rng(), 100_000, 0.0, np.inf)
    assert np.median(drawn) == pytest.approx(0.80, abs=0.02)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("functions", 0),
        ("hours", 0.0),
        ("hours", float("nan")),
        ("requests_per_s", -1.0),
        ("zipf", -0.1),
        ("gamma_cv", 0.0),
        ("timer_jitter_s", -1.0),
        ("diurnal_depth", 1.5),
    ],
)
def test_a_bad_argument_is_named(option: str, value: float) -> None:
    with pytest.raises(SpecError) as caught:
        generate(rng(), **{option: value})  # type: ignore[arg-type]
    assert caught.value.field == option


def test_an_unknown_fit_lists_the_known_ones() -> None:
    with pytest.raises(SpecError, match="azure_llm_2023_code"):
        mmpp2(rng(), fit="azure_llm_2022")
    with pytest.raises(SpecError, match=r"mix\.gamma"):
        synthetic.Mix(gamma=-1.0)
