"""Sabre (OSDI 2024): compressed snapshots, and prefetch of the recorded working set.

A snapshot of S GiB, compressed r times, is read at d GiB/s and decompressed to c GiB/s of output:

    raw S / d,    one after the other S / (r d) + S / c,    pipelined max(S / (r d), S / c)

Compression pays below a break-even disk rate: c (1 - 1 / r) one after the other, c pipelined. A
working set recorded earlier is read in bulk; pages that it lacks are faulted in one by one.

Follows the paper's idea as its abstract states it (read): compression widens what prefetching
covers, and hardware makes decompression almost free (c large). The formulas are ours; sections and
code were not looked up. Quoted, not reproduced: up to 4.5 times smaller, memory restored up to 55 %
faster.

Units: seconds, GiB, GiB/s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.startup.arguments import PAGE_GIB, amount, count, rate


@dataclass(frozen=True)
class SnapshotStore:
    """Where snapshots are kept, and how they are compressed.

    Raises:
        SpecError: a rate that is not positive, a ratio that is not finite or is below 1.
    """

    disk_gib_s: float
    ratio: float = 1.0
    """Size over compressed size."""
    decompress_gib_s: float = math.inf
    """Output of the decompressor."""
    pipelined: bool = False
    """Decompress while reading, in chunks small enough not to count."""

    def __post_init__(self) -> None:
        rate("disk_gib_s", self.disk_gib_s)
        require(1.0 <= self.ratio < math.inf, "ratio", self.ratio, "finite, >= 1")
        rate("decompress_gib_s", self.decompress_gib_s)

    def raw_s(self, size_gib: float) -> float:
        """Compute the time of reading `size_gib` that is not compressed.

        Raises:
            SpecError: a negative size.
        """
        amount("size_gib", size_gib)
        return size_gib / self.disk_gib_s

    def restore_s(self, size_gib: float) -> float:
        """Compute the time of reading and decompressing `size_gib` of memory.

        Raises:
            SpecError: a negative size.
        """
        amount("size_gib", size_gib)
        read_s = size_gib / (self.ratio * self.disk_gib_s)
        decompress_s = size_gib / self.decompress_gib_s
        return max(read_s, decompress_s) if self.pipelined else read_s + decompress_s

    def break_even_gib_s(self) -> float:
        """Compute the disk rate below which compression pays; 0 if it never does."""
        if self.ratio == 1.0:
            return 0.0
        if self.pipelined:
            return self.decompress_gib_s
        return self.decompress_gib_s * (1.0 - 1.0 / self.ratio)

    def prefetch_s(self, recorded_gib: float, missed_pages: int, fault_s: float) -> float:
        """Compute a restore that prefetches the recorded set and faults in what it lacks.

        Raises:
            SpecError: a negative size, number of pages or fault time.
        """
        count("missed_pages", missed_pages, least=0)
        amount("fault_s", fault_s)
        return self.restore_s(recorded_gib) + missed_pages * fault_s

    def break_even_use(self, fault_s: float) -> float:
        """Compute the share of the recorded pages above which prefetching beats faulting.

        A prefetched page costs its part of the bulk restore, a page left out costs one fault if it
        is used. Above 1, prefetching never pays.

        Raises:
            SpecError: a fault time that is not positive.
        """
        rate("fault_s", fault_s)
        return self.restore_s(PAGE_GIB) / fault_s
