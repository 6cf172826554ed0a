"""Rules that carry published figures to what was not measured, by hand."""

from __future__ import annotations

import pytest

from stoker.envs.cluster import profiles
from stoker.envs.cluster.spec import Cluster

CLASSES = ("A100", "H100", "H200", "L4", "A10", "T4")


def test_classes_without_measurements_follow_the_rules() -> None:
    known = {name: {k: f.value for k, f in profiles.gpu_figures(name).items()} for name in CLASSES}
    h100, h200, a100 = known["H100"], known["H200"], known["A100"]
    faster = h200["hbm_gib_s"] / h100["hbm_gib_s"]
    for field in ("weights_gib_s", "cache_gib_s"):
        assert h200[field] == pytest.approx(h100[field] * faster, rel=1e-3)
    assert h200["pinned_gib_s"] == h100["pinned_gib_s"]
    for name in ("L4", "A10", "T4"):
        here = known[name]
        assert here["weights_gib_s"] == pytest.approx(0.783 * here["hbm_gib_s"], rel=2e-3)
        assert here["cache_gib_s"] == pytest.approx(0.717 * here["hbm_gib_s"], rel=2e-3)
        assert here["matmul_tflops"] == pytest.approx(0.757 * here["dense_tflops"], rel=2e-3)
    for name in ("L4", "A10"):
        assert known[name]["pinned_gib_s"] == a100["pinned_gib_s"]
    for here in known.values():
        assert here["pageable_gib_s"] == pytest.approx(0.48 * here["pinned_gib_s"], rel=2e-3)


def test_a_measured_llm_by_hand() -> None:
    # 210 steps of 8.731 ms; a prompt of 1155 tokens at 66.22 us; in each step 46.64 us and 1260.5
    # cached tokens at 0.3616 us.
    f = profiles.function("Llama-2-7B", "A100", max_batch=4)
    assert f.alpha_s == pytest.approx(210 * 8.731e-3)
    assert f.beta_s == pytest.approx(1155 * 66.22e-6 + 210 * (46.64e-6 + 1260.5 * 0.3616e-6))
    # 12.5513 GiB of weights, 0.5 of context, 4 x 1366 tokens of 0.5 MiB.
    assert f.device_gib == pytest.approx(12.5513 + 0.5 + 4 * 1366 * 0.5 / 1024)
    assert (f.name, f.weights_gib, f.max_batch) == ("Llama-2-7B", 12.5513, 4)
    used = profiles.figures("Llama-2-7B", "A100")
    assert (used["alpha_s"].quality, used["beta_s"].quality) == ("measured", "derived")


def test_an_llm_without_coefficients_by_hand() -> None:
    # A step reads 14.1852 GiB at 1472 GiB/s and has 28 layers of 43.03 us.
    f = profiles.function("Qwen2.5-7B", "A100", prompt_tokens=100.0, output_tokens=2.0)
    assert f.alpha_s == pytest.approx(14.1852 / 1472 + 28 * 43.03e-6)
    token_s = 2 * 7615616512 / 220.7e12
    cached_s = 57344 / 2**30 / 1362
    assert f.beta_s == pytest.approx(101 * token_s + 101 * cached_s)
    for gpu, flag in (("A100", "derived"), ("L4", "extrapolated")):
        assert profiles.figures("Qwen2.5-7B", gpu)["alpha_s"].quality == flag


def test_int8_halves_what_is_read_and_held() -> None:
    f = profiles.function("Llama-3.1-70B", "A100", dtype="int8", output_tokens=2.0)
    assert f.weights_gib == pytest.approx(70553706496 / 2**30, abs=5e-5)
    assert f.alpha_s == pytest.approx(65.7083 / 1472 + 80 * 43.03e-6)
    used = profiles.figures("Llama-3.1-70B", "A100", dtype="int8")
    assert used["alpha_s"].quality == "extrapolated"


def test_a_mixture_of_experts_reads_its_active_weights() -> None:
    f = profiles.function("Mixtral-8x7B", "H200", output_tokens=2.0)
    active_gib = 86.9907 * 12879925248 / 46702792704
    assert f.alpha_s == pytest.approx(active_gib / 3940 + 32 * 41.39e-6)


def test_batch_models_scale_from_the_nearest_measured_class() -> None:
    measured = profiles.function("ResNet-50", "T4")
    assert (measured.alpha_s, measured.beta_s) == (0.002272, 0.0008238)
    # L4 (121 TFLOP/s) is nearer to T4 (65) than to A100 (312); H100 to A100.
    l4, h100 = profiles.function("ResNet-50", "L4"), profiles.function("ResNet-50", "H100")
    assert (l4.alpha_s, l4.beta_s) == (0.002272, pytest.approx(0.0008238 * 65 / 121))
    assert (h100.alpha_s, h100.beta_s) == (0.001727, pytest.approx(0.0002729 * 312 / 989))


def test_a_like_model_scales_by_layers_and_work() -> None:
    f = profiles.function("ViT-L/16", "A100")
    # 24 layers against 12; 2 x 24 x 12 x 1024^2 x 197 FLOP against 2 x 12 x 12 x 768^2 x 128.
    work = (24 * 1024**2 * 197) / (12 * 768**2 * 128)
    assert f.alpha_s == pytest.approx(2 * 0.003826)
    assert f.beta_s == pytest.approx(0.0003096 * work, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "system", "load_s"),
    [
        ("Llama-3.1-8B", "torch", 4.4365),
        ("Llama-3.1-8B", "sllm", 0.6784),
        ("Qwen2.5-32B", "torch", 19.0898),
        ("Qwen2.5-32B", "sllm", 3.2204),
    ],
)
def test_a_load_takes_what_was_measured(model: str, system: str, load_s: float) -> None:
    f = profiles.function(model, "H100", system=system)
    cluster = Cluster(profiles.node("H100"), (f,))
    assert cluster.load_s(0) == pytest.approx(1.26 + 0.35 + load_s)


def test_a_load_measured_elsewhere_counts_as_extrapolated() -> None:
    here = profiles.figures("Llama-3.1-8B", "H100")["load_gib_s"]
    there = profiles.figures("Llama-3.1-8B", "A100")["load_gib_s"]
    assert (here.quality, there.quality) == ("derived", "extrapolated")
    assert here.value == there.value and "ServerlessLLM" in here.source


def test_vllm_starts_slowly_and_warms_up() -> None:
    f = profiles.function("Llama-3.1-8B", "A100", system="vllm")
    assert (f.runtime_s, f.warmup_s) == (pytest.approx(36.9), 2.8)
