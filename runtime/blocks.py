"""Pages of a key-value cache: who holds which, to the last one.

Units: blocks (pages).
"""

from __future__ import annotations


class BlocksFull(MemoryError):
    """Fewer pages are free than were asked for."""

    def __init__(self, asked: int, free: int, count: int) -> None:
        super().__init__(f"key-value cache: asked for {asked} blocks, {free} of {count} are free")


class Blocks:
    """Hands out page numbers 0..count-1; all or nothing."""

    def __init__(self, count: int) -> None:
        self.count = count
        # Low numbers first, so that a cache that is hardly used stays in few memory pages.
        self._free = list(range(count - 1, -1, -1))
        self._held = [False] * count

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    @property
    def used(self) -> int:
        """Pages that somebody holds."""
        return self.count - len(self._free)

    def take(self, asked: int) -> list[int]:
        """Return so many page numbers.

        Raises:
            BlocksFull: nothing was taken.
        """
        if asked > len(self._free):
            raise BlocksFull(asked, len(self._free), self.count)
        taken = [self._free.pop() for _ in range(asked)]
        for block in taken:
            self._held[block] = True
        return taken

    def give_back(self, blocks: list[int]) -> None:
        """Free pages; each must have been taken."""
        for block in blocks:
            if not self._held[block]:
                raise ValueError(f"block {block} is given back but not held")
            self._held[block] = False
            self._free.append(block)
