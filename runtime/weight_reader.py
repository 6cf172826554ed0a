"""Reads the weight files of a model into memory, at full length or not at all.

Units: bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from stoker.runtime.catalog import Model
from stoker.runtime.weights import ModelError, Shard


class ShardReader:
    """One open weight file."""

    def __init__(self, shard: Shard, descriptor: int) -> None:
        self._shard, self._descriptor = shard, descriptor

    def read(self, target: memoryview, at: int) -> None:
        """Fill the target from the data section's byte `at` on."""
        done = 0
        while done < len(target):
            start = self._shard.data_start + at + done
            count = os.preadv(self._descriptor, [target[done:]], start)
            if count == 0:
                want = self._shard.data_start + self._shard.data_bytes
                where = f"{self._shard.path}: data"
                raise ModelError(where, f"cut short at {start} bytes", f"{want}")
            done += count


@contextmanager
def open_shard(shard: Shard, cold: bool) -> Iterator[ShardReader]:
    """Open a weight file; `cold`: drop it from the page cache afterwards."""
    try:
        descriptor = os.open(shard.path, os.O_RDONLY)
    except OSError as error:
        raise ModelError(str(shard.path), str(error.strerror), "a readable file") from None
    try:
        yield ShardReader(shard, descriptor)
    finally:
        if cold:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read_flat(model: Model, target: memoryview, cold: bool) -> None:
    """Fill a flat block with all weights of a model."""
    for shard in model.shards:
        with open_shard(shard, cold) as reader:
            reader.read(target[shard.base : shard.base + shard.data_bytes], 0)
