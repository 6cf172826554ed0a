"""The same worker on a CUDA device; skipped where there is none."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from small_models import CNN, GPT, MakeModel, image

from stoker.runtime.backend import TorchBackend
from stoker.runtime.catalog import deploy

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _cuda() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


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
