"""The same worker on a CUDA device; skipped where there is none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_llamas import Reference, write_llama
from small_models import CNN, GPT, MakeModel, image

from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.catalog import Generation, Model, deploy
from stoker.runtime.device import Device
from stoker.runtime.messages import WorkerSpec

pytestmark = pytest.mark.gpu

MIB = 2**20


@pytest.fixture(autouse=True)
def _cuda() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def prompts(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {"prompt": rng.integers(0, 97, rng.integers(1, 70)).tolist(), "max_tokens": 20}
        for _ in range(count)
    ]


def test_answers_after_swaps_on_a_gpu_equal_the_first_ones(make_model: MakeModel) -> None:
    models = [make_model("g", GPT, 1), make_model("c", CNN, 2)]
    payloads = [["once upon", "a time"], [image(0), image(1)]]

    async def swap() -> None:
        room = sum(m.data_bytes for m in models) + 256
        real = TorchBackend(deploy(models, 2), [room], 2**23, device="cuda")
        await real.start()
        try:
            rng, first = np.random.default_rng(0), {}
            for number in range(40):
                fn = number % 2 if number < 2 else int(rng.integers(2))
                source = "host" if rng.random() < 0.7 else "disk"
                await real.load(0, number, fn, source)
                value = (await real.run(0, number, payloads[fn])).value
                await real.drop(0, number, bool(rng.random() < 0.7))
                assert value == first.setdefault(fn, value)
        finally:
            await real.close()

    asyncio.run(swap())


def test_a_decoder_on_a_gpu_gives_the_same_in_a_batch_with_preemptions(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m", 5, shards=2)
    reference, asked = Reference(model), prompts(30)

    async def main() -> None:
        how = Generation(blocks=14, max_batch=16, token_budget=48)
        deployments = deploy([model], 1, how)
        real = TorchBackend(deployments, [aligned(deployments[0].device_bytes)], device="cuda")
        await real.start()
        try:
            await real.load(0, 0, 0, "disk")
            replies = await asyncio.gather(*(real.run(0, 0, [p]) for p in asked))
        finally:
            await real.close()
        assert sum(r.value[0]["preemptions"] for r in replies) > 0
        for payload, reply in zip(asked, replies, strict=True):
            assert reply.value[0]["tokens"] == reference.greedy(payload["prompt"], 20)

    asyncio.run(main())


def test_a_block_that_slides_over_itself_on_a_gpu_arrives_whole(make_model: MakeModel) -> None:
    """Blocks larger than the buffer that a move goes through."""
    models = [make_model("small", GPT, 1), make_model("wide", CNN, 2, channels=32, hidden=12800)]
    sizes = [aligned(m.data_bytes) for m in models]
    assert sizes[1] > 2 * 16 * MIB
    spec = WorkerSpec(0, "cuda:0", sum(sizes) + sizes[0], deploy(models, 2))
    device = Device(spec)
    device.enter()
    device.load(1, 0, "disk", -1)
    device.load(2, 1, "disk", -1)
    before = device.run(2, (image(0),))
    device.drop(1, -1)
    device.load(3, 0, "disk", -1)
    device.drop(3, -1)
    device._compact()
    assert device.residents[2].offset == 0
    assert device.run(2, (image(0),)) == before


def test_the_host_pool_is_pinned_and_a_load_leaves_a_running_batch_alone(
    make_model: MakeModel,
) -> None:
    """While a kernel that takes long runs on the computing stream, a load finishes."""
    import torch

    model: Model = make_model("c", CNN, channels=32, hidden=12800)
    device = Device(WorkerSpec(0, "cuda:0", 2 * aligned(model.data_bytes), deploy([model], 1)))
    device.enter()
    pool = torch.zeros(model.data_bytes, dtype=torch.uint8)
    device.pool, device.pinned = pool, device._copier.pin(pool)
    assert device.pinned
    device.fetch(0, 0)
    device.load(1, 0, "host", 0)
    device.run(1, (image(0),))
    torch.cuda._sleep(2_000_000_000)  # about a second of the computing stream
    busy = torch.cuda.Event()
    busy.record()
    device.load(2, 0, "host", 0)
    assert not busy.query(), "the load has not waited for what is computed"
    torch.cuda.synchronize()
    assert device.run(2, (image(0),)) == device.run(1, (image(0),))


def test_the_runtime_bench_measures_a_gpu(tmp_path: Path) -> None:
    from stoker.agents import bench_runtime
    from stoker.agents.bench_models import WIDE_CNN, write_random

    figures = asyncio.run(bench_runtime.swaps(write_random(tmp_path / "w", WIDE_CNN), "cuda"))
    assert {f.name.split(" of ")[0] for f in figures} >= {
        "pinned copy to the device",
        "pageable copy to the device",
        "swap, host to device,",
    }
    assert all(f.value > 0.0 for f in figures)
