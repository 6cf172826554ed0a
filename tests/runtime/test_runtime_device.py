"""The device tier of a worker by itself: who waits for whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from small_models import CNN, GPT, MakeModel

from stoker.runtime.arena import aligned
from stoker.runtime.catalog import Model, deploy
from stoker.runtime.device import Device
from stoker.runtime.messages import DISK, WorkerSpec


def device(models: list[Model], room: int) -> Device:
    return Device(WorkerSpec(0, "cpu", room, deploy(models, len(models))))


@contextmanager
def waits(work: threading.Thread) -> Iterator[None]:
    """It does not get on before the block ends, and then it does."""
    work.start()
    work.join(0.1)
    assert work.is_alive()
    yield
    assert work.is_alive()


def test_drops_and_loads_do_not_wait_for_a_batch_of_another_instance(
    make_model: MakeModel,
) -> None:
    model = make_model("m", GPT)
    real = device([model], 2 * aligned(model.data_bytes))
    real.load(0, 0, DISK, -1)
    real.load(1, 0, DISK, -1)
    with real.computing(0):
        real.drop(1, -1)
        real.load(2, 0, DISK, -1)
    assert real.run(2, ("x",)) == real.run(0, ("x",))


def test_a_drop_waits_for_the_batch_of_its_own_instance(make_model: MakeModel) -> None:
    model = make_model("m", GPT)
    real = device([model], aligned(model.data_bytes))
    real.load(0, 0, DISK, -1)
    drop = threading.Thread(target=real.drop, args=(0, -1), daemon=True)
    with real.computing(0), waits(drop):
        assert real.arena.used == aligned(model.data_bytes)
    drop.join(10.0)
    assert real.arena.used == 0
    with pytest.raises(ValueError, match="instance 0 is not on this device"):
        real.run(0, ("x",))


def test_compaction_waits_for_the_batches_of_the_blocks_that_it_moves(
    make_model: MakeModel,
) -> None:
    small, large = make_model("small", GPT), make_model("large", CNN)
    size, more = aligned(small.data_bytes), aligned(large.data_bytes)
    assert size < more
    real = device([small, large], 2 * size + more)
    for number in (0, 1, 2):
        real.load(number, 0, DISK, -1)
    real.drop(1, -1)  # a hole of one small block between two of them
    load = threading.Thread(target=real.load, args=(3, 1, DISK, -1), daemon=True)
    with real.computing(0):  # stays where it is
        with real.computing(2), waits(load):
            assert real.residents[2].offset == 2 * size
        load.join(10.0)
        assert real.residents[2].offset == size and 3 in real.residents
    assert real.run(0, ("x",)) == real.run(2, ("x",))
