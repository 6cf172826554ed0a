"""Shipped profiles: figures against the data they were taken from, and the pages about them."""

from __future__ import annotations

import csv
import json
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stoker.envs.cluster import profiles
from stoker.envs.cluster.profiles.figure import table
from stoker.envs.cluster.spec import GIB
from stoker.envs.workload import to_gpu

CLASSES = ("A100", "H100", "H200", "L4", "A10", "T4")
CATALOGUE = {"A100": "A100-80GB-SXM", "H100": "H100-80GB-SXM", "H200": "H200-141GB-SXM"}
"""Names in gpus.csv; the other classes have the same name there."""


def find_data() -> Path | None:
    """Folder of the source data: beside what STOKER_DATA names, or beside the checkout."""
    named = os.environ.get("STOKER_DATA")
    roots = [Path(named).parent] if named else []
    roots += [p / "shared" / "data" for p in Path(__file__).resolve().parents]
    return next((root for root in roots if (root / "catalog" / "gpus.csv").is_file()), None)


DATA = find_data()
needs_data = pytest.mark.skipif(
    DATA is None, reason="no source data (shared/data) beside the checkout or STOKER_DATA"
)


def rows(name: str) -> list[dict[str, str]]:
    assert DATA is not None
    with open(DATA / name, newline="") as lines:
        return list(csv.DictReader(lines))


@needs_data
def test_gpus_agree_with_the_catalogue() -> None:
    catalogue = {row["gpu"]: row for row in rows("catalog/gpus.csv")}
    for name in CLASSES:
        row, known = catalogue[CATALOGUE.get(name, name)], profiles.gpu_figures(name)
        for field, column in (
            ("hbm_gib_s", "hbm_bandwidth_bytes_per_s"),
            ("pcie_gib_s", "pcie_bw_bytes_per_s_per_dir"),
            ("nvlink_gib_s", "nvlink_bytes_per_s_per_dir"),
        ):
            assert (field in known) == bool(row[column])
            if row[column]:
                assert known[field].value == pytest.approx(float(row[column]) / GIB, rel=1e-3)
        assert known["dense_tflops"].value == float(row["dense_fp16_tflops"])
        assert known["peak_w"].value == float(row["tdp_w"])
        # What the driver shows: less by what it reserves; H200: more than the nominal 141 GB.
        assert known["memory_gib"].value == pytest.approx(float(row["hbm_bytes"]) / GIB, rel=0.08)
        vendor = "price_azure_usd_h" if name == "H200" else "price_aws_usd_h"
        assert known["on_demand_usd_h"].value == float(row[vendor])


@needs_data
@pytest.mark.parametrize(
    ("name", "kind", "provider", "region"),
    [
        ("H100", "H100", "aws", "us-east-1"),
        ("H200", "H200", "azure", "eastus2"),
        ("L4", "L4", "aws", "us-east-1"),
        ("A10", "A10G", "aws", "us-east-1"),
        ("T4", "T4", "aws", "us-east-1"),
    ],
)
def test_prices_are_rows_of_the_price_list(
    name: str, kind: str, provider: str, region: str
) -> None:
    prices = {
        row["is_spot"]: float(row["price_per_gpu_hour_usd"])
        for row in rows("catalog/gpu_prices_2026-06-01.csv")
        if (row["gpu_type"], row["provider"], row["region"]) == (kind, provider, region)
    }
    known = profiles.gpu_figures(name)
    assert known["on_demand_usd_h"].value == pytest.approx(prices["False"], rel=1e-3)
    assert known["spot_usd_h"].value == pytest.approx(prices["True"], rel=1e-3)


@needs_data
def test_the_price_of_an_a100_is_derived_as_its_head_says() -> None:
    prices: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows("catalog/gpu_prices_2026-06-01.csv"):
        if (row["gpu_type"], row["provider"]) == ("A100", "aws"):
            place = prices.setdefault((row["region"], row["gpu_memory_gb"]), {})
            place[row["is_spot"]] = float(row["price_per_gpu_hour_usd"])
    mean, small = prices["us-east-1", "60.0"]["False"], prices["us-east-2", "40.0"]["False"]
    known = profiles.gpu_figures("A100")
    assert known["on_demand_usd_h"].value == pytest.approx(2 * mean - small, rel=1e-3)
    ratio = statistics.median(p["True"] / p["False"] for p in prices.values() if len(p) == 2)
    assert known["spot_usd_h"].value == pytest.approx(3.431 * ratio, rel=1e-3)


@needs_data
def test_models_agree_with_the_catalogue() -> None:
    catalogue = {row["model"]: row for row in rows("catalog/models.csv")}
    assert set(profiles.models()) == set(catalogue)
    for name, row in catalogue.items():
        known = table("models")[name]
        active = known.get("active_params", known["params"])["value"]
        assert known["kind"] == row["kind"]
        assert known["params"]["value"] == int(row["params"])
        assert active == int(row["active_params"])
        weights_gib = int(row["weight_bytes_bf16"]) / GIB
        assert known["weights_gib"]["bf16"]["value"] == pytest.approx(weights_gib, abs=5e-5)
        assert known.get("cache_bytes", {"value": 0})["value"] == int(
            row["kv_bytes_per_token_bf16"]
        )


@needs_data
def test_loads_are_the_measured_ones() -> None:
    measured = {
        (row["model"].split("/")[1], row["format"], row["scenario"]): float(row["mean_s"])
        for row in rows("catalog/measured_model_load.csv")
        if row["hardware"] == "h100_2025"
    }
    formats = {"torch": "safetensors", "sllm": "sllm"}
    tiers = {"disk": "random", "host": "cached"}
    sizes = {"Llama-3.1-8B": "Llama-3.1-8B-Instruct", "Qwen2.5-32B": "DeepSeek-R1-Distill-Qwen-32B"}
    for model, run in sizes.items():
        for system, loads in table("models")[model]["load_s"].items():
            for tier, raw in loads.items():
                assert raw["value"] == measured[run, formats[system], tiers[tier]]
    gib = {"Qwen3-32B": 65527752704 / GIB}
    gib |= {run: table("models")[m]["weights_gib"]["bf16"]["value"] for m, run in sizes.items()}
    for system, tier in (("torch", "disk"), ("torch", "host"), ("sllm", "disk"), ("sllm", "host")):
        at = (formats[system], tiers[tier])
        rates = [gib[run] / mean for (run, *rest), mean in measured.items() if tuple(rest) == at]
        known = table("systems")[system][f"{tier}_gib_s"]["value"]
        assert known == pytest.approx(statistics.mean(rates), rel=1e-3)


def calibration(gpu: str, tp: int = 1) -> dict[str, Any]:
    assert DATA is not None
    entries = json.loads((DATA / "calibration" / "serving_latency.json").read_text())["entries"]
    return {k: v for k, v in entries.items() if v["gpu"] == gpu and v["tp"] == tp}


def roofline(gpu: str) -> tuple[float, float, float, float]:
    """weights_gib_s, layer_s, cache_gib_s and matmul_tflops, as the head of gpus.yaml says."""
    entries = list(calibration(gpu).values())
    size = np.array([[e["weight_bytes_per_gpu"] / GIB, e["num_layers"]] for e in entries])
    decode = [e["num_layers"] * np.array(e["attn_ms_per_layer"]["decode"]) / 1e3 for e in entries]
    fixed = [
        e["token_ms"]["roofline"][0] / 1e3 + d[2] for e, d in zip(entries, decode, strict=True)
    ]
    step = np.array(fixed)
    solution = np.linalg.lstsq(size / step[:, None], np.ones(len(step)), rcond=None)[0]
    cache = [
        e["kv_bytes_per_token_per_gpu"] / d[4] / GIB for e, d in zip(entries, decode, strict=True)
    ]
    tflops = [e["weight_bytes_per_gpu"] / e["token_ms"]["roofline"][3] / 1e9 for e in entries]
    return (
        1.0 / float(solution[0]),
        float(solution[1]),
        statistics.median(cache),
        statistics.median(tflops),
    )


@needs_data
@pytest.mark.parametrize("name", ["A100", "H100"])
def test_roofline_rates_are_the_fit_over_the_measured_models(name: str) -> None:
    known = profiles.gpu_figures(name)
    for field, value in zip(
        ("weights_gib_s", "layer_s", "cache_gib_s", "matmul_tflops"),
        roofline(name.lower()),
        strict=True,
    ):
        assert known[field].value == pytest.approx(value, rel=1e-3), field


@needs_data
def test_the_shares_of_an_a40_are_those_in_the_rule() -> None:
    row = next(row for row in rows("catalog/gpus.csv") if row["gpu"] == "A40")
    weights, layer, _, tflops = roofline("a40")
    share = weights * GIB / float(row["hbm_bandwidth_bytes_per_s"])
    assert share == pytest.approx(0.783, abs=5e-4)
    assert tflops / float(row["dense_fp16_tflops"]) == pytest.approx(0.757, abs=5e-4)
    assert profiles.gpu_figures("T4")["layer_s"].value == pytest.approx(layer, rel=1e-3)


@needs_data
@pytest.mark.parametrize(
    ("model", "gpu", "key"),
    [
        ("Llama-2-7B", "A100", "meta-llama/Llama-2-7b-hf|a100|tp1"),
        ("Llama-2-7B", "H100", "meta-llama/Llama-2-7b-hf|h100|tp1"),
        ("Llama-3.1-8B", "A100", "meta-llama/Meta-Llama-3-8B|a100|tp1"),
        ("Mistral-7B-v0.1", "A100", "meta-llama/Meta-Llama-3-8B|a100|tp1"),
        ("Llama-3.1-70B", "A100x2", "meta-llama/Meta-Llama-3-70B|a100|tp2|a100_dgx"),
        ("Llama-3.1-70B", "A100x4", "meta-llama/Meta-Llama-3-70B|a100|tp4|a100_dgx"),
        ("Llama-3.1-70B", "A100x8", "meta-llama/Meta-Llama-3-70B|a100|tp8|a100_dgx"),
    ],
)
def test_iteration_coefficients_are_those_of_the_calibration(
    model: str, gpu: str, key: str
) -> None:
    kind, _, tp = gpu.partition("x")
    entry = calibration(kind.lower(), int(tp or 1))[key]
    token, attention = entry["token_ms"]["roofline"], entry["attn_ms_per_layer"]
    layers, decode = entry["num_layers"], attention["decode"]
    expected = {
        "step_s": token[0] + layers * decode[2],
        "sequence_s": token[1] + layers * decode[3],
        "cache_token_s": layers * decode[4],
        "prompt_token_s": token[3] + layers * attention["prefill"][2],
    }
    known = table("models")[model]["iteration"][gpu]
    assert {k: known[k]["value"] for k in known} == pytest.approx(
        {k: v / 1e3 for k, v in expected.items()}, rel=1e-3
    )


@pytest.mark.parametrize(
    ("model", "gpu", "seconds"),
    [
        # Mean latency of batches of 1, 2, 4, ... as published (nvidia_resnet), and batch over
        # throughput (nvidia_bert).
        ("ResNet-50", "A100", [2.128e-3, 2.194e-3, 2.759e-3, 3.895e-3, 5.793e-3, 11.193e-3]),
        ("ResNet-50", "T4", [3.003e-3, 3.998e-3, 5.747e-3, 8.998e-3, 15.113e-3, 28.353e-3]),
        ("BERT-base-uncased", "A100", [1 / 231.37, 2 / 454.54, 4 / 842.34, 8 / 1216.43]),
        ("BERT-base-uncased", "T4", [1 / 91.93, 2 / 148.08, 4 / 215.45, 8 / 289.52]),
    ],
)
def test_batch_coefficients_are_the_fit_over_published_points(
    model: str, gpu: str, seconds: list[float]
) -> None:
    batch, measured = 2.0 ** np.arange(len(seconds)), np.array(seconds)
    terms = np.stack([1.0 / measured, batch / measured], axis=1)
    alpha_s, beta_s = np.linalg.lstsq(terms, np.ones(len(seconds)), rcond=None)[0]
    known = profiles.function(model, gpu)
    assert (known.alpha_s, known.beta_s) == pytest.approx((alpha_s, beta_s), rel=1e-3)
    assert known.alpha_s + known.beta_s * batch == pytest.approx(measured, rel=0.07)


def test_models_are_those_that_traces_are_mapped_to() -> None:
    mapped = {m.name: (m.params, m.active_params, m.kv_bytes) for m in to_gpu.models()}
    for name, expected in mapped.items():
        known = table("models")[name]
        params = known["params"]["value"]
        active = known.get("active_params", {"value": params})["value"]
        assert (params, active, known.get("cache_bytes", {"value": 0})["value"]) == expected
    assert set(mapped) == set(profiles.models())


def test_the_table_in_the_docs_agrees() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "profiles.md").read_text()
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    shown = {cells[0]: [float(c) for c in cells[1:]] for cells in lines if cells[0] in CLASSES}
    fields = ["memory_gib", "pinned_gib_s", "on_demand_usd_h", "spot_usd_h", "idle_w", "peak_w"]
    assert shown == {
        name: [profiles.gpu_figures(name)[field].value for field in fields] for name in CLASSES
    }
