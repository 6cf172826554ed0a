"""Shipped profiles: form of the tables, rules, and what is built of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import pytest
import yaml

from stoker.envs.cluster import profiles
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.profiles.figure import computed, table
from stoker.envs.cluster.spec import Cluster

CLASSES = ("A100", "H100", "H200", "L4", "A10", "T4")
TABLES = ("gpus", "models", "systems", "storage")


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every figure under a node of a table, with its path."""
    if isinstance(node, dict) and "value" in node:
        yield path, node
    elif isinstance(node, dict):
        for key, below in node.items():
            yield from leaves(below, f"{path}/{key}")


def all_figures() -> list[tuple[str, dict[str, Any]]]:
    return [found for name in TABLES for found in leaves(table(name), name)]


def test_every_figure_has_a_value_a_source_and_a_flag() -> None:
    assert len(all_figures()) > 200
    for path, raw in all_figures():
        assert set(raw) - {"gpu"} == {"value", "quality", "source"}, path
        assert math.isfinite(raw["value"]) and raw["value"] > 0, path
        assert raw["quality"] in profiles.QUALITIES, path
        assert raw["source"] in table("sources"), path
        assert raw.get("gpu", "A100") in CLASSES, path


def test_nothing_but_names_and_figures_is_in_the_tables() -> None:
    for name in TABLES:
        for key, entry in table(name).items():
            plain = {k for k, v in entry.items() if not isinstance(v, dict)}
            assert plain <= {"product", "kind", "like"}, f"{name}/{key}"


def test_every_source_is_used_and_says_what_and_where() -> None:
    used = {raw["source"] for _, raw in all_figures()}
    assert set(table("sources")) == used
    for key, source in table("sources").items():
        assert source["what"] and source["where"], key


@pytest.mark.parametrize(
    ("ending", "low", "high"),
    [
        ("memory_gib", 14, 150),
        ("hbm_gib_s", 250, 5000),
        ("weights_gib_s", 150, 5000),
        ("cache_gib_s", 150, 5000),
        ("pcie_gib_s", 14, 60),
        ("pinned_gib_s", 9, 60),
        ("pageable_gib_s", 4, 30),
        ("dense_tflops", 60, 1000),
        ("matmul_tflops", 40, 700),
        ("layer_s", 1e-5, 1e-4),
        ("context_s", 0.2, 0.5),
        ("on_demand_usd_h", 0.3, 15),
        ("spot_usd_h", 0.2, 15),
        ("idle_w", 5, 150),
        ("peak_w", 50, 800),
        ("alpha_s", 1e-3, 0.1),
        ("step_s", 1e-3, 0.1),
        ("disk", 0.1, 60),
        ("/gib_s", 0.1, 60),
    ],
)
def test_units_are_sane(ending: str, low: float, high: float) -> None:
    found = [(path, raw["value"]) for path, raw in all_figures() if path.endswith(ending)]
    assert found
    for path, value in found:
        assert low <= value <= high, path


def test_rates_stay_below_what_the_device_can_do() -> None:
    for name in CLASSES:
        known = {k: f.value for k, f in profiles.gpu_figures(name).items()}
        assert known["pageable_gib_s"] < known["pinned_gib_s"] < known["pcie_gib_s"]
        assert known["cache_gib_s"] < known["weights_gib_s"] < known["hbm_gib_s"]
        assert known["matmul_tflops"] < known["dense_tflops"]
        assert known["spot_usd_h"] <= known["on_demand_usd_h"]
        assert known["idle_w"] < known["peak_w"] / 4


# ---- what is built


@pytest.mark.parametrize("gpu", CLASSES)
@pytest.mark.parametrize("model", profiles.models())
def test_every_pair_builds_or_says_why_not(model: str, gpu: str) -> None:
    try:
        f = profiles.function(model, gpu)
    except SpecError as error:
        assert "\n" not in str(error)
        assert error.field.endswith(("device_gib", "alpha_s"))
        return
    Cluster(profiles.node(gpu), (f,))
    assert f.beta_s > 0.0
    assert 0.0 < f.weights_gib < f.device_gib
    assert profiles.quality(profiles.figures(model, gpu)) in profiles.QUALITIES


def test_only_large_models_and_whisper_are_refused_on_an_a100() -> None:
    refused = set()
    for model in profiles.models():
        try:
            profiles.function(model, "A100")
        except SpecError:
            refused.add(model)
    assert refused == {"Llama-3.1-70B", "Qwen2.5-72B", "Mixtral-8x7B", "Whisper-large-v3"}


def test_a_large_model_over_four_gpus_by_hand() -> None:
    # Weights, half a GiB of context on each, and 8 x 1,366 tokens of cache at 320 KiB.
    f = profiles.function("Llama-3.1-70B", "A100", gpus=4)
    assert f.gpus == 4
    assert f.device_gib == pytest.approx(131.4165 + 4 * 0.5 + 8 * 1366 * 320 / 2**20)
    # 210 steps of 34.35 ms, of which each request adds its own part and that of its tokens.
    assert f.alpha_s == pytest.approx(210 * 0.03435)
    tokens_s = 210 * (0.0001128 + (1155 + 211 / 2) * 5.99e-8)
    assert f.beta_s == pytest.approx(1155 * 0.0001853 + tokens_s)
    used = profiles.figures("Llama-3.1-70B", "A100", gpus=4)
    assert (used["alpha_s"].quality, used["beta_s"].quality) == ("derived", "derived")
    # A host copy crosses four links at once: 1.4 s in place of 5.6 s.
    node = profiles.node("A100", count=4, host_gib=512.0)
    over_pcie_s = node.load_s(f, "host") - f.runtime_s
    assert over_pcie_s == pytest.approx(131.4165 / 4 / 23.4)
    Cluster(node, (f,))


@pytest.mark.parametrize(
    ("model", "gpu", "gpus", "dtype"),
    [("Llama-3.1-70B", "H100", 4, "bf16"), ("Llama-3.1-70B", "A100", 3, "bf16"),
     ("Llama-3.1-70B", "A100", 4, "int8"), ("Llama-2-7B", "A100", 2, "bf16"),
     ("ResNet-50", "A100", 2, "bf16")],
)  # fmt: skip
def test_no_service_time_is_made_up_for_several_gpus(
    model: str, gpu: str, gpus: int, dtype: str
) -> None:
    with pytest.raises(SpecError, match=rf"{model} on {gpus} x {gpu}: alpha_s"):
        profiles.function(model, gpu, gpus=gpus, dtype=dtype)
    f = profiles.function(model, gpu, gpus=gpus, dtype=dtype, alpha_s=1.0)
    assert (f.alpha_s, f.beta_s, f.gpus) == (1.0, 0.0, gpus)


def test_what_the_caller_knows_better_is_taken() -> None:
    f = profiles.function("Whisper-large-v3", "T4", name="asr", alpha_s=1.5, slo_s=10.0)
    assert (f.name, f.alpha_s, f.beta_s, f.slo_s) == ("asr", 1.5, 0.0, 10.0)


def test_a_node_has_the_devices_links_and_price_asked_for() -> None:
    node = profiles.node("T4", count=2, storage="ebs_gp3", host_gib=64.0, price="spot")
    assert [(g.kind, g.memory_gib, g.price_usd_h) for g in node.gpus] == [("T4", 14.75, 0.4039)] * 2
    assert (node.host_gib, node.disk.gib_s, node.pcie.gib_s) == (64.0, 0.9313, 12.0)
    assert profiles.node("A100").disk.gib_s == math.inf


@pytest.mark.parametrize(
    ("build", "field", "choice"),
    [
        (lambda: profiles.gpu("B300"), "gpu", "A100 | H100"),
        (lambda: profiles.gpu("A100", price="free"), "price", "on_demand | spot"),
        (lambda: profiles.node("A100", storage="tape"), "storage", "nvme"),
        (lambda: profiles.function("GPT", "A100"), "model", "Llama-2-7B"),
        (lambda: profiles.function("Llama-2-7B", "A1"), "gpu", "T4"),
        (lambda: profiles.function("Llama-2-7B", "A100", system="x"), "system", "torch | sllm"),
        (lambda: profiles.function("ResNet-50", "T4", dtype="int8"), "dtype of ResNet-50", "bf16"),
        (
            lambda: profiles.function("Llama-2-7B", "A100", output_tokens=0.0),
            "output_tokens",
            ">= 1",
        ),
    ],
)
def test_unknown_names_are_refused_with_the_choices(
    build: Callable[[], object], field: str, choice: str
) -> None:
    with pytest.raises(SpecError) as caught:
        build()
    assert caught.value.field == field
    assert choice in caught.value.accepted
    assert "\n" not in str(caught.value)


def test_a_computed_figure_is_no_better_than_its_parts() -> None:
    known = profiles.gpu_figures("A100")
    measured, rough = known["memory_gib"], known["context_s"]
    assert computed(1.0, measured, at_best="measured").quality == "measured"
    assert computed(1.0, measured).quality == "derived"
    both = computed(1.0, measured, rough, measured)
    assert both.quality == "extrapolated"
    assert both.source == f"{measured.source}; {rough.source}"
    assert profiles.quality({"a": measured, "b": rough}) == "extrapolated"


# ---- the files


def test_the_tables_are_package_data() -> None:
    folder = resources.files("stoker.envs.cluster.profiles")
    for name in (*TABLES, "sources"):
        assert yaml.safe_load(folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
