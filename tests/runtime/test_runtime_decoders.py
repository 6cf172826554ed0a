"""Decoders in real workers: budgets changed live, instances taken down, failures in mid-load."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import MIB, backend
from small_llamas import Reference, write_llama
from small_models import GPT, MakeModel

from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.backend_protocol import Listener
from stoker.runtime.catalog import Generation, ModelError, deploy
from stoker.runtime.device import Device
from stoker.runtime.messages import WorkerSpec
from stoker.runtime.process import OrderFailed, WorkerDied

pytestmark = pytest.mark.usefixtures("one_thread")

HOW = Generation(blocks=40, max_batch=8, token_budget=64)


def prompt(length: int, count: int = 12) -> dict[str, Any]:
    tokens = np.random.default_rng(length).integers(0, 97, length).tolist()
    return {"prompt": tokens, "max_tokens": count}


async def state(real: TorchBackend) -> dict[int, tuple[int, int]]:
    return (await real.workers[0].order("ping")).value["decoders"]  # type: ignore[no-any-return]


def test_swaps_and_compaction_leave_answers_as_they_were(
    tmp_path: Path, make_model: MakeModel
) -> None:
    """Two decoders and another model take turns in an arena that must be compacted."""
    models = [write_llama(tmp_path / "a", 1), write_llama(tmp_path / "b", 2, shards=2)]
    models.append(make_model("g", GPT, 3))
    asked: list[Any] = [prompt(9), prompt(30), "once upon"]
    expected = [Reference(models[f]).greedy(asked[f]["prompt"], 12) for f in (0, 1)]
    deployments = deploy(models, 3, HOW)
    sizes = [aligned(d.device_bytes) for d in deployments]
    rng = np.random.default_rng(0)

    async def swap() -> None:
        real = TorchBackend(deployments, [sum(sizes[:2]) + 128], 8 * MIB)
        await real.start()
        try:
            held: list[tuple[int, int]] = []
            for number in range(60):
                fn = int(rng.integers(3))
                while sum(sizes[f] for _, f in held) + sizes[fn] > sum(sizes[:2]) + 128:
                    gone, _ = held.pop(int(rng.integers(len(held))))
                    await real.drop(0, gone, bool(rng.random() < 0.5))
                await real.load(0, number, fn, "host" if rng.random() < 0.7 else "disk")
                held.append((number, fn))
                for instance, f in held:
                    value = (await real.run(0, instance, [asked[f]])).value[0]
                    if f < 2:
                        assert value["tokens"] == expected[f]
            assert real.ledger.device == (sum(sizes[f] for _, f in held),)
        finally:
            await real.close()

    asyncio.run(swap())


def test_a_budget_changed_live_cuts_prompts_shorter_and_outlives_the_worker(
    tmp_path: Path,
) -> None:
    model = write_llama(tmp_path / "m")

    async def iterations(real: TorchBackend, instance: int) -> int:
        """Tokens that a running sequence gets while a prompt of 120 tokens is read."""
        heard: list[str] = []

        def hear(name: str) -> Listener:
            return Listener(lambda index, token, text: heard.append(name))

        first = real.run(0, instance, [prompt(4, 80)], hear("a"))
        while not heard:
            await asyncio.sleep(0.001)
        second = real.run(0, instance, [prompt(120, 4)], hear("b"))
        await asyncio.gather(first, second)
        return heard[: heard.index("b")].count("a")

    async def tune() -> None:
        real = TorchBackend(deploy([model], 1, Generation(40, token_budget=0)), [8 * MIB])
        await real.start()
        try:
            await real.load(0, 1, 0, "disk")
            whole = await iterations(real, 1)
            real.set_token_budget(0, 6)
            # 120 tokens in chunks of 5, one of the six going to the sequence that decodes.
            assert await iterations(real, 1) >= 23 > whole
            os.kill(real.workers[0].pid or 0, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await real.workers[0].order("ping")
            await real.load(0, 2, 0, "disk")
            assert await iterations(real, 2) >= 23
            with pytest.raises(ModelError, match="token_budget = -1"):
                real.set_token_budget(0, -1)
        finally:
            await real.close()

    asyncio.run(tune())


def test_an_instance_taken_down_fails_its_open_requests(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m")

    async def drop() -> None:
        real = TorchBackend(deploy([model], 1, HOW), [8 * MIB])
        await real.start()
        try:
            await real.load(0, 1, 0, "disk")
            await real.load(0, 2, 0, "disk")
            lost, kept = real.run(0, 1, [prompt(9, 200)]), real.run(0, 2, [prompt(9, 200)])
            await real.drop(0, 1, False)
            with pytest.raises(OrderFailed, match="instance 1"):
                await lost
            assert len((await kept).value[0]["tokens"]) == 200
            assert await state(real) == {2: (0, 0)}
            with pytest.raises(OrderFailed):
                await real.run(0, 1, [prompt(9)])
        finally:
            await real.close()

    asyncio.run(drop())


def test_an_order_with_one_bad_payload_opens_none(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m")

    async def run() -> None:
        async with backend([model]) as real:
            await real.load(0, 1, 0, "disk")
            with pytest.raises(OrderFailed, match=r"request\.prompt = 97"):
                await real.run(0, 1, [prompt(9), {"prompt": [97]}])
            assert await state(real) == {1: (0, 0)}
            together = (await real.run(0, 1, [prompt(9), prompt(5)])).value
            alone = [(await real.run(0, 1, [prompt(n)])).value[0] for n in (9, 5)]
            assert together == alone

    asyncio.run(run())


@pytest.mark.parametrize("failing", ["copy", "read", "clear", "bind"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_memory_that_runs_out_in_mid_load_leaves_everything_as_it_was(
    failing: str, nth: int, tmp_path: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [write_llama(tmp_path / "m"), make_model("g")]
    deployments = deploy(models, 2, HOW)
    room = sum(aligned(d.device_bytes) for d in deployments)
    device = Device(WorkerSpec(0, "cpu", room, deployments))
    device.load(1, 1, "disk", -1)
    calls = {"n": 0}

    def count(*_: object) -> None:
        calls["n"] += 1
        if calls["n"] == nth:
            raise MemoryError("no memory")

    owner = device if failing == "bind" else device._copier
    name = "_bind" if failing == "bind" else failing
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *a: (count(), real(*a)))
    before = (device.arena.blocks, device.arena.used, dict(device.residents))
    device.pool = device.slab.new_zeros(models[0].data_bytes)
    device.fetch(0, 0)
    for _ in range(4):
        source = "host" if failing == "copy" else "disk"
        try:
            device.load(2, 0, source, 0)
        except MemoryError:
            assert (device.arena.blocks, device.arena.used, dict(device.residents)) == before
        else:
            device.drop(2, -1)
    assert calls["n"] == 4
    device.load(2, 0, "disk", 0)
    generator = device.generator(2)
    generator.submit((0, 0), prompt(9))
    tokens = []
    while len(generator):
        tokens += [t.token for t in generator.step()]
    assert tokens == Reference(models[0]).greedy(prompt(9)["prompt"], 12)


def test_an_iteration_that_fails_ends_its_requests_and_frees_their_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stoker.runtime.compute import Compute
    from stoker.runtime.messages import Command, Reply

    model = write_llama(tmp_path / "m")
    deployments = deploy([model], 1, HOW)
    device = Device(WorkerSpec(0, "cpu", aligned(deployments[0].device_bytes), deployments))
    device.load(1, 0, "disk", -1)
    sent: list[Any] = []
    compute = Compute(device, sent.append, str)
    for number in (1, 2):
        compute._obey(Command(number, "generate", instance=1, payloads=(prompt(20),)), 0.0)
    compute._iterate(1)
    generator = device.generator(1)
    assert generator.iterations.blocks.used == 4

    def full(*_: object) -> None:
        raise MemoryError("full")

    monkeypatch.setattr(generator.module, "forward", full)
    compute._iterate(1)
    replies = [m for m in sent if isinstance(m, Reply)]
    assert {(r.number, r.error) for r in replies} == {(1, "full"), (2, "full")}
    assert generator.iterations.blocks.used == 0 and len(generator) == 0


def test_a_file_cut_short_after_the_start_fails_its_load_alone(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m", shards=3)

    async def cut() -> None:
        async with backend([model]) as real:
            last: Path = model.shards[2].path
            whole = last.read_bytes()
            last.write_bytes(whole[:-16])
            with pytest.raises(OrderFailed, match=rf"{last.name}: data.*cut short"):
                await real.load(0, 1, 0, "disk")
            assert real.ledger.device == (0,)
            last.write_bytes(whole)
            await real.load(0, 1, 0, "disk")
            value = (await real.run(0, 1, [prompt(9)])).value[0]
            assert value["tokens"] == Reference(model).greedy(prompt(9)["prompt"], 12)

    asyncio.run(cut())


def test_a_long_generation_is_not_taken_for_a_frozen_worker(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m", max_position_embeddings=4096)

    async def run() -> None:
        async with backend([model]) as real:
            worker = real.workers[0]
            await real.load(0, 1, 0, "disk")
            worker.order_timeout_s = 0.3
            reply = await real.run(0, 1, [prompt(9, 1500)])
            assert reply.seconds > 0.3 and worker.deaths == 0
            open_order = real.run(0, 1, [prompt(9, 1500)])
            await asyncio.sleep(0.05)
            os.kill(worker.pid or 0, signal.SIGSTOP)
            with pytest.raises(WorkerDied):
                await asyncio.wait_for(open_order, 5.0)

    asyncio.run(run())
