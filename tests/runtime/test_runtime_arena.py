from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.runtime.arena import ALIGN_BYTES, Arena, ArenaFull, aligned

SIZE = 64 * ALIGN_BYTES


def check(arena: Arena) -> None:
    at = 0
    for start, size in sorted(arena.blocks.items()):
        assert start >= at and start % ALIGN_BYTES == 0
        at = start + size
    assert at <= arena.size
    assert arena.used == sum(arena.blocks.values())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, SIZE // 3)), max_size=60))
def test_blocks_never_overlap_and_bytes_never_get_lost(orders: list[tuple[int, int]]) -> None:
    arena, memory, held = Arena(SIZE), bytearray(SIZE), {}
    for step, (choice, size) in enumerate(orders):
        if choice < 5 and held:
            offset = sorted(held)[choice % len(held)]
            arena.release(offset)
            del held[offset]
        elif choice == 5:
            for old, new, length in arena.compact():
                memory[new : new + length] = memory[old : old + length]
                held[new] = held.pop(old)
        else:
            try:
                offset = arena.allocate(size)
            except ArenaFull:
                holes = arena.free >= aligned(size)
                assert not holes or len(held) > 0
                continue
            mark = step % 251 + 1
            memory[offset : offset + size] = bytes([mark]) * size
            held[offset] = (mark, size)
        check(arena)
        for offset, (mark, length) in held.items():
            assert memory[offset : offset + length] == bytes([mark]) * length


@given(st.lists(st.integers(1, SIZE // 8), min_size=1, max_size=8), st.randoms())
def test_what_is_released_is_one_hole_again(sizes: list[int], random: object) -> None:
    arena = Arena(SIZE)
    offsets = [arena.allocate(size) for size in sizes]
    random.shuffle(offsets)  # type: ignore[attr-defined]
    for offset in offsets:
        arena.release(offset)
    assert arena.allocate(SIZE) == 0


def test_a_full_arena_is_left_as_it_was() -> None:
    arena = Arena(10 * ALIGN_BYTES)
    first = arena.allocate(4 * ALIGN_BYTES)
    arena.allocate(4 * ALIGN_BYTES)
    arena.release(first)
    before = arena.blocks
    with pytest.raises(ArenaFull, match="asked for 384 bytes, 384 of 640 are free, in pieces"):
        arena.allocate(6 * ALIGN_BYTES)
    assert arena.blocks == before
    assert arena.compact() == [(4 * ALIGN_BYTES, 0, 4 * ALIGN_BYTES)]
    assert arena.allocate(6 * ALIGN_BYTES) == 4 * ALIGN_BYTES
