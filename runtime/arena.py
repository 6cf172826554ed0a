"""First-fit allocator of one flat block of memory, with coalescing and compaction.

It hands out offsets, not memory: the same code accounts for host and device arenas.

Units: bytes.
"""

from __future__ import annotations

from bisect import bisect_left, insort

ALIGN_BYTES = 64


def aligned(size: int) -> int:
    """Round up to what an arena really takes for `size` bytes."""
    return max(-(-size // ALIGN_BYTES), 1) * ALIGN_BYTES


class ArenaFull(MemoryError):
    """No room: `free` bytes are left in all, which is less than asked for, or in pieces."""

    def __init__(self, asked: int, free: int, size: int) -> None:
        pieces = ", in pieces" if free >= asked else ""
        super().__init__(
            f"device arena: asked for {asked} bytes, {free} of {size} are free{pieces}"
        )
        self.asked = asked
        self.free = free


class Arena:
    """Blocks of one address range [0, size)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self._blocks: dict[int, int] = {}
        self._starts: list[int] = []

    @property
    def free(self) -> int:
        """Bytes that no block holds, contiguous or not."""
        return self.size - self.used

    @property
    def blocks(self) -> dict[int, int]:
        """Offset -> bytes of every block, as a copy."""
        return dict(self._blocks)

    def allocate(self, size: int) -> int:
        """Take the first hole that holds `size` bytes and return its offset.

        Raises:
            ArenaFull: no hole is large enough; the arena is unchanged.
        """
        need = aligned(size)
        at = 0
        for start in self._starts:
            if start - at >= need:
                break
            at = start + self._blocks[start]
        if self.size - at < need:
            raise ArenaFull(need, self.free, self.size)
        self._blocks[at] = need
        insort(self._starts, at)
        self.used += need
        return at

    def release(self, offset: int) -> None:
        """Give a block back; neighbours that are free become one hole with it."""
        self.used -= self._blocks.pop(offset)
        del self._starts[bisect_left(self._starts, offset)]

    def compact(self) -> list[tuple[int, int, int]]:
        """Slide all blocks to the front.

        Returns:
            (old offset, new offset, bytes) of each block that moved, in the order in which they
            must be copied; a source may overlap its own target, never a later one's source.
        """
        moves = []
        at = 0
        for start in self._starts:
            size = self._blocks[start]
            if start != at:
                moves.append((start, at, size))
            at += size
        for old, new, size in moves:
            del self._blocks[old]
            self._blocks[new] = size
        self._starts = sorted(self._blocks)
        return moves
