"""Every decision of the runtime as Parquet: what was seen, what was said, who decided and why.

A folder of small files, one a flush: each is written beside its place and renamed, so that whoever
reads while the runtime serves, or after it was killed, finds whole files. A thread writes; what it
cannot write (a full disk) is counted and let go, and serving goes on.

Shapes: N decisions, F functions, K columns.  Units: seconds, bytes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.decision import PER_FUNCTION, Decision, IdlePlan, Snapshot
from stoker.envs.cluster.errors import SpecError, require

if TYPE_CHECKING:
    from stoker.runtime.steering import Mask, Steering

SEEN, PLAN = "seen_", "plan_"
"""Before the names of a snapshot's fields, and of those of a plan at an event."""
EVENT, BATCH, TICK = "event", "batch", "tick"
POLICY, FALLBACK = "policy", "fallback"
"""`who` steered, and whose answer is on record (`said_by`): in shadow these differ."""
ALL = -1
"""Function of a decision at a tick: it is about all of them."""
FLUSH_S = 10.0
ROW_BYTES = 200
"""A row without its arrays, roughly."""
NUMBERS = ("time_s", "latency_s", f"{PLAN}multiplier")
WORDS = ("kind", "mode", "who", "why", "said_by")
LISTS = (f"{PLAN}mix", *(SEEN + f.name for f in fields(Snapshot)), *PER_FUNCTION)

Row = dict[str, Any]
_log = logging.getLogger(__name__)


class DecisionLog:
    """Takes decisions in at no cost to speak of, writes them at a bounded interval.

    Args:
        folder: made if it is not there; a run adds to what lies there.
        names: of the functions, kept with every file.
        flush_s: decisions are on the disk so long after they were made.
        group_bytes: ...or when so many bytes wait.
        most_bytes: more than these do not wait: what comes then is counted as lost.

    Raises:
        SpecError: the folder cannot be made.
    """

    def __init__(
        self,
        folder: str | Path,
        names: Sequence[str],
        flush_s: float = FLUSH_S,
        group_bytes: int = 2**22,
        most_bytes: int = 2**26,
    ) -> None:
        require(flush_s > 0.0, "log.flush_s", flush_s, "a time > 0")
        self.folder, self.names = Path(folder), tuple(names)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for draft in self.folder.glob(".*.draft"):
                draft.unlink()
        except OSError as error:
            reason = error.strerror or "no reason given"
            raise SpecError("log", str(folder), f"a folder to write to ({reason})") from error
        self.written = self.lost = self.errors = 0
        """Rows on the disk, rows let go, files that could not be written."""
        self._part = max((int(p.stem[5:]) for p in self.folder.glob("part-*.parquet")), default=0)
        self._flush_s, self._group, self._most = flush_s, group_bytes, most_bytes
        self._rows: list[Row] = []
        self._bytes = 0
        self._closed = False
        self._turn = threading.Condition()
        self._thread = threading.Thread(target=self._write_on, daemon=True)
        self._thread.start()

    def events(
        self,
        steering: Steering,
        at: tuple[float, NDArray[np.int64], NDArray[np.float32]],
        plans: tuple[IdlePlan | None, IdlePlan],
        mine: Mask,
        why: str,
        seconds: float,
    ) -> None:
        """Take in decisions at an idle event: the policy's plan, if it gave one, or the usual one.

        `at`: time, functions and observations. Shapes: (N,), (N, K)
        """
        now_s, functions, observation = at
        mode = steering.settings.mode
        said, said_by = (plans[0], POLICY) if plans[0] is not None else (plans[1], FALLBACK)
        mix = np.asarray(said.mix, np.float64)
        for k, fn in enumerate(functions.tolist()):
            row = {
                "time_s": now_s, "kind": EVENT, "function": fn, "mode": mode,
                "who": POLICY if mine[k] else FALLBACK, "why": why, "latency_s": seconds,
                "said_by": said_by, "observation": observation[k],
                f"{PLAN}mix": mix[k], f"{PLAN}multiplier": float(said.multiplier[k]),
                f"{PLAN}variant": int(said.variant[k]),
            }  # fmt: skip
            self._add(row, observation[k].nbytes + mix[k].nbytes)

    def batch(
        self,
        steering: Steering,
        at: tuple[float, int, NDArray[np.float32], int],
        said: int | None,
        mine: bool,
        why: str,
        seconds: float,
    ) -> None:
        """Take in a decision on a batch: the policy's action, if it gave one, or the usual one.

        `at`: time, function, observation and the usual action. Shape: (K,)
        """
        now_s, fn, observation, usual = at
        action, said_by = (said, POLICY) if said is not None else (usual, FALLBACK)
        row = {
            "time_s": now_s, "kind": BATCH, "function": fn,
            "mode": steering.settings.mode, "who": POLICY if mine else FALLBACK, "why": why,
            "latency_s": seconds, "said_by": said_by, "observation": observation, "action": action,
        }  # fmt: skip
        self._add(row, observation.nbytes)

    def tick(
        self,
        steering: Steering,
        snapshot: Snapshot,
        decisions: tuple[Decision | None, Decision],
        why: str,
        seconds: float,
    ) -> None:
        """Take in a decision at a tick: what the policy said, if it did, or what was ordered."""
        said, said_by = decisions[0], POLICY
        if said is None:
            said, said_by = decisions[1], FALLBACK
        row: Row = {
            "time_s": steering.clock.now(), "kind": TICK, "function": ALL,
            "mode": steering.settings.mode, "why": why, "latency_s": seconds, "said_by": said_by,
            "who": said_by if steering.steers else FALLBACK,
        }  # fmt: skip
        size = 0
        for name in PER_FUNCTION:
            value = getattr(said, name)
            if value is not None:
                shape = np.shape(snapshot.idle)
                row[name] = np.broadcast_to(np.asarray(value, np.float64), shape).ravel()
                size += row[name].nbytes
        for f in fields(Snapshot):
            row[SEEN + f.name] = np.asarray(getattr(snapshot, f.name), np.float64).ravel()
            size += row[SEEN + f.name].nbytes
        self._add(row, size)

    def _add(self, row: Row, size: int) -> None:
        with self._turn:
            if self._closed or self._bytes + size > self._most:
                self.lost += 1
                return
            self._rows.append(row)
            self._bytes += size + ROW_BYTES
            if self._bytes >= self._group:
                self._turn.notify()

    def close(self) -> None:
        """Write what waits and end the thread."""
        with self._turn:
            self._closed = True
            self._turn.notify()
        self._thread.join()

    # THE WRITER'S THREAD

    def _write_on(self) -> None:
        while not self._closed or self._rows:
            with self._turn:
                if not self._closed and self._bytes < self._group:
                    self._turn.wait(self._flush_s)
                rows, self._rows, self._bytes = self._rows, [], 0
            if rows:
                self._write(rows)

    def _write(self, rows: list[Row]) -> None:
        from pyarrow import parquet

        self._part += 1
        draft = self.folder / f".part-{self._part:06d}.draft"
        try:
            parquet.write_table(as_table(rows, self.names), draft, compression="zstd")
            draft.rename(self.folder / f"part-{self._part:06d}.parquet")
        except OSError as error:
            self.errors += 1
            self.lost += len(rows)
            draft.unlink(missing_ok=True)
            if self.errors == 1:
                _log.warning("decisions cannot be logged to %s: %s", self.folder, error)
            return
        self.written += len(rows)


def as_table(rows: Sequence[Row], names: Sequence[str]) -> Any:
    """Lay rows out as an Arrow table; what a row does not say is null."""
    import pyarrow as pa

    types = {name: pa.float64() for name in NUMBERS} | {name: pa.string() for name in WORDS}
    types |= {"function": pa.int32(), f"{PLAN}variant": pa.int8(), "action": pa.int32()}
    types |= {"observation": pa.list_(pa.float32())}
    types |= {name: pa.list_(pa.float64()) for name in LISTS}
    columns = {
        name: pa.array([row.get(name) for row in rows], kind) for name, kind in types.items()
    }
    return pa.table(columns).replace_schema_metadata({"functions": "\n".join(names)})
