"""Copies between the host pool and the arena: plain ones on a CPU, a stream of their own on CUDA.

A copy waits for its own event, never for the stream that computes.

Units: bytes.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from stoker.runtime.catalog import Model
from stoker.runtime.weight_reader import open_shard, read_flat

STAGING_BYTES = 16 * 2**20
STAGES = 2
"""Pinned buffers: one is filled from the disk while the other goes to the device."""


class Copier:
    """Moves weights in memory of the CPU."""

    def pin(self, pool: Tensor) -> bool:
        """Lock the host pool's pages, where that speeds copies up; return whether they are."""
        return False

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copy a flat block between the tiers."""
        target.copy_(source)

    def clear(self, block: Tensor) -> None:
        """Fill a block with zeros."""
        block.zero_()

    def read(self, block: Tensor, model: Model, cold: bool) -> None:
        """Bring a model's weights from disk into the arena."""
        read_flat(model, memoryview(block.numpy().data), cold)

    def slide(self, slab: Tensor, old: int, new: int, size: int) -> None:
        """Move a block of the arena towards its front; the places may overlap."""
        base = slab.data_ptr()
        ctypes.memmove(base + new, base + old, size)

    def finish_compute(self) -> None:
        """Wait until what has been asked to be computed is done."""


class CudaCopier(Copier):
    """Moves weights to and from a CUDA device."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self._stream: Any = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._staging: list[Tensor] = []
        self._scratch: Tensor | None = None

    def pin(self, pool: Tensor) -> bool:
        """Register the pool with the driver; a refusal (locked-memory limit) only costs speed."""
        with torch.cuda.device(self.device):
            runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            return int(runtime.cudaHostRegister(pool.data_ptr(), len(pool), 0)) == 0

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copy on the stream of copies and wait for its event."""
        self._start(target, source).synchronize()

    def _start(self, target: Tensor, source: Tensor) -> Any:
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
            event.record(self._stream)
        return event

    def clear(self, block: Tensor) -> None:
        """Fill a block with zeros, on the stream of copies."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            block.zero_()
            event.record(self._stream)
        event.synchronize()

    def read(self, block: Tensor, model: Model, cold: bool) -> None:
        """Read piece by piece through two pinned buffers, so that disk and link overlap."""
        if not self._staging:
            self._staging = [
                torch.empty(STAGING_BYTES, dtype=torch.uint8, pin_memory=True)
                for _ in range(STAGES)
            ]
        busy: list[Any] = [None] * STAGES
        turn = 0
        for shard in model.shards:
            place = block[shard.base : shard.base + shard.data_bytes]
            with open_shard(shard, cold) as reader:
                for at in range(0, len(place), STAGING_BYTES):
                    if busy[turn] is not None:
                        busy[turn].synchronize()
                    part = self._staging[turn][: len(place) - at]
                    reader.read(memoryview(part.numpy().data), at)
                    busy[turn] = self._start(place[at : at + len(part)], part)
                    turn = (turn + 1) % STAGES
        for event in busy:
            if event is not None:
                event.synchronize()

    def slide(self, slab: Tensor, old: int, new: int, size: int) -> None:
        """Move through a buffer, as a copy onto itself would overwrite what it has yet to read."""
        if self._scratch is None:
            self._scratch = torch.empty(STAGING_BYTES, dtype=torch.uint8, device=self.device)
        with torch.cuda.stream(self._stream):
            for at in range(0, size, STAGING_BYTES):
                part = self._scratch[: size - at]
                part.copy_(slab[old + at : old + at + len(part)])
                slab[new + at : new + at + len(part)].copy_(part)
        self._stream.synchronize()

    def finish_compute(self) -> None:
        """Wait for the computing stream alone: copies go on."""
        torch.cuda.current_stream(self.device).synchronize()
