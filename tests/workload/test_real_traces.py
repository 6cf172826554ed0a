"""Loaders on the real files, against statistics that were computed of them elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stoker.envs.workload import (
    Workload,
    alibaba_genai_2026,
    alibaba_gpu_v2023,
    azure_functions_2021,
    burstgpt,
    catalogue,
    mooncake,
    servegen,
    token_lengths,
    twitter,
)

Find = Callable[[str], Path]


@pytest.fixture
def stats() -> dict[str, Any]:
    for folder in catalogue.data_folders():
        if (folder / "stats.json").is_file():
            loaded: dict[str, Any] = json.loads((folder / "stats.json").read_text())
            return loaded
    pytest.skip("stats.json of the traces is not on this machine (set STOKER_DATA)")


def percentiles(values: Any, expected: dict[str, float]) -> None:
    """Compare every percentile, the mean and the extremes that the statistics have."""
    values = np.asarray(values, np.float64)
    assert len(values) == expected["n"]
    found = {k: np.percentile(values, float(k[1:])) for k in expected if k[1:].isdecimal()}
    found |= {"mean": values.mean(), "min": values.min(), "max": values.max()}
    for name, value in found.items():
        if name in expected:
            assert value == pytest.approx(expected[name], rel=1e-4, abs=1e-3), name


def times(w: Workload, expected: dict[str, Any], left_out: int = 0) -> None:
    """Compare count, span and how gaps vary; rows left out change the latter two."""
    assert len(w) + left_out == expected["n"]
    assert w.arrival_s[-1] - w.arrival_s[0] == pytest.approx(expected["span_s"], abs=1e-3)
    gaps = np.diff(w.arrival_s)
    close = 1e-3 if left_out else 1e-4
    assert gaps.std() / gaps.mean() == pytest.approx(expected["iat_cv"], rel=close)


def popularity(w: Workload, expected: dict[str, Any]) -> None:
    percentiles(np.bincount(w.function), expected["count_percentiles"])


def test_azure_functions_2021(real: Find, stats: dict[str, Any]) -> None:
    w = azure_functions_2021.load(real("azure_functions_2021_head"))
    expected = stats["azure_functions_2021_head"]
    times(w, expected)
    assert len(w.names) == expected["functions"]
    percentiles(w.service_s, expected["duration_s"])
    popularity(w, expected["popularity"])


def test_mooncake(real: Find, stats: dict[str, Any]) -> None:
    w = mooncake.load(real("mooncake_conversation"))
    expected = stats["mooncake_conversation"]
    times(w, expected)
    percentiles(w.prompt_tokens, expected["prompt_tokens"])
    percentiles(w.output_tokens, expected["output_tokens"])


def test_burstgpt(real: Find, stats: dict[str, Any]) -> None:
    path = real("burstgpt_sample")
    assert list(burstgpt.COLUMNS) == stats["burstgpt_sample"]["cols"]
    w = burstgpt.load(path)
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    assert len(rows) == stats["burstgpt_sample"]["n"]
    kept = [row for row in rows if row[3] != "0"]
    assert w.arrival_s.tolist() == [float(row[0]) for row in kept]
    assert [w.names[f] for f in w.function] == [row[1] for row in kept]


def test_token_lengths(real: Find, stats: dict[str, Any]) -> None:
    lengths = token_lengths.read(real("token_lengths_arxiv"))
    expected = stats["lengths_arxiv_summarization"]
    percentiles(lengths[:, 0], expected["prompt_tokens"])
    percentiles(lengths[:, 1], expected["output_tokens"])


def test_twitter(real: Find, stats: dict[str, Any]) -> None:
    path = real("twitter")
    counts, expected = twitter.read_counts(path), stats["twitter"]
    assert len(counts) == expected["seconds"]
    assert counts.mean() == pytest.approx(expected["mean_rps"], abs=1e-3)
    assert counts.max() == expected["peak_1s"]
    assert counts.var() / counts.mean() == pytest.approx(expected["idc_1s"], rel=1e-4)
    w = twitter.load(path, rng=np.random.default_rng(0), start_s=3600, end_s=3660)
    assert np.bincount(w.arrival_s.astype(int), minlength=60).tolist() == counts[3600:3660].tolist()


def test_alibaba_genai_requests(real: Find, stats: dict[str, Any]) -> None:
    w = alibaba_genai_2026.load(real("alibaba_genai_2026"))
    expected = stats["alibaba_genai_lora_requests"]
    named = expected["base_models"]["count_percentiles"]
    assert len(w.names) == expected["base_models"]["n"]
    assert len(w) == pytest.approx(named["mean"] * named["n"], abs=0.5)
    times(w, expected, left_out=expected["n"] - len(w))
    popularity(w, expected["base_models"])
    assert w.service_s is not None
    # Those left out are pending and have no time: all the seconds are there.
    assert w.service_s.sum() == pytest.approx(
        expected["exec_time_s"]["mean"] * expected["n"], rel=1e-4
    )


@pytest.mark.parametrize(
    "name",
    ["basemodel_update_latency", "lora_update_latency", "controlnet_latency_data",
     "pipeline_update_latency", "pipeline_inference_data", "model_predict_data"],
)  # fmt: skip
def test_alibaba_genai_latencies(real: Find, stats: dict[str, Any], name: str) -> None:
    found = alibaba_genai_2026.latencies_s(real(f"alibaba_genai_2026_{name}"))
    percentiles(found * 1000.0, stats["alibaba_genai_latencies"][f"{name}_anon"])


def test_alibaba_gpu_pods(real: Find, stats: dict[str, Any]) -> None:
    path = real("alibaba_gpu_v2023")
    w, expected = alibaba_gpu_v2023.load(path), stats["alibaba_gpu_v2023"]
    milli = [int(name.rsplit("x", 1)[1]) for name in w.names]
    percentiles(np.array(milli)[w.function], expected["gpu_milli"])
    assert w.horizon_s / 86400.0 == pytest.approx(expected["span_days"], abs=1e-3)


@pytest.mark.parametrize(
    ("trace", "model"),
    [("servegen_m_small", "language/m-small"), ("servegen_m_large", "language/m-large"),
     ("servegen_mm_image", "multimodal/mm-image")],
)  # fmt: skip
def test_servegen(real: Find, stats: dict[str, Any], trace: str, model: str) -> None:
    path = real(trace)
    clients, expected = servegen.read(path, model), stats[f"servegen_{model.split('/')[1]}"]
    assert len(clients) == expected["clients"]
    total = np.zeros(expected["total_rate"]["n"])
    for client in clients:
        np.add.at(total, (client.start_s / 600.0).astype(int), client.rate)
    percentiles(total, expected["total_rate"])
    active = [(c.rate > 0.0, c) for c in clients]
    percentiles(np.concatenate([c.cv[on] for on, c in active]), expected["client_window_cv"])
    patterns = [p for on, c in active for p, live in zip(c.pattern, on, strict=True) if live and p]
    for name, share in expected["pattern_share"].items():
        assert patterns.count(name) / len(patterns) == pytest.approx(share, abs=1e-4)
    w = servegen.load(
        path, rng=np.random.default_rng(0), model=model, start_s=43200.0, hours=2.0,
        rate_factor=0.02 if "image" not in model else 1.0,
    )  # fmt: skip
    due = total[72:84].sum() * 600.0 * (0.02 if "image" not in model else 1.0)
    assert len(w) == pytest.approx(due, rel=0.03)
