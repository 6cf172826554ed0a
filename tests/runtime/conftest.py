"""Fixtures of the runtime's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_models import GPT, MakeModel, write_model

from stoker.runtime.catalog import Model


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    def make(name: str, config: dict[str, Any] = GPT, seed: int = 0, **changes: Any) -> Model:
        return write_model(tmp_path / name, {**config, **changes}, seed)

    return make
