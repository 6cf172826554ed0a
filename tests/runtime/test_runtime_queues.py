"""Deadlines, clients that go away, queues that are full, and time that does odd things."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from stand_ins import TimedBackend
from test_runtime_live import Keep

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node, Rules
from stoker.runtime.clock import VirtualClock
from stoker.runtime.controller import Controller
from stoker.runtime.controller_settings import ControllerSettings
from stoker.runtime.requests import ENDS, RequestFailed


def cluster(functions: int = 2, places: float = 1.0, **changes: Any) -> Cluster:
    standard = {"runtime_s": 1.0, "alpha_s": 0.5, "max_batch": 4, **changes}
    made = tuple(Function(f"f{i}", 1.0, 1.0, **standard) for i in range(functions))
    return Cluster(Node((Gpu(places),)), made)


class Live:
    """The controller over the compiled planner: a load takes 1 s, a batch 0.5 s."""

    def __init__(
        self, spec: Cluster | None = None, rules: Rules | None = None, **settings: Any
    ) -> None:
        self.clock = VirtualClock()
        chosen = ControllerSettings(**settings)
        self.spec = spec or cluster()
        self.engine = LiveEngine(self.spec, rules, capacity=4, residency_s=chosen.residency_s)
        self.backend = TimedBackend(self.clock)
        names = [f.name for f in self.spec.functions]
        self.controller = Controller(
            self.engine, self.backend, names, clock=self.clock, settings=chosen
        )

    async def until(self, t: float) -> None:
        await self.clock.run_until(t)

    @property
    def ends(self) -> dict[str, int]:
        counts = self.controller.statistics.counts
        return {kind: counts[kind] for kind in ENDS if counts[kind]}


def play(scene: Live, scenario: Callable[[Live], Awaitable[None]]) -> Live:
    async def main() -> None:
        await scene.controller.start()
        await scenario(scene)
        assert scene.controller.open_requests == 0
        assert sum(scene.ends.values()) == scene.controller.statistics.counts["requests"]
        await scene.controller.close()

    asyncio.run(main())
    return scene


def reason(future: asyncio.Future[Any]) -> str:
    error = future.exception()
    assert isinstance(error, RequestFailed)
    return error.reason


# DEADLINES


def test_a_request_whose_deadline_passes_in_the_queue_is_refused() -> None:
    async def scenario(s: Live) -> None:
        first = s.controller.request("f0", "x")
        await s.until(1.2)  # f0 runs until 1.5; the only place is taken
        late = s.controller.request("f1", "y", deadline_s=0.2)
        patient = s.controller.request("f1", "z")
        await s.until(1.4)
        assert reason(late) == "no answer could begin within 0.2 s"
        await s.until(10.0)
        assert first.result().output == "xx" and patient.result().batch == 1

    assert play(Live(), scenario).ends == {"served": 2, "expired": 1}


def test_a_deadline_that_passes_under_way_changes_nothing() -> None:
    async def scenario(s: Live) -> None:
        first = s.controller.request("f0", "x")
        await s.until(10.0)
        assert first.result().finish_s == 1.5

    assert play(Live(deadline_s=1.2), scenario).ends == {"served": 1}


def test_a_function_whose_requests_have_all_expired_asks_for_no_memory() -> None:
    async def scenario(s: Live) -> None:
        s.controller.request("f0", "x")
        await s.until(1.2)
        s.controller.request("f1", "y", deadline_s=0.1)
        await s.until(10.0)
        assert [kind for _, kind, _ in s.backend.log] == ["load", "run"]

    play(Live(), scenario)


def test_a_request_bound_to_an_instance_that_loads_expires_and_nothing_is_run_for_it() -> None:
    async def scenario(s: Live) -> None:
        bound = s.controller.request("f0", "x", deadline_s=0.4)
        await s.until(0.5)
        assert "0.4 s" in reason(bound)
        await s.until(5.0)
        again = s.controller.request("f0", "y")
        await s.until(10.0)
        assert again.result().output == "yy"
        assert [kind for _, kind, _ in s.backend.log] == ["load", "run"]

    play(Live(rules=Rules(scale_out="per_request", overload="drop")), scenario)


# CLIENTS THAT GO AWAY


def test_a_client_that_goes_away_leaves_the_queue() -> None:
    async def scenario(s: Live) -> None:
        stays, gone = s.controller.request("f0", "x"), s.controller.request("f0", "y")
        gone.cancel()
        await s.until(10.0)
        assert stays.result().batch == 1, "nothing was run for the one that went"

    assert play(Live(), scenario).ends == {"served": 1, "cancelled": 1}


def test_the_answer_to_a_client_that_has_gone_is_thrown_away() -> None:
    async def scenario(s: Live) -> None:
        stays, gone = s.controller.request("f0", "x"), s.controller.request("f0", "y")
        await s.until(1.1)
        gone.cancel()
        await s.until(10.0)
        assert stays.result().batch == 2

    assert play(Live(), scenario).ends == {"served": 1, "cancelled": 1}


def test_clients_that_leave_at_random_take_nobody_with_them() -> None:
    rng = np.random.default_rng(0)

    async def scenario(s: Live) -> None:
        futures = []
        for k in range(400):
            await s.until(0.1 * k)
            futures.append(s.controller.request(int(rng.integers(0, 4)), "x"))
            if rng.random() < 0.4:
                rng.choice(np.array(futures[-20:], object)).cancel()
        await s.until(200.0)
        assert all(f.cancelled() or f.result().output == "xx" for f in futures)

    spec = cluster(4, places=2.0)
    ends = play(Live(spec), scenario).ends
    assert set(ends) == {"served", "cancelled"} and ends["cancelled"] > 50


# QUEUES


def test_of_two_hundred_first_requests_one_loads_and_those_beyond_the_limit_are_refused() -> None:
    async def scenario(s: Live) -> None:
        futures = [s.controller.request("f0", "x") for _ in range(200)]
        other = s.controller.request("f1", "y")
        await s.until(0.9)
        assert [reason(f) for f in futures[50:]] == ["50 requests wait already"] * 150
        assert not any(f.done() for f in futures[:50])
        await s.until(60.0)
        assert all(f.result().output == "xx" for f in futures[:50])
        assert other.result().output == "yy", "another function's queue is its own"
        loads = [fn for _, kind, fn in s.backend.log if kind == "load"]
        assert loads == [0, 1]

    scene = play(Live(queue_limit=50), scenario)
    assert scene.ends == {"served": 51, "overflow": 150}


def test_a_limit_of_none_waits_refuses_everything_that_is_cold() -> None:
    async def scenario(s: Live) -> None:
        assert "0 requests wait" in reason(s.controller.request("f0", "x"))
        await s.until(1.0)

    play(Live(queue_limit=0), scenario)


def test_models_that_take_turns_on_one_place_are_not_swapped_all_the_time() -> None:
    """A policy that drops at once, two models and one place: residency bounds the loads."""

    def loads(residency_s: float) -> int:
        spec = cluster(1)
        scene = Live(spec, residency_s=residency_s)

        async def scenario(s: Live) -> None:
            order = Keep(0.0, 0.0)
            order.reset(spec, 1)
            s.engine.apply(order.decide(s.engine.snapshot()))
            for k in range(100):
                await s.until(3.0 * k)
                s.controller.request("f0", "x")
            await s.until(400.0)

        play(scene, scenario)
        return scene.controller.statistics.counts["loads_disk"]

    # Loaded at 1, kept to 31: the requests up to 30 find it; then again every 33 s.
    assert loads(0.0) == 100 and loads(30.0) == 10


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"deadline_s": 0.0}, r"limits\.deadline_s"),
        ({"queue_limit": -1}, r"limits\.queue_limit"),
        ({"queue_limit": 1.5}, r"limits\.queue_limit"),
        ({"residency_s": float("inf")}, r"limits\.residency_s"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError, match=field):
        ControllerSettings(**settings)
