from __future__ import annotations

import pytest

from stoker.runtime.arena import ALIGN_BYTES
from stoker.runtime.hostmem import HostFull, HostTier

SIZE = 10 * ALIGN_BYTES


def test_a_copy_given_up_is_a_ghost_until_its_place_is_needed() -> None:
    tier = HostTier(2 * SIZE)
    for fn in (0, 1):
        tier.take(fn, SIZE).filled = True
    first = tier.find(0)
    assert first is not None and tier.used == 2 * SIZE
    tier.release(first)
    assert tier.used == SIZE and tier.find(0) is first
    assert tier.take(0, SIZE) is first and first.filled
    tier.release(first)
    tier.take(2, SIZE)
    assert tier.find(0) is None


def test_a_copy_in_use_keeps_its_place() -> None:
    tier = HostTier(SIZE)
    copy = tier.take(0, SIZE)
    copy.filled, copy.pins = True, 1
    tier.release(copy)
    with pytest.raises(HostFull, match="asked for 640 bytes, 640 of 640 are free"):
        tier.take(1, SIZE)
    copy.pins = 0
    assert tier.take(1, SIZE).offset == copy.offset


def test_a_copy_that_was_never_filled_leaves_no_ghost() -> None:
    tier = HostTier(SIZE)
    tier.release(tier.take(0, SIZE))
    assert tier.find(0) is None and tier.used == 0


def test_the_ledger_refuses_before_the_pool_does() -> None:
    tier = HostTier(SIZE, largest=SIZE)
    tier.take(0, SIZE)
    with pytest.raises(HostFull):
        tier.take(1, SIZE)
    assert HostTier(0, largest=SIZE).pool_bytes == 0
