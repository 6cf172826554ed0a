"""What must hold of every GPU, its instances and its batches between any two events."""

from __future__ import annotations

from typing import Any

import numpy as np
from small_clusters import HEAP_RULES, READY, SHARD, STARTING

from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Function, Gpu

NONE = -1


def on_gpus(inst: Any) -> Any:
    """The slots, those of further GPUs in the state of the instance that they belong to."""
    found = inst.copy()
    shards = inst["state"] == SHARD
    owner = inst[inst["owner"][shards]]
    assert np.array_equal(found["fn"][shards], owner["fn"])
    found["state"][shards], found["inflight"][shards] = owner["state"], owner["inflight"]
    found["pinned"][shards] = owner["pinned"]
    return found


def check_spans(sim: Simulation, k: int) -> None:
    """Every instance stands on as many GPUs of one class on its node as its function spans."""
    inst, gpu, fn = sim.state.inst[k], sim.state.gpu[k], sim.state.fn[k]
    chained = 0
    for i in np.flatnonzero((inst["state"] == STARTING) | (inst["state"] == READY)).tolist():
        parts = [i]
        while inst[parts[-1]]["shard"] != NONE:
            parts.append(int(inst[parts[-1]]["shard"]))
        at = inst["gpu"][parts]
        assert len(parts) == len(set(at.tolist())) == fn[inst[i]["fn"]]["gpus"]
        assert set(inst["owner"][parts].tolist()) == {i}
        assert np.all(inst["state"][parts[1:]] == SHARD)
        assert len(set(gpu["kind"][at].tolist())) == 1
        assert np.all(gpu["node"][at] == inst[i]["node"])
        assert inst[i]["state"] == STARTING or inst[i]["legs"] == 0
        chained += len(parts) - 1
    assert np.count_nonzero(inst["state"] == SHARD) == chained


def check_gpus(sim: Simulation, k: int) -> None:
    check_spans(sim, k)
    row, inst = sim.state.rows[k], on_gpus(sim.state.inst[k])
    fn = sim.state.fn[k]
    for g in range(int(row["gpus"])):
        gpu = sim.state.gpu[k, g]
        here = inst[((inst["state"] == STARTING) | (inst["state"] == READY)) & (inst["gpu"] == g)]
        idle = here[(here["state"] == READY) & (here["inflight"] == 0) & (here["pinned"] == 0)]
        own, families = fn["bytes"] - fn["shared"], fn["family"]
        shared = {int(families[f]): int(fn["shared"][f]) for f in here["fn"] if families[f] >= 0}
        needed = {int(families[f]) for f in here["fn"][~np.isin(here, idle)]}
        free = {c: size for c, size in shared.items() if c not in needed}
        assert gpu["used"] == own[here["fn"]].sum() + sum(shared.values()) <= gpu["cap"]
        assert gpu["peak"] <= gpu["cap"]
        assert gpu["evictable"] == own[idle["fn"]].sum() + sum(free.values())
        for c in range(int(row["families"])):
            family = sim.state.fg[k, g * int(row["families"]) + c]
            mine = here[families[here["fn"]] == c]
            assert family["n"] == len(mine)
            assert family["ready"] == np.count_nonzero(mine["state"] == READY)
            assert len(mine) == 0 or family["payer"] in mine["fn"]
        assert gpu["resident"] == len(here)
        assert gpu["loading"] == np.count_nonzero(here["state"] == STARTING)
        assert gpu["busy"] == np.count_nonzero((here["state"] == READY) & (here["inflight"] > 0))
        if gpu["exclusive"]:
            assert gpu["running"] <= 1
            waiting = np.count_nonzero(here["queued"] == 1)
            assert (gpu["run_head"] == NONE) == (waiting == 0)
            assert waiting == 0 or gpu["running"] == 1  # the GPU is never left idle
        check_order(sim, k, g)


def check_sharing(sim: Simulation, k: int) -> None:
    """Fractions fit; every batch that may be slowed is listed, at the speed others leave it."""
    cluster, state = sim.clusters[k], sim.state
    inst, listed = state.inst[k], 0
    for g, spec in enumerate(cluster.gpus):
        gpu = state.gpu[k, g]
        there = np.isin(inst["state"], [STARTING, READY]) & (inst["gpu"] == g)
        if spec.sharing == "spatial":
            assert sum(cluster.functions[f].gpu_fraction for f in inst["fn"][there]) <= 1.0 + 1e-9
        batches = batches_on(sim, k, g)
        listed += len(batches)
        assert len(batches) == (gpu["running"] if spec.slows else 0)
        functions = [cluster.functions[b["fn"]] for b in batches]
        beside = spec.batch_beside_load if gpu["loading"] else 1.0
        expected = np.array(speeds(spec, functions)) / beside
        assert np.allclose([b["speed"] for b in batches], expected, rtol=1e-12)
        if batches:
            # work that is left now, and never less than none
            done = (state.rows[k]["now"] - gpu["slowed_t"]) * np.array(
                [b["speed"] for b in batches]
            )
            grid = 1e-9 + sim.rules.time_quantum_s * 100
            assert np.all(np.array([b["left"] for b in batches]) - done >= -grid)
    assert state.rows[k]["slowed_n"] == listed


def batches_on(sim: Simulation, k: int, g: int) -> list[Any]:
    """The batches listed on a GPU, oldest first; each runs on an instance there."""
    gpu, req, found = sim.state.gpu[k, g], sim.state.req[k], []
    at, before = int(gpu["slowed_head"]), NONE
    while at != NONE:
        batch = sim.state.slowed[k, at]
        assert batch["prev"] == before
        inst = sim.state.inst[k, req[batch["head"]]["inst"]]
        assert (inst["gpu"], inst["fn"]) == (g, batch["fn"]) and inst["inflight"] > 0
        assert np.isfinite(req[batch["head"]]["start"])
        assert not np.isfinite(req[batch["head"]]["finish"])
        found.append(batch)
        before, at = at, int(batch["next"])
    assert gpu["slowed_tail"] == before
    return found


def speeds(gpu: Gpu, running: list[Function]) -> list[float]:
    """Speeds of batches that run on a GPU at once, from the description of the forms."""
    if len(running) < 2 or (gpu.sharing != "processor" and gpu.interference == "none"):
        return [1.0] * len(running)
    if gpu.sharing == "processor":
        return [1.0 / len(running)] * len(running)
    compute = [f.compute_util or 0.0 for f in running]
    memory = [f.memory_util or 0.0 for f in running]
    if gpu.interference == "excess":
        return [1.0 / max(1.0, sum(compute), sum(memory))] * len(running)
    own_c, other_c, own_m, other_m, constant = gpu.coefficients
    return [
        1.0
        / max(
            1.0,
            own_c * c + other_c * (sum(compute) - c) + own_m * m + other_m * (sum(memory) - m)
            + constant,
        )
        for c, m in zip(compute, memory, strict=True)
    ]  # fmt: skip


def check_order(sim: Simulation, k: int, g: int) -> None:
    """The eviction order of a GPU lists its functions once, lowest lagging key on top."""
    fns = int(sim.state.rows[k]["fns"])
    gf = sim.state.gf[k][g * fns : (g + 1) * fns]
    gpu, prio = sim.state.gpu[k, g], sim.state.fn[k]["prio"]
    places = sim.state.order[k][g * fns : g * fns + int(gpu["listed"])]
    listed = places["fn"]
    if sim.rules.eviction not in HEAP_RULES:
        away = places[gf["idle"][listed] == 0]
        assert np.all(away["score"] == np.inf) and np.all(away["until"] == np.inf)
    assert sorted(listed.tolist()) == np.flatnonzero(gf["n"] > 0).tolist()
    for place, f in enumerate(listed):
        assert gf[f]["pos"] == place
        if sim.rules.eviction in HEAP_RULES:
            assert gf[f]["key"] <= prio[f]
            assert place == 0 or gf[listed[(place - 1) // 2]]["key"] <= gf[f]["key"]
