"""Scenarios in virtual time: the same controller, a stand-in planner and backend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stand_ins import OneInstance, TimedBackend

from stoker.envs.cluster.errors import SpecError
from stoker.runtime.clock import VirtualClock
from stoker.runtime.controller import Controller
from stoker.runtime.requests import Answer, RequestFailed


class Scene:
    """A controller over two functions, in virtual time."""

    def __init__(self, keep_s: float = 5.0) -> None:
        self.clock = VirtualClock()
        self.backend = TimedBackend(self.clock)
        self.planner = OneInstance(2, keep_s)
        self.controller = Controller(self.planner, self.backend, ["a", "b"], clock=self.clock)

    async def until(self, t: float) -> None:
        await self.clock.run_until(t)


def play(scenario: Callable[[Scene], Awaitable[None]], **options: Any) -> Scene:
    async def main() -> Scene:
        scene = Scene(**options)
        await scene.controller.start()
        await scenario(scene)
        await scene.controller.close()
        return scene

    return asyncio.run(main())


def test_a_first_request_loads_then_runs_and_a_second_finds_it_warm() -> None:
    async def scenario(s: Scene) -> None:
        first = s.controller.request("a", "x")
        await s.until(3.0)
        assert first.result() == Answer("xx", 0.0, 1.0, 1.5, 1, 0.5)
        second = s.controller.request("a", "y")
        await s.until(4.0)
        assert second.result().finish_s == 3.5

    scene = play(scenario)
    assert [e[:2] for e in scene.backend.log] == [(0.0, "load"), (1.0, "run"), (3.0, "run")]
    assert scene.controller.statistics.counts["served"] == 2


def test_keep_alive_ends_at_its_time_and_not_under_a_request() -> None:
    async def scenario(s: Scene) -> None:
        s.controller.request("a", "x")
        await s.until(6.4)
        late = s.controller.request("a", "y")
        await s.until(20.0)
        assert late.result().finish_s == pytest.approx(6.9)

    scene = play(scenario)
    assert scene.backend.log[-1] == (pytest.approx(11.9), "drop", 1)


def test_two_hundred_first_requests_are_one_load_and_one_batch() -> None:
    async def scenario(s: Scene) -> None:
        futures = [s.controller.request("a", "x") for _ in range(200)]
        await s.until(10.0)
        assert all(f.result().batch == 200 for f in futures)

    scene = play(scenario)
    assert [kind for _, kind, _ in scene.backend.log] == ["load", "run", "drop"]


def test_a_dead_worker_fails_what_it_ran_and_the_rest_is_served_after_a_load() -> None:
    async def scenario(s: Scene) -> None:
        running = s.controller.request("a", "x")
        await s.until(1.2)
        queued = s.controller.request("a", "y")
        other = s.controller.request("b", "z")
        s.backend.die()
        for future in (running, other):  # other waited for a load that died too
            with pytest.raises(RequestFailed, match="the worker of device 0 died"):
                future.result()
        again = s.controller.request("b", "z")
        await s.until(5.0)
        assert queued.result().output == "yy" and again.result().output == "zz"

    scene = play(scenario)
    counts = scene.controller.statistics.counts
    assert (counts["failed"], counts["served"], counts["lost_instances"]) == (2, 2, 2)


def test_a_model_that_cannot_be_loaded_fails_its_requests_and_is_tried_again_later() -> None:
    async def scenario(s: Scene) -> None:
        s.backend.broken.add(0)
        waiting = [s.controller.request("a", "x") for _ in range(3)]
        fine = s.controller.request("b", "z")
        await s.until(4.0)
        for future in waiting:
            with pytest.raises(RequestFailed, match="a: no such weights"):
                future.result()
        assert fine.result().output == "zz"
        s.backend.broken.clear()
        again = s.controller.request("a", "x")
        await s.until(20.0)
        assert again.result().output == "xx"

    assert play(scenario).controller.open_requests == 0


def test_a_request_that_cannot_be_served_fails_without_its_batch() -> None:
    async def scenario(s: Scene) -> None:
        futures = [s.controller.request("a", p) for p in ("x", "poison", "y")]
        await s.until(10.0)
        assert futures[0].result().output == "xx" and futures[2].result().output == "yy"
        with pytest.raises(RequestFailed, match="cannot be served"):
            futures[1].result()

    play(scenario)


def test_closing_answers_everybody() -> None:
    held: list[asyncio.Future[Answer]] = []

    async def scenario(s: Scene) -> None:
        held.append(s.controller.request("a", "x"))
        await s.until(1.2)
        held.append(s.controller.request("b", "x"))

    scene = play(scenario)
    assert scene.backend.closed
    for future in held:
        assert "closing" in str(future.exception())


def test_a_planner_that_raises_leaves_nobody_waiting() -> None:
    async def scenario(s: Scene) -> None:
        waiting = s.controller.request("a", "x")
        s.planner.batches = None  # type: ignore[assignment]
        await s.until(10.0)
        assert "the planner failed: TypeError" in str(waiting.exception())
        assert isinstance(s.controller.fault, TypeError)
        late = s.controller.request("a", "y")
        assert "closing" in str(late.exception())

    play(scenario)


def test_a_client_that_went_away_disturbs_nobody() -> None:
    async def scenario(s: Scene) -> None:
        gone, stays = s.controller.request("a", "x"), s.controller.request("a", "y")
        gone.cancel()
        await s.until(10.0)
        assert stays.result().output == "yy"

    play(scenario)


def test_an_unknown_function_is_named_with_the_choices() -> None:
    async def scenario(s: Scene) -> None:
        with pytest.raises(SpecError, match=r"request\.function = 'c'.*a \| b"):
            s.controller.request("c", "x")
        with pytest.raises(SpecError, match="request"):
            s.controller.request(7, "x")

    play(scenario)
