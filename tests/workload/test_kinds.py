"""Kinds of traffic of the benchmark: each has the property that it is named for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.profiles.figure import entry
from stoker.envs.cluster.spec import Function
from stoker.envs.workload import (
    Workload,
    diffusion,
    drift,
    families,
    flash_crowd,
    generate,
    llm_tokens,
    marginals,
    processes,
    rare_tail,
    synthetic,
)

KINDS = (diffusion, drift, flash_crowd, llm_tokens, rare_tail)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def counts(w: Workload) -> np.ndarray[Any, Any]:
    return np.bincount(w.function, minlength=len(w.names))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(kind: Any) -> None:
    one, again, other = (kind.generate(rng(s), functions=20, hours=4.0) for s in (1, 1, 2))
    for column in ("arrival_s", "function", "service_s", "prompt_tokens", "output_tokens"):
        a, b = getattr(one, column), getattr(again, column)
        assert (a is None) == (b is None)
        if a is not None:
            assert a.tobytes() == b.tobytes()
    assert one.arrival_s.tobytes() != other.arrival_s.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("option", "value"),
    [("functions", 0), ("hours", float("nan")), ("requests_per_s", -1.0), ("zipf", -0.1)],
)
def test_a_bad_argument_is_named(kind: Any, option: str, value: float) -> None:
    with pytest.raises(SpecError) as caught:
        kind.generate(rng(), **{option: value})
    assert caught.value.field == option


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (flash_crowd, "at", (1.0,)),
        (flash_crowd, "share", 0.0),
        (flash_crowd, "factor", -1.0),
        (flash_crowd, "fade_s", 0.0),
        (drift, "at", (0.5, 0.2)),
        (rare_tail, "tail_share", 1.0),
    ],
)
def test_a_bad_argument_of_a_kind_is_named(kind: Any, option: str, value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        kind.generate(rng(), **{option: value})
    assert caught.value.field == option


def test_a_mix_may_be_named_shares_and_nothing_else() -> None:
    steady = generate(rng(), functions=5, mix={"poisson": 1.0}, diurnal_depth=0.0)
    mix = synthetic.Mix(0.0, 1.0, 0.0, 0.0)
    assert (
        steady.arrival_s.tobytes()
        == generate(rng(), functions=5, mix=mix, diurnal_depth=0.0).arrival_s.tobytes()
    )
    with pytest.raises(SpecError, match=r"mix\.gama = 1.0.*gamma"):
        generate(rng(), mix={"gama": 1.0})


def test_a_crowd_asks_for_a_few_functions_and_fades() -> None:
    # One crowd at half of 10 h: 4 of 20 functions, each 50 x (0.1 / 20 a second), fading in 600 s,
    # so 150 requests each on top of what is there anyway.
    w = flash_crowd.generate(
        rng(), functions=20, hours=10.0, requests_per_s=0.1, zipf=0.0, at=(0.5,), share=0.2,
        factor=50.0, fade_s=600.0,
    )  # fmt: skip
    later = w.window(18_000.0, 18_000.0 + 3600.0)
    before = w.window(14_400.0, 18_000.0)
    extra = counts(later) - counts(before)
    hit = np.flatnonzero(extra > 75)
    assert len(hit) == 4
    assert extra[hit].mean() == pytest.approx(150.0, abs=30)
    crowd = later.arrival_s[np.isin(later.function, hit)]
    # Within one mean time of an exponential lie 1 - 1/e of them.
    assert (crowd < 600.0).mean() == pytest.approx(0.63, abs=0.08)


def test_popularity_turns_over_and_back() -> None:
    w = drift.generate(rng(), functions=10, hours=9.0, requests_per_s=2.0, at=(1 / 3, 2 / 3))
    first, turned, back = (counts(w.window(k * 10_800.0, (k + 1) * 10_800.0)) for k in range(3))
    assert first[0] > 5 * first[9] and back[0] > 5 * back[9]
    assert turned[9] > 5 * turned[0]
    assert w.service_s is not None
    for fn in range(10):  # of the function, not of the place in the order
        assert len(set(w.service_s[w.function == fn].tolist())) == 1


def test_nine_functions_in_ten_are_called_less_than_once_an_hour() -> None:
    w = rare_tail.generate(rng(), functions=200, hours=200.0, requests_per_s=0.5)
    hourly = counts(w) / 200.0
    assert (hourly[20:] < 1.2).all() and (hourly[20:] <= 1.0).mean() > 0.97
    assert (hourly[:20] > 1.2).all()
    # Log-uniform between 1/48 and 1: half of them are below the geometric mean.
    assert np.median(hourly[20:]) == pytest.approx(48**-0.5, rel=0.3)


def test_services_have_the_tokens_of_their_trace_and_times_that_follow() -> None:
    w = llm_tokens.generate(rng(), functions=2, hours=24.0, requests_per_s=4.0, zipf=0.0)
    assert w.prompt_tokens is not None and w.output_tokens is not None
    code, conv = w.function == 0, w.function == 1
    assert np.median(w.prompt_tokens[code]) == pytest.approx(1469, rel=0.05)
    # 129 is the median of the trace; the mixture is up to 0.057 off.
    assert (w.output_tokens[conv] <= 129).mean() == pytest.approx(0.5, abs=0.06)
    assert code.sum() == pytest.approx(2.0 * 86_400, rel=0.15)  # bursts of hundreds
    figures = entry("models", "Llama-3.1-8B", "model")["iteration"]["A100"]
    step_s, prompt_s = figures["step_s"]["value"], figures["prompt_token_s"]["value"]
    expected = prompt_s * w.prompt_tokens[:50] + step_s * w.output_tokens[:50]
    assert w.service_s is not None and np.allclose(w.service_s[:50], expected)


def test_diffusion_models_have_the_gaps_and_the_inference_of_their_trace() -> None:
    w = diffusion.generate(rng(), functions=1, hours=2000.0, requests_per_s=0.2)
    gaps = np.log(np.diff(w.arrival_s))
    assert gaps.std() == pytest.approx(2.502, rel=0.02)
    assert np.diff(w.arrival_s).mean() == pytest.approx(5.0, rel=0.1)
    assert w.service_s is not None
    assert np.median(w.service_s) == pytest.approx(15.1, rel=0.03)


def test_lognormal_gaps_have_the_mean_asked_for() -> None:
    gaps = np.diff(processes.lognormal(rng(), 2.0, 200_000.0, 1.0))
    assert gaps.mean() == pytest.approx(0.5, rel=0.02)
    assert np.log(gaps).std() == pytest.approx(1.0, rel=0.02)


def test_latencies_stay_within_what_was_seen() -> None:
    drawn = marginals.latencies_s(rng(), marginals.LATENCIES_S["lora_update"], 100_000)
    assert drawn.min() >= 0.631 and drawn.max() <= 38.703
    assert np.median(drawn) == pytest.approx(4.378, rel=0.03)  # of the trace


def test_a_family_shares_its_base_model() -> None:
    made = tuple(Function(f"f{k}", 1.0 + k, 2.0 + k, alpha_s=float(k)) for k in range(7))
    shared = families.share(made, rng(), size=3, rho=0.5)
    assert [f.name for f in shared] == [f.name for f in made]
    assert [f.alpha_s for f in shared] == [f.alpha_s for f in made]
    groups: dict[str, list[Function]] = {}
    for f in shared:
        groups.setdefault(f.family, []).append(f)
    assert sorted(len(members) for members in groups.values()) == [1, 3, 3]
    for members in groups.values():
        (weights,) = {f.weights_gib for f in members}
        assert {f.shared_gib for f in members} == {0.5 * weights}
        assert weights in {made[int(f.name[1:])].weights_gib for f in members}


@pytest.mark.parametrize(("option", "value"), [("size", 0), ("rho", 0.96), ("rho", -0.1)])
def test_a_family_that_cannot_be_is_refused(option: str, value: float) -> None:
    given: dict[str, Any] = {"size": 2, "rho": 0.5, option: value}
    with pytest.raises(SpecError, match=rf"families\.{option}"):
        families.share((Function("a", 1.0, 1.0),), rng(), **given)
