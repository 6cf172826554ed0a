"""The device tier of one worker: a preallocated arena, and the modules bound into it.

The same code serves CPU and CUDA: there the arena lies in device memory, host blocks are pinned
and copies run on a stream of their own.

Units: bytes, seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stoker.runtime.arena import Arena, ArenaFull
from stoker.runtime.catalog import Deployment, Model, ModelError
from stoker.runtime.messages import HOST, WorkerSpec
from stoker.runtime.models import Binder

STAGING_BYTES = 16 * 2**20


@dataclass
class Resident:
    """One instance on the device."""

    fn: int
    offset: int
    binder: Binder


class Device:
    """Loads, drops and runs instances; `load` side and `run` side may be two threads."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.cuda = spec.device.startswith("cuda")
        self.arena = Arena(spec.arena_bytes)
        self.slab = _slab(spec)
        self.residents: dict[int, Resident] = {}
        self.pool = torch.empty(0, dtype=torch.uint8)
        self.computing = threading.Lock()
        self._spare: dict[int, list[Binder]] = {}
        self._stream = torch.cuda.Stream(spec.device) if self.cuda else None  # type: ignore[no-untyped-call]
        for fn, deployment in enumerate(spec.deployments):
            self._spare[fn] = [Binder(deployment.model)]

    def deployment(self, fn: int) -> Deployment:
        """Return what a function serves."""
        return self.spec.deployments[fn]

    # LOAD SIDE

    def attach(self, descriptor: int, size: int) -> None:
        """Map the host pool."""
        self.pool = torch.frombuffer(mmap.mmap(descriptor, size), dtype=torch.uint8)
        os.close(descriptor)
        if self.cuda:
            _cudart().cudaHostRegister(self.pool.data_ptr(), size, 0)

    def _host(self, fn: int, place: int) -> Tensor:
        return self.pool[place : place + self.deployment(fn).model.data_bytes]

    def load(self, instance: int, fn: int, source: str, place: int) -> None:
        """Bring weights into the arena and bind a module to them; all or nothing.

        Raises:
            ArenaFull: not enough device memory.
            ModelError: the file is not what it was.
        """
        model = self.deployment(fn).model
        offset = self._allocate(model.data_bytes)
        try:
            block = self.slab[offset : offset + model.data_bytes]
            if source == HOST:
                self._from_host(block, self._host(fn, place))
            else:
                self._from_disk(block, model)
            spare = self._spare[fn]
            binder = spare.pop() if spare else Binder(model)
            binder.bind(block)
        except BaseException:
            self.arena.release(offset)
            raise
        self.residents[instance] = Resident(fn, offset, binder)

    def drop(self, instance: int, place: int) -> None:
        """Free an instance's block; its bytes are copied to a place in the host pool first."""
        resident = self.residents.pop(instance)
        if place >= 0:
            flat = self._host(resident.fn, place)
            flat.copy_(self.slab[resident.offset : resident.offset + len(flat)])
        resident.binder.release()
        self._spare[resident.fn].append(resident.binder)
        self.arena.release(resident.offset)

    def fetch(self, fn: int, place: int) -> None:
        """Read a function's weights from disk into the host pool."""
        self._read(self.deployment(fn).model, memoryview(self._host(fn, place).numpy().data))

    def _allocate(self, size: int) -> int:
        try:
            return self.arena.allocate(size)
        except ArenaFull:
            if self.arena.free < size:
                raise
        with self.computing:
            self._compact()
        return self.arena.allocate(size)

    def _compact(self) -> None:
        moved = {}
        for old, new, size in self.arena.compact():
            moved[old] = new
            if self.cuda:
                self.slab[new : new + size].copy_(self.slab[old : old + size].clone())
            else:
                base = self.slab.data_ptr()
                ctypes.memmove(base + new, base + old, size)
        for resident in self.residents.values():
            if resident.offset in moved:
                resident.offset = moved[resident.offset]
                size = self.deployment(resident.fn).model.data_bytes
                resident.binder.bind(self.slab[resident.offset : resident.offset + size])

    def _from_host(self, block: Tensor, flat: Tensor) -> None:
        if self._stream is None:
            block.copy_(flat)
            return
        with torch.cuda.stream(self._stream):
            block.copy_(flat, non_blocking=True)
        self._stream.synchronize()

    def _from_disk(self, block: Tensor, model: Model) -> None:
        if not self.cuda:
            self._read(model, memoryview(block.numpy().data))
            return
        staging = torch.empty(min(STAGING_BYTES, len(block)), dtype=torch.uint8, pin_memory=True)
        with _WeightFile(model, self.spec.cold_disk) as file:
            for at in range(0, len(block), len(staging)):
                part = staging[: len(block) - at]
                file.read(memoryview(part.numpy().data), at)
                self._from_host(block[at : at + len(part)], part)

    def _read(self, model: Model, target: memoryview) -> None:
        with _WeightFile(model, self.spec.cold_disk) as file:
            file.read(target, 0)

    # RUN SIDE

    def run(self, instance: int, payloads: tuple[Any, ...]) -> list[Any]:
        """Serve one batch on an instance."""
        with self.computing:
            answers = self.residents[instance].binder.answer(list(payloads))
            if self.cuda:
                torch.cuda.synchronize(self.spec.device)
        return answers


def _slab(spec: WorkerSpec) -> Tensor:
    """Take the whole arena at once, touched: a first touch costs several times the copy."""
    if spec.device != "cpu":
        return torch.zeros(spec.arena_bytes, dtype=torch.uint8, device=spec.device)
    memory = mmap.mmap(-1, spec.arena_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        # Huge pages: a worker starts and dies many times faster.
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8).fill_(0)


def _cudart() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


class _WeightFile:
    """The data section of a weight file, read at full length or not at all."""

    def __init__(self, model: Model, cold: bool) -> None:
        self.model = model
        self.cold = cold
        self.path: Path = model.weights_file

    def __enter__(self) -> _WeightFile:
        try:
            self.descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise ModelError(str(self.path), str(error.strerror), "a readable file") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self.cold:
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(self.descriptor)

    def read(self, target: memoryview, at: int) -> None:
        """Fill the target from the data section's byte `at` on."""
        done = 0
        while done < len(target):
            start = self.model.data_start + at + done
            count = os.preadv(self.descriptor, [target[done:]], start)
            if count == 0:
                want = self.model.data_start + self.model.data_bytes
                raise ModelError(f"{self.path}: data", f"cut short at {start} bytes", f"{want}")
            done += count
