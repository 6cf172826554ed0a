"""Keeps what the planner has learned of the traffic on disk, for the controller's next life.

A NumPy archive of plain arrays, written beside its place and renamed; nothing pickled.  The time
between two lives is taken from the machine's date, and is never negative.  Units: seconds.
"""

from __future__ import annotations

import logging
import os
import time
import zipfile
from pathlib import Path

import numpy as np

from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.recollection import Memory
from stoker.runtime.planner import Planner

SAVED_AT = "saved_at"
_log = logging.getLogger(__name__)


class Keeper:
    """One file.

    Args:
        path: of the file; need not exist yet.
        every_s: how often the controller saves.
    """

    def __init__(self, path: str | Path, every_s: float = 60.0) -> None:
        require(every_s > 0.0, "memory.every_s", every_s, "a time > 0")
        self.path, self.every_s = Path(path), every_s
        self.errors = 0
        """Times that it could not be written."""

    def save(self, memory: Memory) -> None:
        """Write; a disk that is full is counted, warned of once, and leaves the file before."""
        draft = self.path.with_name(f".{self.path.name}.draft")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as sink:
                np.savez(sink, allow_pickle=False, **{**memory, SAVED_AT: np.array(time.time())})
                sink.flush()
                os.fsync(sink.fileno())
            draft.replace(self.path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            self.errors += 1
            if self.errors == 1:
                _log.warning("what is known of the traffic cannot be saved: %s", error)

    def restore(self, planner: Planner) -> bool:
        """Have a planner that has just begun recall the file; return whether there was one.

        Raises:
            SpecError: the file is cut short, or none of this version.
        """
        if not self.path.exists():
            return False
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                memory = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise SpecError(
                "memory", str(self.path), f"a file of this runtime ({reason})"
            ) from None
        saved_at = memory.pop(SAVED_AT, None)
        if saved_at is None:
            raise SpecError("memory", str(self.path), f"the part {SAVED_AT} to be present")
        planner.recall(memory, max(time.time() - float(saved_at), 0.0))
        return True
