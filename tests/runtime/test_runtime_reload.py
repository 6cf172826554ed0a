"""A bundle swapped under load: a good one takes over, a bad one is refused, nobody waits."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins import OneInstance, TimedBackend
from test_runtime_events import Acts, plan
from test_runtime_modes import CLUSTER, FUNCTIONS, Scene, Ticks, one_round

from stoker.agents.export import write_bundle
from stoker.agents.networks import Greedy
from stoker.baselines.base import Policy
from stoker.baselines.bundle import BundlePolicy
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.observe import K
from stoker.envs.cluster.spec import Rules
from stoker.runtime.clock import VirtualClock
from stoker.runtime.controller import Controller


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as `stoker export` writes it, with nothing learnt."""
    folder = tmp_path_factory.mktemp("bundle") / "good"
    seen = np.random.default_rng(0).normal(size=(1000, K)).astype(np.float32)
    torch.manual_seed(0)
    rules = Rules(eviction="hazard", plan="hazard", params={"prior_weight": 0.3})
    return write_bundle(folder, Greedy(None, None, 0.0), seen, rules, CLUSTER.first_bin_s, {})


def reloading(make: Callable[[], Policy], errors: list[str]) -> Callable[[Scene], object]:
    async def step(scene: Scene) -> None:
        try:
            await scene.controller.reload(make)
        except SpecError as error:
            errors.append(str(error))

    return step


def test_a_bundle_takes_over_between_two_decisions(bundle: Path) -> None:
    errors: list[str] = []
    old = Acts(plan(multiplier=3.0, variant=0))
    scene = Scene(old)
    swap = reloading(lambda: BundlePolicy(bundle), errors)
    before: list[float] = []

    async def look(s: Scene) -> None:
        before.extend(s.order("multiplier"))

    scene.play(one_round, look, swap, one_round)
    assert not errors and scene.guard.counts.reloads == 1
    assert before == [3.0] * FUNCTIONS and scene.order("multiplier") == [1.0] * FUNCTIONS
    assert old.calls == 1 + FUNCTIONS, "the old one is asked no more"
    assert scene.engine._sim.rules.params == {"prior_weight": 0.3}, "the bundle's own numbers"


def test_requests_are_served_while_a_bundle_is_looked_at(bundle: Path) -> None:
    """The new one takes a second to load; in virtual time a round is served meanwhile."""

    def slow() -> Policy:
        time.sleep(1.0)
        return BundlePolicy(bundle)

    served: list[int] = []

    async def both(s: Scene) -> None:
        task = asyncio.ensure_future(s.controller.reload(slow))
        began = time.perf_counter()
        await s.round()
        served.append(s.controller.statistics.counts["served"])
        assert time.perf_counter() - began < 0.9 and not task.done()
        await task
        await s.round()

    scene = Scene(Acts(plan(multiplier=3.0, variant=0))).play(one_round, both)
    assert served == [2 * FUNCTIONS] and scene.guard.counts.reloads == 1
    assert scene.controller.statistics.counts["served"] == 3 * FUNCTIONS


def truncated(folder: Path) -> None:
    graph = folder / "policy.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])


def half_a_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:60])


def other_schema(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": "0123"}))


def other_clock(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "first_bin_s": 99.0}))


def other_rules(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["rules"]["order"] = "edf"
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (truncated, "bundle.sha256"),
        (half_a_manifest, "bundle.manifest"),
        (other_schema, "bundle.schema"),
        (other_clock, "first_bin_s"),
        (other_rules, "policy.rules.order"),
        (shutil.rmtree, "bundle"),
    ],
)
def test_a_bad_bundle_is_one_line_and_the_old_one_goes_on(
    bundle: Path, tmp_path: Path, spoil: Callable[[Path], None], field: str
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(bundle, bad)
    spoil(bad)
    errors: list[str] = []
    old = Acts(plan(multiplier=3.0, variant=0))
    scene = Scene(old).play(reloading(lambda: BundlePolicy(bad), errors), one_round)
    assert len(errors) == 1 and field in errors[0] and "\n" not in errors[0]
    assert scene.guard.counts.refused_reloads == 1 and scene.guard.counts.reloads == 0
    assert field in scene.guard.counts.last_error
    assert scene.order("multiplier") == [3.0] * FUNCTIONS


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Acts(plan(multiplier=-1.0)), "illegal"),
        (lambda: Acts(RuntimeError("odd")), "odd"),
        (lambda: Ticks(), "asked at idle events"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_policy_that_would_not_do_is_not_taken(make: Callable[[], Policy], field: str) -> None:
    errors: list[str] = []
    scene = Scene(Acts(plan(multiplier=3.0, variant=0)))
    scene.play(one_round, reloading(make, errors), one_round)
    assert len(errors) == 1 and field in errors[0]
    assert scene.order("multiplier") == [3.0] * FUNCTIONS


def test_a_policy_of_ticks_can_be_swapped_too() -> None:
    errors: list[str] = []
    fresh, refused = Ticks(), Ticks(bad=(0,))
    scene = Scene(Ticks()).play(
        one_round, reloading(lambda: refused, errors), reloading(lambda: fresh, errors), one_round
    )
    assert len(errors) == 1 and "bad" in errors[0]
    assert fresh.asked == 2 and scene.order("keep_alive_s") == [1002.0] * FUNCTIONS


def test_a_controller_without_a_guard_has_nothing_to_swap() -> None:
    async def main() -> None:
        clock = VirtualClock()
        controller = Controller(OneInstance(1), TimedBackend(clock), ["a"], clock=clock)
        with pytest.raises(SpecError, match="a controller with a guard"):
            await controller.reload(Ticks)

    asyncio.run(main())
