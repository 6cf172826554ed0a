"""Pagurus' idle test against the queue's balance equations, its lending limits by hand."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.startup.pagurus import (
    Start,
    conflict,
    has_idle,
    helped,
    similarity,
    wait_within,
    waiting_chance,
)

FAMILY = {
    "bert": {"torch": "2.1", "tokenizers": "0.15"},
    "roberta": {"torch": "2.1", "tokenizers": "0.15"},
    "gpt": {"torch": "2.1", "tokenizers": "0.19"},
    "resnet": {"torch": "2.1", "pillow": "10"},
    "vit": {"pillow": "9"},
    "echo": {},
}


def stationary_wait_within(rate_hz: float, service_s: float, n: int, wait_s: float) -> float:
    """Sum over the states of M/M/n, states from n on one Poisson term at a time."""
    load = rate_hz * service_s
    weights = [load**k / math.factorial(k) for k in range(n)]
    rho = load / n
    weights += [weights[-1] * load / n * rho**j for j in range(3000)]
    total = math.fsum(weights)
    within = math.fsum(weights[:n])
    # A request that finds n + j waits for j + 1 departures at rate n / service_s.
    x = n / service_s * wait_s
    tail, term = 0.0, math.exp(-x)
    for j, weight in enumerate(weights[n:]):
        tail += term
        within += weight * (1.0 - tail)
        term *= x / (j + 1)
    return within / total


def test_one_server_by_hand() -> None:
    # M/M/1 at half load: a request waits with chance 1/2, longer than t with 1/2 exp(-t/2).
    assert waiting_chance(0.5, 1.0, 1) == 0.5
    assert wait_within(0.5, 1.0, 1, 2.0) == pytest.approx(1.0 - 0.5 * math.exp(-1.0))


def test_two_servers_by_hand() -> None:
    # Erlang C at offered load 1 on two servers is 1/3.
    assert waiting_chance(1.0, 1.0, 2) == pytest.approx(1.0 / 3.0)
    assert wait_within(1.0, 1.0, 2, 0.0) == pytest.approx(2.0 / 3.0)


@given(st.integers(1, 12), st.floats(0.05, 0.9), st.floats(0.1, 3.0), st.floats(0.0, 3.0))
def test_the_wait_equals_the_sum_over_the_states_of_the_queue(
    n: int, rho: float, service_s: float, wait_s: float
) -> None:
    rate_hz = rho * n / service_s
    expected = stationary_wait_within(rate_hz, service_s, n, wait_s)
    assert wait_within(rate_hz, service_s, n, wait_s) == pytest.approx(expected, abs=1e-9)


@given(st.floats(0.0, 20.0), st.floats(0.01, 2.0), st.integers(0, 40), st.floats(0.0, 5.0))
def test_one_more_container_never_makes_requests_wait_longer(
    rate_hz: float, service_s: float, n: int, wait_s: float
) -> None:
    less, more = (wait_within(rate_hz, service_s, k, wait_s) for k in (n, n + 1))
    assert less <= more + 1e-12


def test_an_unstable_queue_waits_for_ever() -> None:
    assert waiting_chance(2.0, 1.0, 2) == 1.0
    assert wait_within(2.0, 1.0, 2, 100.0) == 0.0
    assert wait_within(0.0, 1.0, 0, 100.0) == 0.0


def test_a_container_is_idle_if_the_others_meet_the_target() -> None:
    # At load 1, two containers start 2/3 of the requests at once, three 10/11.
    assert has_idle(1.0, 1.0, 3, 0.0, required=0.6)
    assert not has_idle(1.0, 1.0, 3, 0.0, required=0.7)
    assert has_idle(1.0, 1.0, 4, 0.0, required=0.9)
    assert not has_idle(0.0, 1.0, 1, 0.0, required=0.0)


def test_similarity_and_conflicts_by_hand() -> None:
    assert similarity(FAMILY["bert"], FAMILY["roberta"]) == 1.0
    assert similarity(FAMILY["bert"], FAMILY["resnet"]) == 0.5
    assert similarity(FAMILY["resnet"], FAMILY["vit"]) == pytest.approx(1.0 / math.sqrt(2.0))
    assert similarity(FAMILY["bert"], FAMILY["vit"]) == 0.0
    assert similarity(FAMILY["bert"], FAMILY["echo"]) == 1.0
    assert conflict(FAMILY["bert"], FAMILY["gpt"])
    assert not conflict(FAMILY["bert"], FAMILY["resnet"])


def test_a_lender_helps_the_most_similar_functions_without_conflict() -> None:
    # gpt wants other tokenizers; vit another pillow than resnet, which is packed before it.
    assert helped("bert", FAMILY) == ["roberta", "echo", "resnet"]
    assert helped("bert", FAMILY, limit=1) == ["roberta"]
    assert helped("vit", FAMILY) == ["echo", "bert", "roberta"]


names = st.sampled_from("abcdef")
families = st.dictionaries(
    st.sampled_from("123456"), st.dictionaries(names, st.sampled_from("xy"), max_size=4), min_size=1
)


@given(families, st.integers(0, 5))
def test_what_is_packed_together_never_conflicts(
    functions: dict[str, dict[str, str]], limit: int
) -> None:
    lender = min(functions)
    chosen = helped(lender, functions, limit)
    together = [functions[name] for name in (lender, *chosen)]
    assert len(chosen) <= limit
    assert not any(conflict(a, b) for a in together for b in together)


durations = st.floats(0.0, 100.0)


@given(st.builds(Start, durations, durations, durations, durations))
def test_a_lent_start_pays_iff_renting_is_quicker_than_sandbox_and_packages(start: Start) -> None:
    saved_s = start.sandbox_s + start.packages_s - start.rent_s
    assume(abs(saved_s) > 1e-9)
    assert (start.lent_s < start.cold_s) == (saved_s > 0.0)


def test_a_lent_start_by_hand() -> None:
    start = Start(sandbox_s=0.5, packages_s=4.0, own_s=1.0, rent_s=0.25)
    assert (start.cold_s, start.lent_s) == (5.5, 1.25)


def test_bad_arguments_are_refused_by_name() -> None:
    with pytest.raises(SpecError, match="rate_hz"):
        waiting_chance(-1.0, 1.0, 1)
    with pytest.raises(SpecError, match="service_s"):
        waiting_chance(1.0, 0.0, 1)
    with pytest.raises(SpecError, match="containers"):
        has_idle(1.0, 1.0, -1, 0.0, 0.5)
    with pytest.raises(SpecError, match="required"):
        has_idle(1.0, 1.0, 2, 0.0, 1.5)
    with pytest.raises(SpecError, match="limit"):
        helped("bert", FAMILY, limit=-1)
    with pytest.raises(SpecError, match="lender"):
        helped("llama", FAMILY)
    with pytest.raises(SpecError, match="rent_s"):
        Start(0.0, 0.0, 0.0, -1.0)
