import math

from stoker.baselines.bounds.regret import gap_closed, regret


def test_regret_is_the_ratio_to_the_bound() -> None:
    assert regret(3.0, 2.0) == 1.5
    assert math.isnan(regret(3.0, 0.0))


def test_more_than_the_whole_gap_can_be_closed() -> None:
    assert gap_closed(10.0, 7.0, 8.0) == 1.5
    assert gap_closed(10.0, 10.0, 8.0) == 0.0
    assert math.isnan(gap_closed(8.0, 7.0, 9.0))
