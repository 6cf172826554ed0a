"""Who loses the helm and when he gets it back; how fast an SLO is used up."""

from __future__ import annotations

import pytest

from stoker.runtime.breaker import Breaker
from stoker.runtime.burn import Burn


def test_faults_open_it_only_in_a_row() -> None:
    breaker = Breaker(10.0, 100.0, strikes=3)
    for _ in range(5):
        breaker.bad(0.0, "slow")
        breaker.bad(0.0, "slow")
        breaker.good(0.0)
    assert breaker.closed
    for _ in range(3):
        breaker.bad(1.0, "nan")
    assert (breaker.state, breaker.reason, breaker.trips) == ("open", "nan", 1)
    assert not breaker.lets_through(10.9)
    assert breaker.lets_through(11.0) and not breaker.closed, "a trial first"


def test_the_hold_doubles_up_to_its_longest_and_is_forgotten_after_as_long() -> None:
    breaker = Breaker(10.0, 35.0, strikes=1)
    now, holds = 0.0, []
    for _ in range(4):
        breaker.bad(now, "raised")
        start = now
        while not breaker.lets_through(now):
            now += 1.0
        holds.append(now - start)
    assert holds == [10.0, 20.0, 35.0, 35.0]
    breaker.good(now)
    breaker.good(now + 34.0)
    breaker.good(now + 35.0)
    breaker.bad(now + 36.0, "raised")
    assert breaker.lets_through(now + 46.0)


def test_what_trips_while_it_is_open_changes_nothing() -> None:
    breaker = Breaker(10.0, 100.0, strikes=1)
    breaker.trip(0.0, "burn")
    breaker.trip(9.0, "stale")
    assert breaker.reason == "burn" and breaker.trips == 1 and breaker.lets_through(10.0)


def alerts(bad: list[tuple[float, float, int]], budget: float = 0.01) -> float | None:
    """One request a second; `bad`: from, to, every how many. Return when it alerts first."""
    burn = Burn(budget, 3600.0)
    for t in range(12 * 3600):
        wrong = any(a <= t < b and t % every == 0 for a, b, every in bad)
        if burn.add(float(t), wrong):
            return float(t)
    return None


def test_a_fast_burn_alerts_when_both_of_its_windows_are_above() -> None:
    # After six good hours every request fails. The long window of the fast pair passes 14.4 % when
    # x = 0.144 * 3600, 518 s on; its short one has long been above, the slow pair needs 1296 s.
    assert alerts([(21600, 1e9, 1)]) == pytest.approx(21600 + 518, abs=70)  # to a bucket


def test_a_slow_burn_alerts_by_the_slow_pair_alone() -> None:
    # 10 % is below 14.4 % but above 6 %: when 0.1 x = 0.06 * 21600, 12960 s on.
    assert alerts([(21600, 1e9, 10)]) == pytest.approx(21600 + 12960, abs=400)
    assert alerts([(21600, 1e9, 20)]) is None, "5 % is below both"


def test_a_burst_long_past_does_not_alert() -> None:
    burn = Burn(0.01, 3600.0)
    early = [burn.add(float(t), True) for t in range(19)]
    assert not any(early), "fewer than it takes to know a share"
    assert not any(burn.add(2000.0 + t, False) for t in range(1800))
    assert burn.add(3900.0, True) is False


def test_a_wide_budget_still_knows_what_is_too_much() -> None:
    assert alerts([(0, 1e9, 1)], budget=0.5) == 19.0
