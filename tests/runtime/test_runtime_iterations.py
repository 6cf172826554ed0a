"""Pages and iterations without a model: hand-worked schedules and invariants."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.runtime.blocks import Blocks, BlocksFull
from stoker.runtime.iterations import Iterations, Sequence


def sequence(prompt: int, most: int) -> Sequence:
    return Sequence([0] * prompt, prompt, most)


def compute(iterations: Iterations, batch: list[tuple[Sequence, int]]) -> None:
    """Play the model: every sequence without pending tokens gets one more."""
    for s, count in batch:
        s.cached += count
        assert len(s.blocks) * iterations.block_tokens >= s.cached
        if not s.pending:
            s.tokens.append(1)
            if s.finish:
                iterations.remove(s)


def test_pages_are_taken_whole_or_not_at_all() -> None:
    blocks = Blocks(4)
    first = blocks.take(3)
    with pytest.raises(BlocksFull, match="asked for 2 blocks, 1 of 4 are free"):
        blocks.take(2)
    assert blocks.free == 1 and blocks.used == 3
    blocks.give_back(first)
    assert sorted(blocks.take(4)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="not held"):
        Blocks(4).give_back([0])


def test_decodes_go_first_and_prompts_fill_the_budget() -> None:
    line = Iterations(blocks=100, block_tokens=4, max_batch=8, token_budget=10)
    a, b, c = sequence(6, 5), sequence(13, 5), sequence(2, 5)
    for s in (a, b, c):
        line.add(s)
    batch = line.form()
    assert batch == [(a, 6), (b, 4)]
    compute(line, batch)
    batch = line.form()
    assert batch == [(a, 1), (b, 9)]
    compute(line, batch)
    batch = line.form()
    assert batch == [(a, 1), (b, 1), (c, 2)]


def test_a_budget_that_is_changed_holds_from_the_next_iteration() -> None:
    line = Iterations(blocks=100, block_tokens=4, token_budget=4)
    a = sequence(30, 2)
    line.add(a)
    compute(line, line.form())
    line.token_budget = 0
    assert line.form() == [(a, 26)]


def test_who_came_last_is_preempted_and_comes_back_first() -> None:
    line = Iterations(blocks=4, block_tokens=2, max_batch=8, token_budget=0)
    a, b, c = sequence(3, 4), sequence(3, 4), sequence(1, 4)
    for s in (a, b, c):
        line.add(s)
    compute(line, line.form())
    assert line.running == [a, b] and line.blocks.free == 0 and list(line.waiting) == [c]
    # Both have 3 of 4 positions in use: one more token each fits.
    compute(line, line.form())
    assert (a.pending, b.pending, a.cached) == (1, 1, 4)
    assert line.form() == [(a, 1)]
    assert list(line.waiting) == [b, c] and b.blocks == [] and b.cached == 0
    assert line.preemptions == b.preemptions == 1 and line.blocks.used == 3
    assert len(b.tokens) == 5, "what it has generated is kept and computed again"


def test_what_can_never_fit_is_refused() -> None:
    line = Iterations(blocks=4, block_tokens=2)
    line.add(sequence(5, 4))  # its last token is never cached: 8 positions do
    with pytest.raises(ValueError, match=r"up to 10 tokens do not fit .* \(9 tokens\)"):
        line.add(sequence(5, 5))
    assert len(line) == 1


def test_max_batch_holds_and_admission_leaves_a_watermark() -> None:
    line = Iterations(blocks=200, block_tokens=1, max_batch=2, token_budget=0)
    for length in (100, 99, 1):
        line.add(sequence(length, 2))
    line.form()
    assert len(line.running) == 1, "1 % of the pages stay free while something runs"
    few = Iterations(blocks=200, block_tokens=1, max_batch=2, token_budget=0)
    for _ in range(3):
        few.add(sequence(2, 2))
    assert len(few.form()) == 2


@settings(max_examples=150, deadline=None)
@given(
    st.integers(6, 30),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(0, 12),
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 10), st.integers(0, 9)), max_size=25),
)
def test_every_sequence_ends_and_no_page_gets_lost(
    blocks: int, block_tokens: int, max_batch: int, budget: int, asked: list[tuple[int, int, int]]
) -> None:
    line = Iterations(blocks, block_tokens, max_batch, budget)
    done: list[Sequence] = []
    opened: list[Sequence] = []
    steps = 0
    todo = list(asked)
    while todo or len(line):
        if todo:
            prompt, most, whim = todo.pop()
            if prompt + most <= line.most_tokens:
                opened.append(sequence(prompt, most))
                line.add(opened[-1])
            if whim == 0 and len(line):
                gone = (line.running or list(line.waiting))[0]
                line.remove(gone)
                opened.remove(gone)
        batch = line.form()
        assert batch or not len(line)
        assert not budget or sum(count for _, count in batch) <= budget
        assert len(line.running) <= max_batch
        assert [s.arrival for s in line.running] == sorted(s.arrival for s in line.running)
        held = [block for s in line.running for block in s.blocks]
        assert len(held) == len(set(held)) == line.blocks.used
        assert all(not s.blocks for s in line.waiting)
        compute(line, batch)
        done += [s for s in opened if s.finish and s not in done]
        steps += 1
        assert steps < 20_000
    assert len(done) == len(opened) and line.blocks.used == 0
    assert all(len(s.tokens) == s.prompt_tokens + s.max_tokens for s in done)
