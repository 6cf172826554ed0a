"""What is known of the traffic outlives the controller: saved whole, recalled, never a pickle."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from stand_ins import OneInstance, TimedBackend
from test_runtime_queues import cluster

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.live import LiveEngine
from stoker.runtime.clock import VirtualClock
from stoker.runtime.controller import Controller
from stoker.runtime.keeper import Keeper


def test_a_controller_that_starts_again_knows_the_traffic(tmp_path: Path) -> None:
    path = tmp_path / "memory.npz"

    async def life(requests: int, every_s: float = 60.0) -> LiveEngine:
        clock = VirtualClock()
        spec = cluster(2, places=2.0)
        engine = LiveEngine(spec)
        keeper = Keeper(path, every_s)
        controller = Controller(
            engine, TimedBackend(clock), ["f0", "f1"], clock=clock, keeper=keeper
        )
        await controller.start()
        for k in range(requests):
            await clock.run_until(10.0 * k)
            controller.request("f0", "x")
        await clock.run_until(10.0 * requests)
        await controller.close()
        return engine

    first = asyncio.run(life(20))
    assert not list(tmp_path.glob(".*")) and path.stat().st_size < 20_000
    second = asyncio.run(life(0))
    seen, known = first.snapshot(), second.snapshot()
    assert known.arrivals.tolist() == [[20, 0]]
    np.testing.assert_array_equal(known.gap_histogram, seen.gap_histogram)
    np.testing.assert_array_equal(known.rate_hz, seen.rate_hz)
    away_s = known.now_s[0] - known.last_arrival_s[0, 0] - 10.0
    assert 0.0 <= away_s < 30.0, "the time between the two lives, by the date"


def test_what_is_known_is_saved_while_it_serves(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "memory.npz"

    async def main() -> None:
        clock = VirtualClock()
        controller = Controller(
            OneInstance(1), TimedBackend(clock), ["a"], clock=clock, keeper=Keeper(path, 5.0)
        )
        await controller.start()
        await clock.run_until(6.0)
        for _ in range(500):
            if path.exists():
                break
            await asyncio.sleep(0.01)
        assert path.exists(), "a life that ends without warning leaves this"
        await controller.close()

    asyncio.run(main())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive at all"])
def test_a_memory_that_is_damaged_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "memory.npz"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"memory = .*a file of this runtime"):
        Keeper(path).restore(OneInstance(1))


def test_a_pickle_in_the_memory_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "memory.npz"
    np.savez(path, saved_at=np.array([{"a": object}], object))
    with pytest.raises(SpecError, match="a file of this runtime"):
        Keeper(path).restore(OneInstance(1))


def test_a_date_set_back_between_two_lives_is_no_time_at_all(tmp_path: Path) -> None:
    path = tmp_path / "memory.npz"
    Keeper(path).save({"instances": np.array(3)})
    with np.load(path) as archive:
        parts = {name: archive[name] for name in archive.files}
    np.savez(path, **{**parts, "saved_at": np.array(time.time() + 1e6)})
    planner = OneInstance(1)
    assert Keeper(path).restore(planner)
    ((memory, away_s),) = planner.recalled
    assert memory == {"instances": 3} and away_s == 0.0


def test_a_process_killed_while_it_saves_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "memory.npz"
    program = (
        "import sys, numpy as np; from stoker.runtime.keeper import Keeper\n"
        "keeper = Keeper(sys.argv[1])\n"
        "while True: keeper.save({'instances': np.zeros(200_000)})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)])
    try:
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.25)
    finally:
        process.kill()
        process.wait()
    planner = OneInstance(1)
    assert Keeper(path).restore(planner)
    assert planner.recalled[0][0]["instances"].shape == (200_000,)


def test_no_memory_is_a_first_life(tmp_path: Path) -> None:
    assert not Keeper(tmp_path / "none.npz").restore(OneInstance(1))
