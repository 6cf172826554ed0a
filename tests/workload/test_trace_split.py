"""Training, validation and test share neither functions nor hours."""

from __future__ import annotations

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import Split, Workload, generate, split


def whole() -> Workload:
    return generate(np.random.default_rng(0), functions=40, hours=10.0, requests_per_s=0.5)


def cut(seed: int = 0, **options: object) -> Split:
    return split(whole(), np.random.default_rng(seed), **options)  # type: ignore[arg-type]


def test_the_parts_have_disjoint_functions_in_the_shares_asked_for() -> None:
    s = cut(function_shares=(0.5, 0.25, 0.25))
    sets = [set(p.names) for p in (s.train, s.validation, s.test)]
    assert [len(x) for x in sets] == [20, 10, 10]
    assert len(set.union(*sets)) == 40
    assert s.later.names == s.train.names


def test_the_parts_hold_their_own_hours_only() -> None:
    w = whole()
    s = cut(edges_s=(3600.0, 7200.0, 10800.0, 36000.0))
    for part, start, end, functions in (
        (s.train, 3600.0, 7200.0, s.train_functions),
        (s.validation, 7200.0, 10800.0, s.validation_functions),
        (s.test, 10800.0, 36000.0, s.test_functions),
        (s.later, 10800.0, 36000.0, s.train_functions),
    ):
        inside = (w.arrival_s >= start) & (w.arrival_s < end) & np.isin(w.function, functions)
        assert part.arrival_s.tolist() == (w.arrival_s[inside] - start).tolist()
        assert part.horizon_s == end - start
        assert part.names == tuple(w.names[i] for i in functions)


def test_a_split_is_seeded_and_says_what_it_is() -> None:
    assert cut(1).train.names == cut(1).train.names
    assert cut(1).train.names != cut(2).train.names
    assert cut(1).test.source.endswith("test 21600-36000 s, 10 functions")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"function_shares": (0.9, 0.1, 0.1)}, "function_shares"),
        ({"function_shares": (0.9, 0.0, 0.1)}, "function_shares"),
        ({"edges_s": (0.0, 10.0, 10.0, 20.0)}, "edges_s"),
        ({"edges_s": (0.0, 10.0, 20.0, 1e9)}, "edges_s"),
        ({"function_shares": (0.98, 0.01, 0.01)}, "workload.names"),
    ],
)
def test_a_bad_split_is_refused(options: dict[str, object], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        cut(0, **options)
    assert caught.value.field == field
