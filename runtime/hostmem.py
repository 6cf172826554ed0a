"""The host tier: one anonymous shared-memory block a function, owned by the controller.

Blocks are memory files without a name: they vanish with the last process that holds them, so a
killed controller leaves nothing behind.

Units: bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


class HostFull(MemoryError):
    """The host tier has no room for a block."""

    def __init__(self, asked: int, free: int, size: int) -> None:
        super().__init__(f"host tier: asked for {asked} bytes, {free} of {size} are free")


@dataclass
class HostCopy:
    """One function's block."""

    descriptor: int
    size: int
    filled: bool = False
    """The weights are in it."""


class HostTier:
    """Byte ledger and descriptors of the host copies."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self.copies: dict[int, HostCopy] = {}

    def take(self, fn: int, size: int) -> HostCopy:
        """Create a function's block, or return the one it has.

        Raises:
            HostFull: the ledger has no room; nothing was created.
        """
        if fn in self.copies:
            return self.copies[fn]
        if self.used + size > self.size:
            raise HostFull(size, self.size - self.used, self.size)
        descriptor = os.memfd_create(f"stoker-{fn}", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
        except OSError:
            os.close(descriptor)
            raise
        self.used += size
        self.copies[fn] = HostCopy(descriptor, size)
        return self.copies[fn]

    def release(self, fn: int) -> None:
        """Give a function's block back; its memory is free when the workers unmap it too."""
        copy = self.copies.pop(fn, None)
        if copy is not None:
            self.used -= copy.size
            os.close(copy.descriptor)

    def close(self) -> None:
        """Give every block back."""
        for fn in list(self.copies):
            self.release(fn)
