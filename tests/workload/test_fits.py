"""Generators are as near to the real traces as their fits were; the documented table is true."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fits
import pytest

DOCS = Path(__file__).parents[2] / "docs" / "workloads.md"
NOISE = 0.005
"""Of a distance, at the lengths that are drawn."""


@pytest.fixture
def published() -> dict[str, Any]:
    found = fits.fits_json()
    if found is None:
        pytest.skip("generator_fits.json of the traces is not on this machine (set STOKER_DATA)")
    return found


def documented(name: str) -> list[float]:
    """Return the figures of a row of the tables in docs/workloads.md."""
    row = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", DOCS.read_text(), re.MULTILINE)
    assert row, f"no row for {name}"
    return [float(cell) for cell in row[1].split("|")]


def check(found: list[fits.Fit]) -> None:
    for fit in found:
        assert fit.reached <= fit.published + NOISE, fit
        assert documented(fit.name) == pytest.approx([fit.published, fit.reached], abs=NOISE)


def test_arrivals(real: Callable[[str], Path], published: dict[str, Any]) -> None:
    found, spread = fits.arrivals(published, real)
    check(found)
    for name, (trace, drawn) in spread.items():
        assert drawn == pytest.approx(trace, rel=0.15), name
        assert documented(name) == pytest.approx([trace, drawn], rel=0.02)


def test_tokens(real: Callable[[str], Path], published: dict[str, Any]) -> None:
    check(fits.tokens(published, real))


def test_latencies_of_diffusion_models(
    real: Callable[[str], Path], published: dict[str, Any]
) -> None:
    check(fits.latencies(published, real))


def test_one_sigma_for_all_diffusion_models_is_not_far_off(
    real: Callable[[str], Path], published: dict[str, Any]
) -> None:
    fit = fits.gaps_a_model(published, real)
    # The file has a sigma of its own for every model; the generator has one for all.
    assert fit.reached <= fit.published + 0.06
    assert documented(fit.name) == pytest.approx([fit.published, fit.reached], abs=NOISE)


def test_each_process_varies_like_the_trigger_it_stands_for(published: dict[str, Any]) -> None:
    for name, (trace, drawn) in fits.triggers(published).items():
        assert documented(name) == pytest.approx([trace, drawn], abs=0.05)
        # Orders of burstiness, not more: timers far below one, http near it, the rest well above.
        assert (trace < 0.2) == (drawn < 0.2) and (trace > 2.0) == (drawn > 2.0), name
