"""The device tier of one worker: a preallocated arena, and the modules bound into it.

The same code serves CPU and CUDA: there the arena lies in device memory, the host pool is pinned
and copies run on a stream of their own (copier.py).  A decoder's block holds its weights and then
its key-value cache.

Units: bytes, seconds.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stoker.runtime.arena import Arena, ArenaFull, aligned
from stoker.runtime.catalog import Deployment, ModelError
from stoker.runtime.copier import Copier, CudaCopier
from stoker.runtime.generator import Generator
from stoker.runtime.messages import HOST, WorkerSpec
from stoker.runtime.models import Binder, binder_of
from stoker.runtime.onnx_model import OnnxBinder
from stoker.runtime.text import Text
from stoker.runtime.weight_reader import read_flat


@dataclass
class Resident:
    """One instance on the device."""

    fn: int
    offset: int
    binder: Binder | OnnxBinder
    generator: Generator | None
    """Of a decoder."""
    busy: threading.Lock = field(default_factory=threading.Lock)
    """Held while it computes, and while its block is moved or given back."""


class Device:
    """Loads, drops and runs instances; `load` side and `run` side may be two threads."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.cuda = spec.device.startswith("cuda")
        self.arena = Arena(spec.arena_bytes)
        self.slab = _slab(spec)
        self.residents: dict[int, Resident] = {}
        self.pool = torch.empty(0, dtype=torch.uint8)
        self.pinned = False
        self.token_budgets: dict[int, int] = {}
        self._copier = CudaCopier(spec.device) if self.cuda else Copier()
        self._sizes = [deployment.device_bytes for deployment in spec.deployments]
        self._spare: dict[int, list[Binder | OnnxBinder]] = {}
        self._texts: dict[int, Text] = {}
        for fn, deployment in enumerate(spec.deployments):
            self._check(deployment)
            self._spare[fn] = [binder_of(deployment.model)]

    def _check(self, deployment: Deployment) -> None:
        model = deployment.model
        if self.cuda and model.architecture == "onnx":
            accepted = f"a model for {self.spec.device} (ONNX models are served on the CPU)"
            raise ModelError(f"{model.folder}: architecture", "onnx", accepted)

    def enter(self) -> None:
        """Make this device the calling thread's own."""
        if self.cuda:
            torch.cuda.set_device(self.spec.device)

    def deployment(self, fn: int) -> Deployment:
        """Return what a function serves."""
        return self.spec.deployments[fn]

    # LOAD SIDE

    def attach(self, descriptor: int, size: int) -> None:
        """Map the host pool."""
        self.pool = torch.frombuffer(mmap.mmap(descriptor, size), dtype=torch.uint8)
        os.close(descriptor)
        self.pinned = self._copier.pin(self.pool)

    def _host(self, fn: int, place: int) -> Tensor:
        return self.pool[place : place + self.deployment(fn).model.data_bytes]

    def load(self, instance: int, fn: int, source: str, place: int) -> None:
        """Bring weights into the arena and bind a module to them; all or nothing.

        Raises:
            ArenaFull: not enough device memory.
            ModelError: the file is not what it was.
        """
        model = self.deployment(fn).model
        offset = self._allocate(self._sizes[fn])
        try:
            block = self.slab[offset : offset + model.data_bytes]
            if source == HOST:
                self._copier.copy(block, self._host(fn, place))
            else:
                self._copier.read(block, model, self.spec.cold_disk)
            spare = self._spare[fn]
            binder = spare.pop() if spare else binder_of(model)
            resident = Resident(fn, offset, binder, self._generator(fn, binder))
            self._bind(resident)
            # What is masked is multiplied by zero, which a NaN of an earlier tenant would survive.
            self._copier.clear(self._cache(resident))
        except BaseException:
            self.arena.release(offset)
            raise
        self.residents[instance] = resident
        if resident.generator is not None and fn in self.token_budgets:
            # Last, so that a budget that comes while it loads is not missed.
            resident.generator.set_token_budget(self.token_budgets[fn])

    def _generator(self, fn: int, binder: Binder | OnnxBinder) -> Generator | None:
        deployment = self.deployment(fn)
        if not deployment.decoder or isinstance(binder, OnnxBinder):
            return None
        text = self._texts.setdefault(fn, Text(deployment.model.folder))
        text.warm()
        return Generator(binder.decoder, deployment.generation, text)

    def _bind(self, resident: Resident) -> None:
        size = self.deployment(resident.fn).model.data_bytes
        resident.binder.bind(self.slab[resident.offset : resident.offset + size])
        if resident.generator is not None:
            resident.generator.bind(self._cache(resident))

    def _cache(self, resident: Resident) -> Tensor:
        """The key-value cache of an instance; nothing for those that keep none."""
        start = resident.offset + aligned(self.deployment(resident.fn).model.data_bytes)
        return self.slab[start : max(resident.offset + self._sizes[resident.fn], start)]

    def drop(self, instance: int, place: int) -> None:
        """Free an instance's block; its bytes are copied to a place in the host pool first.

        The block is free even if they cannot be copied.
        """
        resident = self.residents.pop(instance)
        with resident.busy:  # others go on computing
            try:
                if place >= 0:
                    flat = self._host(resident.fn, place)
                    start = resident.offset
                    self._copier.copy(flat, self.slab[start : start + len(flat)])
            finally:
                resident.binder.release()
                self._spare[resident.fn].append(resident.binder)
                self.arena.release(resident.offset)

    def fetch(self, fn: int, place: int) -> None:
        """Read a function's weights from disk into the host pool."""
        target = memoryview(self._host(fn, place).numpy().data)
        read_flat(self.deployment(fn).model, target, self.spec.cold_disk)

    def _allocate(self, size: int) -> int:
        try:
            return self.arena.allocate(size)
        except ArenaFull:
            if self.arena.free < aligned(size):
                raise
        self._compact()
        return self.arena.allocate(size)

    def _compact(self) -> None:
        placed = {resident.offset: resident for resident in self.residents.values()}
        for old, new, size in self.arena.compact():
            resident = placed[old]
            with resident.busy:
                self._copier.slide(self.slab, old, new, size)
                resident.offset = new
                self._bind(resident)

    # RUN SIDE

    @contextmanager
    def computing(self, instance: int) -> Iterator[Resident]:
        """Keep an instance's block in its place, and a drop out.

        Raises:
            ValueError: it is not on this device.
        """
        resident = self.residents.get(instance)
        if resident is not None:
            with resident.busy:
                if self.residents.get(instance) is resident:
                    yield resident
                    return
        raise ValueError(f"instance {instance} is not on this device")

    def run(self, instance: int, payloads: tuple[Any, ...]) -> list[Any]:
        """Serve one batch on an instance."""
        with self.computing(instance) as resident:
            answers = resident.binder.answer(list(payloads))
            self._copier.finish_compute()
        return answers

    def generator(self, instance: int) -> Generator:
        """Return the open sequences of a decoder's instance."""
        resident = self.residents.get(instance)
        if resident is None or resident.generator is None:
            raise ValueError(f"instance {instance} is no decoder on this device")
        return resident.generator

    def set_token_budget(self, fn: int, token_budget: int) -> None:
        """Change the budget of a function's instances, those to come included."""
        self.token_budgets[fn] = token_budget
        for resident in list(self.residents.values()):
            if resident.fn == fn and resident.generator is not None:
                resident.generator.set_token_budget(token_budget)


def _slab(spec: WorkerSpec) -> Tensor:
    """Take the whole arena at once, touched: a first touch costs several times the copy."""
    if spec.device != "cpu":
        return torch.zeros(spec.arena_bytes, dtype=torch.uint8, device=spec.device)
    memory = mmap.mmap(-1, spec.arena_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        # Huge pages: a worker starts and dies many times faster.
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8).fill_(0)
