"""Fixtures of the runtime's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_models import GPT, MakeModel, write_model

from stoker.runtime.catalog import Model


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in a worker: two threads of an operator fight over a small machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    def make(name: str, config: dict[str, Any] = GPT, seed: int = 0, **changes: Any) -> Model:
        return write_model(tmp_path / name, {**config, **changes}, seed)

    return make
