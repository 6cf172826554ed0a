"""Ask a policy, off-line, what the runtime asked: would it have decided the same?

Reads the folder of a DecisionLog in the order of time, and takes the decisions where the policy of
then gave an answer. Decisions at idle events depend on their observation alone; a policy of ticks
is asked them in order and may remember.

Shapes: N decisions, F functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import PER_FUNCTION, Decision, IdlePlan, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster
from stoker.runtime.decision_log import BATCH, EVENT, PLAN, POLICY, SEEN, TICK
from stoker.runtime.event_guard import fault

CLOSE = 1e-5
"""Relative difference up to which two numbers count as the same: float32 on another processor."""
AT_ONCE = 4096


@dataclass
class Agreement:
    """How a policy's answers compare with those on record."""

    decisions: int = 0
    same: int = 0
    """In everything that the record says."""
    faults: int = 0
    """Answers that the guard would have refused."""
    differ: Counter[str] = field(default_factory=Counter)
    """Decisions that differ, by field."""
    largest: dict[str, float] = field(default_factory=dict)
    """Largest difference of a finite number, by field."""

    @property
    def share(self) -> float:
        """Share of the decisions that are the same; 1 if there are none."""
        return self.same / self.decisions if self.decisions else 1.0

    def compare(self, name: str, new: Any, old: Any) -> np.ndarray[Any, Any]:
        """Note one field of N decisions; return where it is the same. Shapes: (N, ...)"""
        new, old = np.asarray(new, np.float64), np.asarray(old, np.float64)
        same = np.isclose(new, old, rtol=CLOSE, atol=CLOSE, equal_nan=True)
        finite = np.isfinite(new) & np.isfinite(old)
        gap = float(np.abs(np.where(finite, new, 0.0) - np.where(finite, old, 0.0)).max())
        self.largest[name] = max(self.largest.get(name, 0.0), gap)
        each: np.ndarray[Any, Any] = same.reshape(len(same), -1).all(axis=1)
        if not each.all():
            self.differ[name] += int((~each).sum())
        return each


def ask_again(folder: str | Path, policy: Policy, cluster: Cluster | None = None) -> Agreement:
    """Compare a policy with a log.

    Args:
        folder: of the log.
        policy: heuristic, bundle or your own.
        cluster: that it is reset for; None where it needs none.

    Raises:
        SpecError: there is no log in the folder.
    """
    rows = [row for row in read_log(folder) if row["said_by"] == POLICY]
    if cluster is not None:
        policy.reset(cluster, 1)
    found = Agreement()
    act = getattr(policy, "act", None)
    events = [row for row in rows if row["kind"] == EVENT]
    for first in range(0, len(events) if act is not None else 0, AT_ONCE):
        _compare_events(found, policy, events[first : first + AT_ONCE])
    batches = [row for row in rows if row["kind"] == BATCH]
    prefer = getattr(getattr(policy, "batches", None), "prefer", None)
    if batches and prefer is not None:
        _compare_batches(found, prefer, batches)
    for row in rows:
        if row["kind"] == TICK and act is None and prefer is None:
            _compare_tick(found, policy, row)
    return found


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """Read all decisions of a log, oldest first."""
    from pyarrow import lib, parquet

    rows: list[dict[str, Any]] = []
    for path in sorted(Path(folder).glob("part-*.parquet")):
        try:
            rows += parquet.read_table(path).to_pylist()
        except (OSError, lib.ArrowException) as error:
            raise SpecError("log", str(path), f"a file of decisions ({error})") from error
    if not rows:
        raise SpecError("log", str(folder), "a folder with logged decisions (part-*.parquet)")
    return rows


def _compare_events(found: Agreement, policy: Policy, rows: list[dict[str, Any]]) -> None:
    seen = np.array([row["observation"] for row in rows], np.float32)
    plan: IdlePlan = policy.act(seen)  # type: ignore[attr-defined]
    found.decisions += len(rows)
    if fault(plan, len(rows)):
        found.faults += len(rows)
        return
    same = np.ones(len(rows), bool)
    for name in ("mix", "multiplier", "variant"):
        same &= found.compare(name, getattr(plan, name), [row[PLAN + name] for row in rows])
    found.same += int(same.sum())


def _compare_batches(
    found: Agreement,
    prefer: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    rows: list[dict[str, Any]],
) -> None:
    """Only what decides by the observation alone can be asked again: a bundle."""
    seen = np.array([row["observation"] for row in rows], np.float32)
    actions = prefer(seen).argmax(axis=1)
    found.decisions += len(rows)
    found.same += int(found.compare("action", actions, [row["action"] for row in rows]).sum())


def _compare_tick(found: Agreement, policy: Policy, row: dict[str, Any]) -> None:
    decision: Decision = policy.decide(as_snapshot(row))
    found.decisions += 1
    same = True
    for name in PER_FUNCTION:
        new, old = getattr(decision, name), row[name]
        if (new is None) != (old is None):
            found.differ[name] += 1
            same = False
        elif new is not None:
            flat = np.broadcast_to(np.asarray(new, np.float64), (1, len(old)))
            same &= bool(found.compare(name, flat, [old])[0])
    found.same += same


def as_snapshot(row: dict[str, Any]) -> Snapshot:
    """Rebuild what was seen at a tick."""
    functions = len(row[SEEN + "idle"])
    parts: dict[str, Any] = {}
    for f in fields(Snapshot):
        flat = np.array(row[SEEN + f.name], np.float64)
        if f.name == "observation":
            parts[f.name] = flat.astype(np.float32).reshape(1, -1)
        elif f.name in ("rate_hz", "gap_histogram"):
            parts[f.name] = flat.reshape(1, functions, -1)
        elif f.name in ("now_s", "age_s", "host_free_gib", "loads_in_progress", "memory_price"):
            parts[f.name] = flat
        else:
            parts[f.name] = flat.reshape(1, -1)
    return Snapshot(**parts)
