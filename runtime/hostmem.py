"""The host tier: one pool of anonymous shared memory, owned by the controller.

The pool is a memory file without a name: it vanishes with the last process that holds it, so a
killed controller leaves nothing behind.  A copy that was given up stays intact as a *ghost* until
its place is needed: to keep the same weights again then costs nothing.

Units: bytes.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass

from stoker.runtime.arena import Arena, ArenaFull

MADV_POPULATE_WRITE = 23


class HostFull(MemoryError):
    """The host tier has no room for a copy."""

    def __init__(self, asked: int, free: int, size: int) -> None:
        super().__init__(f"host tier: asked for {asked} bytes, {free} of {size} are free")


@dataclass(eq=False)
class HostCopy:
    """One function's place in the pool."""

    fn: int
    offset: int
    size: int
    filled: bool = False
    """The weights are in it."""
    held: bool = True
    """Counts against the tier; else a ghost."""
    pins: int = 0
    """Copies under way from or to it: its place may not be given away."""


class HostTier:
    """Byte ledger and places of the host copies.

    Args:
        size: bytes of copies held at a time.
        largest: bytes of the largest copy; the pool is larger by so much, so that holes between
            copies do not refuse one that the ledger has room for.
    """

    def __init__(self, size: int, largest: int = 0) -> None:
        self.size = size
        self.used = 0
        self.pool_bytes = size + largest if size else 0
        self.descriptor = -1
        self._arena = Arena(self.pool_bytes)
        self._copies: dict[int, HostCopy] = {}

    def open(self) -> None:
        """Take the memory from the system, all of it."""
        if not self.pool_bytes:
            return
        self.descriptor = os.memfd_create("stoker-host", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, self.pool_bytes)
        with mmap.mmap(self.descriptor, self.pool_bytes) as pool, contextlib.suppress(OSError):
            # Older kernels do not know this: there the first copies pay for the pages.
            pool.madvise(MADV_POPULATE_WRITE)

    def close(self) -> None:
        """Give the memory back; the workers must have ended."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self._copies.clear()
        self._arena = Arena(self.pool_bytes)
        self.used = 0

    def find(self, fn: int) -> HostCopy | None:
        """Return a function's copy, held or ghost."""
        return self._copies.get(fn)

    def take(self, fn: int, size: int) -> HostCopy:
        """Hold a place for a function: the one it has or had, else a new one.

        Raises:
            HostFull: no room; nothing has changed, but for ghosts that are gone.
        """
        copy = self._copies.get(fn)
        if copy is not None and copy.held:
            return copy
        if self.used + size > self.size:
            raise HostFull(size, self.size - self.used, self.size)
        if copy is None:
            copy = HostCopy(fn, self._allocate(size), size, held=False)
            self._copies[fn] = copy
        copy.held = True
        self.used += size
        return copy

    def release(self, copy: HostCopy) -> None:
        """Stop holding a copy; a filled one stays as a ghost."""
        if copy.held:
            copy.held = False
            self.used -= copy.size
        if not copy.filled and not copy.pins and self._copies.get(copy.fn) is copy:
            self._forget(copy)

    def _forget(self, copy: HostCopy) -> None:
        del self._copies[copy.fn]
        self._arena.release(copy.offset)

    def _allocate(self, size: int) -> int:
        while True:
            try:
                return self._arena.allocate(size)
            except ArenaFull:
                ghosts = (c for c in self._copies.values() if not c.held and not c.pins)
                oldest = next(ghosts, None)
                if oldest is None:
                    raise HostFull(size, self.size - self.used, self.size) from None
                self._forget(oldest)
