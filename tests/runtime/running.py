"""A backend with real workers, closed when the test is done.  Units: bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from stoker.runtime.backend import TorchBackend
from stoker.runtime.catalog import Model, deploy

MIB = 2**20


@asynccontextmanager
async def backend(
    models: list[Model], count: int = 0, device: int = 8 * MIB, host: int = 8 * MIB, **more: Any
) -> AsyncIterator[TorchBackend]:
    running = TorchBackend(deploy(models, count or len(models)), [device], host, **more)
    await running.start()
    try:
        yield running
    finally:
        await running.close()
