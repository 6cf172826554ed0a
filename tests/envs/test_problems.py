"""Problems drawn from a trace: what an episode is made of, and that a seed decides it."""

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.problems import TraceProblems, stream
from stoker.envs.workload import Workload

NAMES = tuple(f"f{k}" for k in range(6))
TRACE = Workload(
    np.arange(0.0, 7200.0, 10.0), np.arange(720, dtype=np.int32) % 6, NAMES, 7200.0,
    np.full(720, 0.5),
)  # fmt: skip


def test_an_episode_is_a_window_of_some_functions() -> None:
    cluster, part = TraceProblems(TRACE, functions=3, hours=0.5, ratios=(0.5,)).sample(
        stream(1, 0, 0)
    )
    assert len(cluster.functions) == len(part.names) == len(set(part.names)) == 3
    assert set(part.names) <= set(NAMES)
    assert part.horizon_s == 1800.0
    # Each function calls once a minute: 30 in half an hour.
    assert np.bincount(part.function).tolist() == [30, 30, 30]
    assert part.arrival_s.min() >= 0.0 and part.arrival_s.max() <= 1800.0


def test_the_same_stream_draws_the_same_episode() -> None:
    problems = TraceProblems(TRACE, functions=3, hours=0.5)
    (a, one), (b, two) = (problems.sample(stream(1, 2, 3)) for _ in range(2))
    assert a == b and one.arrival_s.tobytes() == two.arrival_s.tobytes()
    _, other = problems.sample(stream(1, 2, 4))
    assert other.arrival_s.tobytes() != one.arrival_s.tobytes()


@pytest.mark.parametrize(
    ("changes", "field"), [({"functions": 7}, "problems.functions"), ({"hours": 3.0}, "hours")]
)
def test_what_the_trace_cannot_give_is_refused(changes: dict[str, float], field: str) -> None:
    with pytest.raises(SpecError, match=field):
        TraceProblems(TRACE, **{"functions": 3, "hours": 0.5, **changes})  # type: ignore[arg-type]
