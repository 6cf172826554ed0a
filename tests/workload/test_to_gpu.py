"""From traces to GPUs: the two mappings, footprint, memory ratio and thinning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster, Function
from stoker.envs.workload import (
    Workload,
    footprint_gib,
    generate,
    memory_ratio,
    resident_s,
    thin,
    to_gpu,
    utilisation,
)

Make = Callable[..., Workload]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sized(*sizes_gib: float) -> tuple[Function, ...]:
    return tuple(Function("abcdefgh"[i], s, s) for i, s in enumerate(sizes_gib))


def many(count: int, with_service: bool = True) -> Workload:
    arrival = np.arange(count, dtype=np.float64)
    service = np.linspace(0.0, 30.0, count) if with_service else None
    names = tuple(f"f{i}" for i in range(count))
    return Workload(arrival, np.arange(count, dtype=np.int32), names, float(count), service)


def test_resident_time_of_a_hand_worked_example(make: Make) -> None:
    # TTL 10, service 2, horizon 100.
    # a: at 0 -> [0, 12), at 5 -> extends to 17; at 50 -> [50, 62): 17 + 12 = 29.
    # b: at 95 -> cut at the horizon: 5.
    w = make([(0.0, 0), (5.0, 0), (50.0, 0), (95.0, 1)], 100.0, 2.0)
    assert resident_s(w, sized(4.0, 8.0), ttl_s=10.0).tolist() == [29.0, 5.0]
    # (29 x 4 + 5 x 8) / 100
    assert footprint_gib(w, sized(4.0, 8.0), ttl_s=10.0) == pytest.approx(1.56)


def test_the_longest_service_in_flight_ends_the_residence() -> None:
    w = Workload(
        np.array([0.0, 1.0]), np.array([0, 0], np.int32), ("a",), 100.0, np.array([20.0, 1.0])
    )
    assert resident_s(w, sized(1.0), ttl_s=5.0).tolist() == [25.0]


def test_a_function_without_requests_holds_nothing(make: Make) -> None:
    w = make([(0.0, 0), (1.0, 2)], 10.0, 1.0)
    assert resident_s(w, sized(1.0, 1.0, 1.0), ttl_s=1.0).tolist() == [2.0, 0.0, 2.0]


def test_resident_time_equals_a_plain_loop_over_intervals() -> None:
    w = generate(rng(5), functions=30, hours=6.0, requests_per_s=0.2)
    functions = tuple(Function(n, 1.0, 1.0) for n in w.names)
    held = resident_s(w, functions, 600.0)
    for fn in range(30):
        total = end = 0.0
        mine = w.function == fn
        for a, s in zip(w.arrival_s[mine], w.service_s[mine], strict=True):  # type: ignore[index]
            until = min(a + s + 600.0, w.horizon_s)
            total += max(0.0, until - max(a, end))
            end = max(end, until)
        assert held[fn] == pytest.approx(total, abs=1e-6)


def test_device_memory_is_the_ratio_of_the_footprint_of_an_hour(make: Make) -> None:
    # One request of each function at 0 in two hours: resident 3600 + 2 of 7200 s.
    w = make([(0.0, 0), (0.0, 1)], 7200.0, 2.0)
    footprint = 3602.0 / 7200.0 * (6.0 + 6.0)
    assert memory_ratio(w, sized(6.0, 6.0), 2.0) == pytest.approx(2.0 * footprint)


def test_device_memory_never_falls_below_the_largest_function(make: Make) -> None:
    w = make([(0.0, 0), (0.0, 1)], 7200.0, 2.0)
    assert memory_ratio(w, sized(1.0, 30.0), 0.1) == 30.0
    with pytest.raises(SpecError, match="ratio"):
        memory_ratio(w, sized(1.0, 30.0), 0.0)


def test_functions_of_another_workload_are_refused(make: Make) -> None:
    w = make([(0.0, 0)], 10.0, 1.0)
    with pytest.raises(SpecError, match="functions"):
        footprint_gib(w, sized(1.0, 1.0))


def test_utilisation_is_service_over_gpu_time(make: Make) -> None:
    w = make([(0.0, 0), (1.0, 0)], 100.0, 5.0)
    assert utilisation(w) == pytest.approx(0.1)
    assert utilisation(w, gpus=2) == pytest.approx(0.05)


def test_utilisation_without_service_times_uses_p1() -> None:
    w = many(10, with_service=False)
    functions = tuple(Function(n, 1.0, 1.0, alpha_s=0.3, beta_s=0.2) for n in w.names)
    assert utilisation(w, functions) == pytest.approx(0.5)
    with pytest.raises(SpecError, match="functions"):
        utilisation(w)


def test_thinning_hits_its_target_and_says_so() -> None:
    w = generate(rng(), functions=50, hours=12.0, requests_per_s=5.0)
    thinned = thin(w, rng(1), target_utilisation=0.5, gpus=8)
    assert utilisation(w, gpus=8) > 0.5
    assert utilisation(thinned, gpus=8) == pytest.approx(0.5, rel=0.02)
    assert "utilisation 0.5 of 8 GPUs" in thinned.source
    assert thinned.names == w.names and thinned.horizon_s == w.horizon_s


def test_thinning_is_seeded_and_keeps_the_requests_it_keeps() -> None:
    w = many(1000)
    one, two = (thin(w, rng(3), keep_probability=0.25) for _ in range(2))
    assert one.arrival_s.tobytes() == two.arrival_s.tobytes()
    assert len(one) == pytest.approx(250, abs=60)
    assert one.service_s is not None and w.service_s is not None
    assert one.service_s.tolist() == w.service_s[one.function].tolist()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"keep_probability": 0.5, "target_utilisation": 0.5},
        {"keep_probability": 1.5},
        {"target_utilisation": 1e9},
        {"target_utilisation": 0.0},
        {"target_utilisation": 0.5, "gpus": 0},
    ],
)
def test_a_bad_thinning_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(SpecError):
        thin(many(10), rng(), **options)  # type: ignore[arg-type]


def test_lognormal_sizes_and_loads_have_the_stated_distribution() -> None:
    w = many(20_000)
    functions = to_gpu.lognormal(w, rng())
    sizes = np.array([f.device_gib for f in functions])
    assert sizes.min() == 1.0 and sizes.max() == 40.0
    assert np.median(sizes) == pytest.approx(8.0, rel=0.03)
    runtimes = np.array([f.runtime_s for f in functions])
    assert np.median(runtimes) == pytest.approx(2.0, rel=0.03)
    assert np.log(runtimes).std() == pytest.approx(0.6, rel=0.03)
    rates = np.array([f.load_gib_s for f in functions])
    assert rates.min() >= 1.0 and rates.max() <= 20.0
    assert np.median(rates) == pytest.approx(np.sqrt(20.0), rel=0.05)
    assert all(f.weights_gib == f.device_gib for f in functions[:100])


def test_start_up_is_runtime_plus_size_over_rate() -> None:
    functions = to_gpu.lognormal(many(3), rng())
    cluster = Cluster(to_gpu.node(200.0), functions, profile=to_gpu.profile("lognormal"))
    f, pcie = functions[0], cluster.node.pcie.gib_s
    expected = f.runtime_s + f.weights_gib / f.load_gib_s + f.weights_gib / pcie
    assert cluster.load_s(0) == pytest.approx(expected)
    assert cluster.profile == "gpu-map-1/lognormal"


def test_mean_service_is_clipped_and_drawn_where_a_function_is_silent(make: Make) -> None:
    w = make([(0.0, 0), (1.0, 2)], 10.0, 60.0)
    durations = to_gpu.mean_service_s(w, rng())
    assert durations[[0, 2]].tolist() == [20.0, 20.0]
    assert 0.05 <= durations[1] <= 20.0


def test_the_longest_function_gets_the_model_with_most_active_parameters() -> None:
    functions = to_gpu.catalogue(many(500), rng())
    params = {m.weight_bytes / 2**30: m.active_params for m in to_gpu.models()}
    ranks = [params[f.weights_gib] for f in functions]
    # Service grows with the index, up to 20 s at index 333 and level (clipped) after it.
    middle = ranks[1:330]
    assert middle == sorted(middle)
    assert min(ranks[334:]) >= max(middle)
    assert len(set(ranks)) > 10


def test_catalogue_models_fit_the_largest_gpu() -> None:
    functions = to_gpu.catalogue(many(300), rng(), largest_gib=24.0)
    assert max(f.device_gib for f in functions) <= 24.0
    with pytest.raises(SpecError, match="largest_gib"):
        to_gpu.catalogue(many(3), rng(), largest_gib=0.1)
    with pytest.raises(SpecError, match="safetensors"):
        to_gpu.catalogue(many(3), rng(), storage="pickle")


def test_device_memory_of_a_model_is_weights_cache_and_context() -> None:
    llama = next(m for m in to_gpu.models() if m.name == "Llama-3.1-8B")
    size = llama.weight_bytes / 2**30
    functions = to_gpu.catalogue(many(400), rng(), context_gib=0.5, cache_tokens=8192)
    held = next(f.device_gib for f in functions if f.weights_gib == size)
    # 8,030,261,248 x 2 bytes, + 8,192 tokens x 128 KiB = 1 GiB, + 0.5.
    assert held == pytest.approx(14.9575 + 1.0 + 0.5, abs=1e-3)


@pytest.mark.parametrize("mapping", [to_gpu.lognormal, to_gpu.catalogue])
def test_a_mapping_is_seeded(mapping: Callable[..., tuple[Function, ...]]) -> None:
    w = many(50, with_service=False)
    assert mapping(w, rng(1)) == mapping(w, rng(1))
    assert mapping(w, rng(1)) != mapping(w, rng(2))


def test_a_pool_costs_what_its_gib_cost_on_the_real_gpu() -> None:
    pool, whole = to_gpu.node(120.0), to_gpu.node(120.0, pooled=False)
    assert [g.memory_gib for g in pool.gpus] == [120.0]
    assert pool.gpus[0].price_usd_h == pytest.approx(3.431 * 1.5)
    assert [g.memory_gib for g in whole.gpus] == [80.0, 80.0]
    with pytest.raises(SpecError, match="A100-80GB-SXM"):
        to_gpu.node(10.0, gpu="GTX-480")
    with pytest.raises(SpecError, match="device_gib"):
        to_gpu.node(float("inf"))
