"""Noise of a machine that was found again at another pace, worked by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.agents.deployed import Deployed
from stoker.runtime.profile import FORMAT

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from small_models import CNN, write_model

LEVELS = (1, 5, 10, 25, 50, 75, 90, 95, 99)


def entry(load_s: float, batch_s: float, order_s: float) -> dict[str, Any]:
    """Figures of a model whose loads and batches do not spread."""
    return {
        "weights_bytes": 2**20, "device_bytes": 2**20,
        "load_s": {"disk": {f"p{q}": load_s for q in LEVELS}, "host": {"p50": 0.01}},
        "order_s": {"p50": order_s}, "load_order_s": {"p50": 0.001},
        "alpha_s": 0.75 * batch_s, "beta_s": 0.25 * batch_s, "max_batch": 4,
        "residual": {f"p{q}": 0.0 for q in LEVELS},
    }  # fmt: skip


def test_another_pace_is_noise_on_the_figures_of_before(tmp_path: Path) -> None:
    models = (write_model(tmp_path / "a", CNN, 0), write_model(tmp_path / "b", CNN, 1))
    entries = {"a": entry(0.028, 0.010, 0.002), "b": entry(0.068, 0.006, 0.002)}
    before = Deployed({"format": FORMAT, "copy_gib_s": 10.0, "models": entries}, models)
    # Loads with their ways: 30 and 70 ms before, 40 and 80 after. Requests: 12 and 8, 14 and 16.
    entries = {"a": entry(0.037, 0.011, 0.003), "b": entry(0.077, 0.013, 0.003)}
    after = replace(before, profile={**before.profile, "models": entries})
    same, slower = before.noise(5), before.noise(5, after)
    assert [f.seed for f in slower] == [f.seed for f in same] == list(range(5, 13))
    for steady, found in zip(same, slower, strict=True):
        assert set(steady.load_factors) == set(steady.service_factors) == {1.0}
        assert found.load_factors == pytest.approx([1.2] * len(found.load_factors))
        assert found.service_factors == pytest.approx([1.5] * len(found.service_factors))
