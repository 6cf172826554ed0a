"""The serving oracle data: where they lie, and their cases as arrays.

Shapes: N requests.  Units: seconds, tokens.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Rows = list[dict[str, str]]


def find_data() -> Path | None:
    """Folder of the shared data: what STOKER_DATA is beside, or beside the checkout."""
    named = os.environ.get("STOKER_DATA")
    roots = [Path(named).parent] if named else []
    roots += [p / "shared" / "data" for p in Path(__file__).resolve().parents]
    for root in roots:
        if (root / "oracles" / "serving" / "summary.json").is_file():
            return root
    return None


DATA = find_data()
needs_data = pytest.mark.skipif(
    DATA is None, reason="no oracle data (shared/data/oracles) beside the checkout or STOKER_DATA"
)
SUMMARY: dict[str, Any] = (
    {} if DATA is None else json.loads((DATA / "oracles/serving/summary.json").read_text())
)
FORMULA = sorted(name for name, case in SUMMARY.items() if case["mode"] == "formula")
FOREST = sorted(name for name, case in SUMMARY.items() if case["mode"] == "rf")


def rows(name: str) -> Rows:
    """Rows of one file of the serving oracle."""
    assert DATA is not None
    with open(DATA / "oracles" / "serving" / name, newline="") as lines:
        return list(csv.DictReader(lines))


def column(found: Rows, name: str) -> NDArray[np.float64]:
    """One column; empty cells are NaN."""
    return np.array([float(row[name] or "nan") for row in found])


def arguments(name: str) -> dict[str, Any]:
    """Arguments of `llm_replica` for a case."""
    case = SUMMARY[name]
    trace = rows(f"traces/{case['trace']}.csv")
    budget = case["args"].get("chunk", 512) if case["scheduler"] == "sarathi" else 4096
    return {
        "arrival_s": column(trace, "arrived_at"),
        "prompt_tokens": column(trace, "num_prefill_tokens").astype(int),
        "output_tokens": column(trace, "num_decode_tokens").astype(int),
        "profile": case["calibration_key"],
        "scheduler": case["scheduler"],
        "token_budget": budget,
        "num_blocks": case["num_blocks"],
        "max_batch": case["args"].get("bs_cap", 128),
        "form": "roofline" if case["mode"] == "formula" else "table",
    }
