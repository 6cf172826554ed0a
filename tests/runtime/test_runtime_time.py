"""A loop that stands still, a date that jumps: time goes on all the same."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from stand_ins import OneInstance, TimedBackend
from test_runtime_live import Keep
from test_runtime_modes import LONG
from test_runtime_queues import Live, cluster, play

from stoker.envs.cluster.live import LiveEngine
from stoker.runtime.clock import RealClock
from stoker.runtime.controller import Controller
from stoker.runtime.guard import Guard
from stoker.runtime.guard_settings import GuardSettings


def test_a_loop_that_stands_still_for_seconds_goes_on_where_time_is() -> None:
    """Keep-alives that ended meanwhile have ended, in their order, and requests are served."""
    spec = cluster(2, places=2.0)
    guard = Guard(Keep(3.0, 0.0), spec, settings=GuardSettings(max_age_s=5.0, hold_s=7.0, **LONG))
    scene = Live(spec)
    scene.controller = Controller(scene.engine, scene.backend, ["f0", "f1"], guard, scene.clock)

    async def scenario(s: Live) -> None:
        futures = [s.controller.request("f0", "x"), s.controller.request("f1", "x")]
        await s.until(2.0)
        s.clock.stall(60.0)
        futures.append(s.controller.request("f0", "y"))
        await s.until(100.0)
        assert all(f.done() and not f.exception() for f in futures)
        drops = [t for t, kind, _ in s.backend.log if kind == "drop"]
        assert drops[:2] == [62.0, 62.0]

    play(scene, scenario)
    bill = scene.engine.result(100.0).bill
    # Booked as it should have been: both until 1.5 + 3.0 s, not until 62 s.
    assert bill.device_gib_s < 2 * 4.5 + 100.0
    assert guard.counts.fallbacks["stale"] >= 1


def test_the_date_may_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    dates = iter(np.tile([1e9, -1e9, 2e9], 10_000).tolist())
    monkeypatch.setattr(time, "time", lambda: next(dates))

    async def main() -> None:
        clock = RealClock()
        planner = OneInstance(1, keep_s=0.05)
        backend = RealTimed(clock)
        controller = Controller(planner, backend, ["a"], clock=clock)
        await controller.start()
        for _ in range(3):
            answer = await asyncio.wait_for(controller.request("a", "x"), 5.0)
            assert answer.output == "xx" and 0.0 <= answer.finish_s - answer.arrival_s < 5.0
            await asyncio.sleep(0.1)
        assert controller.statistics.counts["drops"] >= 2
        await controller.close()

    asyncio.run(main())


class RealTimed(TimedBackend):
    """Loads and batches of a millisecond of real time."""

    def __init__(self, clock: RealClock) -> None:
        super().__init__(clock, 0.001, 0.001)  # type: ignore[arg-type]


def test_a_real_loop_that_is_blocked_for_a_second_survives_it() -> None:
    async def main() -> None:
        clock = RealClock()
        spec = cluster(1)
        engine = LiveEngine(spec)
        settings = GuardSettings(max_age_s=0.5, hold_s=0.01, **LONG)
        guard = Guard(Keep(0.2, 0.0), spec, settings=settings)
        controller = Controller(engine, RealTimed(clock), ["f0"], guard, clock)
        await controller.start()
        await asyncio.wait_for(controller.request("f0", "x"), 60.0)
        time.sleep(1.2)  # nothing in this process moves
        answer = await asyncio.wait_for(controller.request("f0", "y"), 60.0)
        assert answer.output == "yy"
        await asyncio.sleep(0.5)
        assert guard.counts.fallbacks["stale"] >= 1
        await controller.close()

    asyncio.run(main())
