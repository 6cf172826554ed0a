"""Decisions on record: whole whatever happens, bounded, and asked again off-line."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_ins import OneInstance, blank_snapshot
from test_runtime_events import Acts, plan
from test_runtime_guard import CLUSTER, KEEP, Says
from test_runtime_modes import FUNCTIONS, LONG, Scene, Ticks, one_round

from stoker.baselines.base import Policy
from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.decision import Decision, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.runtime.ask_again import ask_again, read_log
from stoker.runtime.clock import VirtualClock
from stoker.runtime.decision_log import DecisionLog
from stoker.runtime.guard import Guard
from stoker.runtime.guard_settings import GuardSettings

NAMES = [f"f{i}" for i in range(FUNCTIONS)]


def logged(folder: Path, policy: Policy, *steps: Any, **settings: Any) -> list[dict[str, Any]]:
    log = DecisionLog(folder, NAMES)
    Scene(policy, log=log, **settings).play(*steps)
    log.close()
    assert log.lost == log.errors == 0
    return read_log(folder)


def test_every_decision_of_an_event_policy_is_on_record(tmp_path: Path) -> None:
    policy = Acts(plan(multiplier=3.0, variant=0))
    rows = logged(tmp_path, policy, one_round)
    tick, *events = rows
    assert tick["kind"] == "tick" and tick["function"] == -1 and len(events) == FUNCTIONS
    assert sorted(row["function"] for row in events) == list(range(FUNCTIONS))
    first = events[0]
    assert (first["who"], first["said_by"], first["why"]) == ("policy", "policy", "")
    assert (first["mode"], first["plan_multiplier"], first["plan_variant"]) == ("active", 3.0, 0)
    assert len(first["observation"]) == 73 and 0.0 < first["time_s"] < 10.0
    assert 0.0 <= first["latency_s"] < 5.0
    assert [row["time_s"] for row in rows] == sorted(row["time_s"] for row in rows)


def test_the_record_says_why_the_policy_did_not_steer(tmp_path: Path) -> None:
    def whys(name: str, policy: Policy, *steps: Any, **settings: Any) -> list[tuple[str, str, str]]:
        rows = logged(tmp_path / name, policy, *steps, **settings)
        events = [row for row in rows if row["kind"] == "event"]
        return sorted({(row["who"], row["said_by"], row["why"]) for row in events})

    good = plan(multiplier=3.0, variant=0)
    assert whys("s", Acts(good), one_round, mode="shadow") == [("fallback", "policy", "shadow")]
    assert whys("c", Acts(good), one_round, mode="canary", canary_share=0.5) == [
        ("fallback", "fallback", "canary"), ("policy", "policy", "")
    ]  # fmt: skip
    assert whys("n", Acts(plan(multiplier=np.nan)), one_round, hold_s=1e5, longest_hold_s=1e5) == [
        ("fallback", "fallback", "held"), ("fallback", "fallback", "nan")
    ]  # fmt: skip

    async def trip(scene: Scene) -> None:
        scene.guard.steering.trip("burn")

    found = whys("t", Acts(good), trip, one_round, hold_s=0.0)
    assert found == [("fallback", "policy", "trial"), ("policy", "policy", "")]


def test_a_policy_asked_again_agrees_with_itself_and_not_with_another(tmp_path: Path) -> None:
    logged(tmp_path, Acts(plan(multiplier=3.0, variant=0)), one_round)
    own = ask_again(tmp_path, Fixed(3.0))
    assert (own.decisions, own.same, own.share) == (FUNCTIONS, FUNCTIONS, 1.0)
    other = ask_again(tmp_path, Fixed(2.0))
    assert other.share == 0.0 and other.differ == {"multiplier": FUNCTIONS}
    assert other.largest["multiplier"] == 1.0 and other.largest["mix"] == 0.0
    assert ask_again(tmp_path, Fixed(float("nan"))).faults == FUNCTIONS


class Fixed(Acts):
    """The same plan for any number of decisions."""

    def __init__(self, multiplier: float) -> None:
        super().__init__(None)
        self.multiplier = multiplier

    def act(self, observation: np.ndarray) -> Any:
        one, n = plan(self.multiplier, 0), len(observation)
        return type(one)(
            np.repeat(one.mix, n, 0), np.repeat(one.multiplier, n), np.repeat(one.variant, n)
        )


def test_ticks_are_asked_again_in_order_with_what_was_seen(tmp_path: Path) -> None:
    rows = logged(tmp_path, Ticks(bad=(1,)), one_round, one_round, one_round, hold_s=0.0)
    assert [row["why"] for row in rows] == ["", "raised", "", ""]
    assert rows[0]["keep_alive_s"] == [1001.0] * FUNCTIONS and rows[0]["max_batch"] is None
    # Ticks counts how often it is asked; the tick at which it raised is not on record.
    again = ask_again(tmp_path, Ticks())
    assert (again.decisions, again.same) == (3, 1) and again.largest["keep_alive_s"] == 1.0

    class Stands(Policy):
        seen: list[Snapshot] = []  # noqa: RUF012 - of one test

        def decide(self, snapshot: Snapshot) -> Decision:
            self.seen.append(snapshot)
            return Decision()

    assert ask_again(tmp_path, Stands()).differ == {"keep_alive_s": 3}
    last = Stands.seen[-1]
    assert last.now_s.tolist() == [30.0] and last.arrivals.sum() == 3 * FUNCTIONS
    assert last.rate_hz.shape == (1, FUNCTIONS, 4) and last.gap_histogram.shape == (
        1,
        FUNCTIONS,
        72,
    )


def test_infinite_orders_survive_the_record(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, ["a", "b"])
    guard = Guard(Says(KEEP), CLUSTER, None, GuardSettings(**LONG), log)  # type: ignore[arg-type]
    guard.attend(OneInstance(2), VirtualClock())
    asyncio.run(guard.decide(blank_snapshot(2)))
    log.close()
    (row,) = read_log(tmp_path)
    assert row["keep_alive_s"] == [1.0, np.inf]
    assert ask_again(tmp_path, Says(KEEP)).share == 1.0
    assert ask_again(tmp_path, FixedTtl(1.0), CLUSTER).differ == {
        "keep_alive_s": 1, "host_keep_alive_s": 1
    }  # fmt: skip


# FILES


def fill(log: DecisionLog, rows: int) -> None:
    guard = Guard(Says(KEEP), CLUSTER, None, GuardSettings(**LONG))  # type: ignore[arg-type]
    for _ in range(rows):
        log.tick(guard.steering, blank_snapshot(2), (KEEP, KEEP), "", 0.0)


def test_what_was_written_is_whole_while_the_runtime_goes_on(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, ["a", "b"], flush_s=0.05)
    for _ in range(3):
        fill(log, 5)
        assert eventually(lambda: log.written % 5 == 0 and log.written > 0)
    assert len(read_log(tmp_path)) == log.written, "no file needs the end of the run"
    log.close()
    more = DecisionLog(tmp_path, ["a", "b"])
    fill(more, 2)
    more.close()
    assert len(read_log(tmp_path)) == 17, "a later run adds to it"
    assert not list(tmp_path.glob(".*")), "no draft is left"


def eventually(holds: Any, seconds: float = 10.0) -> bool:
    import time

    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_a_disk_that_is_full_costs_decisions_on_record_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = DecisionLog(tmp_path, ["a", "b"], flush_s=0.02)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))  # the system refuses longer files
    try:
        fill(log, 3)
        assert eventually(lambda: log.errors == 1)
        fill(log, 4)
        assert eventually(lambda: log.errors == 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (log.lost, log.written) == (7, 0)
    fill(log, 2)
    log.close()
    assert log.written == 2 and len(read_log(tmp_path)) == 2
    assert sum("cannot be logged" in record.message for record in caplog.records) == 1
    assert not list(tmp_path.glob(".*"))


def test_memory_is_bounded_when_the_writer_does_not_keep_up(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, ["a", "b"], flush_s=1e6, most_bytes=20_000)
    fill(log, 100)
    assert log.lost > 50 and log._bytes <= 25_000
    log.close()
    assert log.written + log.lost == 100


def test_a_place_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(SpecError, match=r"log = .*a folder to write to"):
        DecisionLog(tmp_path / "x", [])
    with pytest.raises(SpecError, match="part-"):
        read_log(tmp_path)
    (tmp_path / "part-000001.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(SpecError, match="a file of decisions"):
        read_log(tmp_path)
