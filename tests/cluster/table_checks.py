"""What must hold of the engine's tables between any two events."""

from __future__ import annotations

from typing import Any

import numpy as np
from small_clusters import FETCHING, FREE, HEAP_RULES, PARKED, READY, SHARD, STARTING

from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Function, Gpu
from stoker.envs.cluster.tables import BOOTING, DRAINING, OFF, UP

NONE = -1


def check_row(sim: Simulation, k: int, live: tuple[int, Any] | None = None) -> None:
    """Recount every counter of row k from its instances.

    `live`: number of requests so far and their functions, where they are not the workload's.
    """
    row, inst = sim.state.rows[k], sim.state.inst[k]
    fn = sim.state.fn[k][: int(row["fns"])]
    check_gpus(sim, k)
    check_functions(sim, k)
    check_targets(sim, k)
    check_nodes(sim, k)
    check_sharing(sim, k)
    assert row["free_n"] == np.count_nonzero(inst["state"] == FREE)
    assert row["loads_now"] == np.count_nonzero(inst["state"] == STARTING)
    assert row["queued"] == fn["queued"].sum()
    check_hosts(sim, k)
    check_disks(sim, k)
    answered = row["served"] + row["drops"] + row["failed"]
    arrived = row["next_req"] if live is None else live[0]
    assert arrived == answered + fn["inflight"].sum() + fn["queued"].sum()
    check_running_requests(sim, k, sim.state.workloads[k].function if live is None else live[1])


def check_hosts(sim: Simulation, k: int) -> None:
    """Host memory of every node is what its copies and layers hold, and never over-full."""
    row, fns = sim.state.rows[k], int(sim.state.rows[k]["fns"])
    fn, used = sim.state.fn[k][:fns], 0
    there = np.zeros(fns, np.int64)
    held = check_layers(sim, k)
    assert np.array_equal(fn["held_parked"], held)
    for n in range(int(row["nodes"])):
        node, copies = sim.state.node[k, n], sim.state.nf[k][n * fns : (n + 1) * fns]
        mine = np.where(copies["state"] != 0, fn["weights"], 0)
        used += layer_bytes(sim, k, n).sum()
        assert node["host_used"] == mine.sum() + layer_bytes(sim, k, n).sum() <= node["host_cap"]
        assert node["host_peak"] <= node["host_cap"]
        used, held, there = used + mine.sum(), held + mine, there + (copies["state"] == 1)
        loose = (copies["state"] == 1) & (copies["busy"] == 0)
        keys = check_copies(sim, k, n, loose)
        if sim.rules.host_eviction == "lru":
            assert np.array_equal(keys, copies["since"][loose])
        if sim.rules.host_eviction == "score":
            assert np.array_equal(keys, fn["host_eviction_score"][loose])
    assert row["host_used"] == used
    assert np.array_equal(fn["held_host"], held) and np.array_equal(fn["hosts"], there)


def layer_bytes(sim: Simulation, k: int, n: int) -> Any:
    """What the layers of each function hold on node n. Shape: (F,)"""
    fn, inst = sim.state.fn[k][: int(sim.state.rows[k]["fns"])], sim.state.inst[k]
    held = np.zeros(len(fn), np.int64)
    for i in inst[(inst["state"] == PARKED) & (inst["node"] == n)]:
        held[i["fn"]] += fn[i["fn"]]["sandbox_bytes" if i["phase"] else "process_bytes"]
    return held


def check_layers(sim: Simulation, k: int) -> Any:
    """Every parked layer stands in its chain, oldest first, and has not outlived its order."""
    row, inst, fn = sim.state.rows[k], sim.state.inst[k], sim.state.fn[k]
    images, held = int(row["images"]), np.zeros(int(row["fns"]), np.int64)
    parked = np.flatnonzero(inst["state"] == PARKED)
    assert images or not len(parked)
    seen: list[int] = []
    for n in range(int(row["nodes"]) if images else 0):
        held += layer_bytes(sim, k, n)
        for c in range(images + 1):
            chain = chain_from(inst, int(sim.state.layer[k, n * (images + 1) + c]["head"]))
            seen += chain
            since = [float(inst[i]["idle_since"]) for i in chain]
            assert since == sorted(since)
            for i in chain:
                of = inst[i]
                keep = "sandbox_keep_alive_s" if of["phase"] else "runtime_keep_alive_s"
                assert of["node"] == n
                assert c == (images if of["phase"] else fn[of["fn"]]["image"])
                grid = sim.rules.time_quantum_s
                assert of["idle_since"] + fn[of["fn"]][keep] >= row["now"] - grid
    assert sorted(seen) == parked.tolist()
    for f in range(int(row["fns"])):
        own = chain_from(inst, int(fn[f]["parked"]), "peer_next")
        assert sorted(own) == [i for i in parked.tolist() if inst[i]["fn"] == f]
    return held


def chain_from(inst: Any, i: int, link: str = "next") -> list[int]:
    found = []
    while i != NONE:
        found.append(i)
        i = int(inst[i][link])
    return found


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


def check_copies(sim: Simulation, k: int, store: int, loose: Any) -> Any:
    """The eviction order of a store is a heap of the copies that may leave; return their keys."""
    fns = int(sim.state.rows[k]["fns"])
    kept = sim.state.kept[k][store * fns : (store + 1) * fns]
    listed = kept["fn"][: int(sim.state.store[k, store]["listed"])]
    assert sorted(listed.tolist()) == np.flatnonzero(loose).tolist()
    assert np.array_equal(np.flatnonzero(kept["pos"] != NONE), np.flatnonzero(loose))
    for place, f in enumerate(listed):
        up = listed[(place - 1) // 2] if place else f
        assert kept[f]["pos"] == place
        assert (kept[up]["key"], up) <= (kept[f]["key"], f)
    return kept["key"][loose]


def check_disks(sim: Simulation, k: int) -> None:
    """A disk holds what its copies take, and never more than it can."""
    fns, inst = int(sim.state.rows[k]["fns"]), sim.state.inst[k]
    fn, nodes = sim.state.fn[k][:fns], int(sim.state.rows[k]["nodes"])
    loading = inst[(inst["state"] == STARTING) | (inst["state"] == FETCHING)]
    assert np.all(inst["disk"][inst["state"] == READY] == 0)
    there = np.zeros(fns, np.int64)
    for n in range(nodes):
        node, copies = sim.state.node[k, n], sim.state.nf[k][n * fns : (n + 1) * fns]
        there += copies["disk"] == 1
        here = loading[loading["node"] == n]
        if node["disk_cap"] == NONE:
            assert np.all(copies["disk"] == 1) and np.all(here["disk"] == 0)
            continue
        sizes = np.where(copies["disk"] != 0, fn["disk_bytes"], 0)
        assert node["disk_used"] == sizes.sum() <= node["disk_cap"]
        assert node["disk_peak"] <= node["disk_cap"]
        for f in range(fns):
            mine = here["disk"][here["fn"] == f]
            assert copies[f]["disk_reads"] == np.count_nonzero(mine == 2)
            assert (copies[f]["disk"] == 2) == np.any(mine == 1) and np.sum(mine == 1) <= 1
        loose = (copies["disk"] == 1) & (copies["disk_reads"] == 0) & (fn["weights"] > 0)
        assert node["disk_loose"] == fn["disk_bytes"][loose].sum()
        check_copies(sim, k, nodes + n, loose)
    assert np.array_equal(fn["disks"], there)


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
        assert np.allclose([b["speed"] for b in batches], speeds(spec, functions), rtol=1e-12)
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
    if len(running) < 2 or not gpu.slows:
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


def check_functions(sim: Simulation, k: int) -> None:
    row, inst = sim.state.rows[k], sim.state.inst[k]
    fns, parts = int(row["fns"]), on_gpus(inst)
    for f in range(fns):
        fn = sim.state.fn[k, f]
        mine = (inst["fn"] == f) & ((inst["state"] == STARTING) | (inst["state"] == READY))
        ready = mine & (inst["state"] == READY)
        assert fn["n"] == np.count_nonzero(mine)
        assert fn["loading"] == np.count_nonzero(mine & (inst["state"] == STARTING))
        assert fn["idle"] == np.count_nonzero(ready & (inst["inflight"] == 0))
        assert fn["busy"] == np.count_nonzero(ready & (inst["inflight"] > 0))
        shares = sim.state.fg[k, : int(row["gpus"] * row["families"])]
        pays = np.count_nonzero((shares["payer"] == f) & (shares["n"] > 0)) if len(shares) else 0
        own = (fn["bytes"] - fn["shared"]) * fn["gpus"]
        assert fn["held"] == own * fn["n"] + fn["shared"] * pays
        here = (parts["fn"] == f) & ((parts["state"] == STARTING) | (parts["state"] == READY))
        rest = here & (parts["state"] == READY) & (parts["inflight"] == 0)
        rest &= parts["pinned"] == 0
        for g in range(int(row["gpus"])):
            slot = sim.state.gf[k][g * fns + f]
            assert slot["n"] == np.count_nonzero(here & (parts["gpu"] == g))
            assert slot["idle"] == np.count_nonzero(rest & (parts["gpu"] == g))
        if sim.rules.scale_out == "wait_vs_cold":
            check_peers(inst, fn, np.flatnonzero(mine))
        check_open_list(
            sim, inst, fn, np.flatnonzero(ready & (inst["inflight"] < fn["concurrency"]))
        )


def check_targets(sim: Simulation, k: int) -> None:
    """Every target counts what it covers, and holds no more than its floor."""
    row, state = sim.state.rows[k], sim.state
    inst = state.inst[k][np.isin(state.inst[k]["state"], [STARTING, READY])]
    used = 0
    for f in range(int(row["fns"])):
        fn = state.fn[k, f]
        mine = inst[inst["fn"] == f]
        table = state.target[k][int(fn["target_first"]) :][: int(fn["target_n"])]
        used += len(table)
        assert fn["placed"] == np.count_nonzero(table["tier"] == 0)
        assert np.all(mine["pinned"][mine["pinned"] > 0] - 1 >= fn["target_first"])
        for j, target in enumerate(table):
            if target["tier"] == 0:
                kind, at = state.gpu[k]["kind"][mine["gpu"]], mine["gpu"]
                held = mine[mine["pinned"] == 1 + fn["target_first"] + j]
                assert target["pinned"] == len(held) <= target["min"]
            else:
                copies = state.nf[k].reshape(-1)[: int(row["nodes"] * row["fns"])]
                at = np.flatnonzero(copies.reshape(-1, int(row["fns"]))["state"][:, f] != 0)
                kind = state.node[k]["kind"][at]
            named = at == at
            if target["gpu"] != NONE:
                g = int(target["gpu"])
                named = at == (g if target["tier"] == 0 else state.gpu[k]["node"][g])
            elif target["kind"] != NONE:
                named = kind == target["kind"]
            assert target["n"] == np.count_nonzero(named)
    assert used == 0 or used <= state.target.shape[1]


def check_nodes(sim: Simulation, k: int) -> None:
    """What is off is empty; what leaves is counted; the lowest nodes of a class are wanted."""
    row, state = sim.state.rows[k], sim.state
    node, gpu = state.node[k][: int(row["nodes"])], state.gpu[k][: int(row["gpus"])]
    inst = state.inst[k][np.isin(state.inst[k]["state"], [STARTING, READY])]
    away = np.isin(node["state"], [OFF, BOOTING])
    assert np.array_equal(gpu["closed"] == 1, node["state"][gpu["node"]] != UP)
    assert np.all(gpu["used"][away[gpu["node"]]] == 0) and np.all(node["host_used"][away] == 0)
    assert row["off"] == gpu["cap"][away[gpu["node"]]].sum()
    for f in range(int(row["fns"])):
        mine = inst[inst["fn"] == f]
        assert state.fn[k, f]["leaving"] == gpu["closed"][mine["gpu"]].sum()
    draining = node["state"] == DRAINING
    loads = state.inst[k]["node"][state.inst[k]["state"] == FETCHING]
    for n in np.flatnonzero(draining):
        assert np.any(inst["node"] == n) or n in loads  # else it would be off
    wanted = np.isin(node["state"], [UP, BOOTING])
    there = (node["lost"] == 0) & (node["noticed"] == 0)
    assert np.array_equal(wanted, (node["wanted"] == 1) & there)
    assert np.all(node["state"][node["lost"] > 0] == OFF)
    assert np.all(node["up_s"] <= row["now"] + 1e-9)


def check_peers(inst: Any, fn: Any, mine: Any) -> None:
    """Every instance that holds or will hold memory is listed once among those of its function."""
    chain, before = [], NONE
    i = int(fn["peers"])
    while i != NONE:
        assert inst[i]["peer_prev"] == before
        chain.append(i)
        before, i = i, int(inst[i]["peer_next"])
    assert sorted(chain) == mine.tolist()


def check_open_list(sim: Simulation, inst: Any, fn: Any, free: Any) -> None:
    """Every ready instance with a free slot is listed once, in clone order."""
    chain, before = [], NONE
    i = int(fn["open_head"])
    while i != NONE:
        assert inst[i]["prev"] == before
        chain.append(i)
        before, i = i, int(inst[i]["next"])
    assert sorted(chain) == free.tolist()
    assert fn["open_tail"] == before
    key = "last_start" if sim.rules.clone_choice in ("mru", "lru") else "created"
    keys = [float(inst[i][key]) for i in chain]
    assert keys == sorted(keys)


def check_running_requests(sim: Simulation, k: int, function: Any) -> None:
    """A request in service sits on a ready, busy instance of its own function."""
    req, inst = sim.state.req[k], sim.state.inst[k]
    running = np.isfinite(req["start"]) & ~np.isfinite(req["finish"])
    at = inst[req["inst"][running]]
    assert np.all(at["state"] == READY)
    assert np.all(at["inflight"] > 0)
    assert np.array_equal(at["fn"], function[: len(req)][running])


def check_service_times(sim: Simulation, k: int) -> None:
    """Every batch took alpha + beta * n (more where slowed); none was served before arriving."""
    req, workload = sim.state.req[k], sim.state.workloads[k]
    done = np.isfinite(req["start"]) & np.isfinite(req["finish"]) & (req["tier"] != 4)
    assert np.all(req["start"][done] >= workload.arrival_s[done])
    faults = sim.state.faults[k]
    if faults is not None and faults.service_factors:
        return
    batches: dict[tuple[int, float], list[int]] = {}
    for q in np.flatnonzero(done).tolist():
        batches.setdefault((int(req["inst"][q]), float(req["start"][q])), []).append(q)
    for (_, start), members in batches.items():
        spec = sim.clusters[k].functions[int(workload.function[members[0]])]
        if spec.llm is not None:
            continue
        times = [spec.service(kind) for kind in sim.clusters[k].kinds]
        assert {int(workload.function[q]) for q in members} == {workload.function[members[0]]}
        takes = [float(req["finish"][q]) - start for q in members]
        plain = spec.concurrency == 1 and spec.overlap_s == 0.0
        if plain and min(alpha_s for alpha_s, _ in times) > 0.0:
            grid = sim.rules.time_quantum_s
            alone = [alpha_s + beta_s * len(members) for alpha_s, beta_s in times]
            exact = any(np.allclose(takes, s, atol=1e-9 + grid) for s in alone)
            slowed = any(gpu.slows for gpu in sim.clusters[k].gpus)
            assert exact or (slowed and min(takes) >= min(alone) - 1e-9 - grid)
            assert len(members) <= spec.max_batch


def check_books(sim: Simulation, k: int) -> None:
    """Time and dollars are conserved between the books of GPUs, functions and requests."""
    result = sim.result(k)
    row, fn, gpu = sim.state.rows[k], sim.state.fn[k], sim.state.gpu[k]
    req, workload = sim.state.req[k], sim.state.workloads[k]
    bill, now = result.bill, float(row["now"])
    kinds = bill.gpu_busy_s + bill.gpu_loading_s + bill.gpu_idle_s + bill.gpu_off_s
    assert np.isclose(kinds, now * int(row["gpus"]), rtol=1e-9)
    assert np.isclose(fn["acc_gib_s"].sum(), gpu["byte_s"].sum() / 2.0**30, rtol=1e-9, atol=1e-9)
    assert np.isclose(
        fn["acc_host_gib_s"].sum(),
        sim.state.node[k]["host_byte_s"].sum() / 2.0**30,
        rtol=1e-9,
        atol=1e-9,
    )
    assert np.isclose(fn["acc_load_s"].sum(), row["load_s"], rtol=1e-9, atol=1e-9)
    assert row["drops"] == np.count_nonzero(req["tier"] == 2)
    assert row["failed"] == np.count_nonzero(req["tier"] == 4)
    assert fn["acc_drops"].sum() == row["drops"] + row["failed"]
    assert fn["acc_requests"].sum() == row["next_req"]
    started = np.isfinite(req["start"])
    waits = (req["start"] - workload.arrival_s)[started].sum()
    assert np.isclose(fn["acc_wait_s"].sum(), waits, rtol=1e-9, atol=1e-9)
    assert np.isclose(row["wait_s"], waits, rtol=1e-9, atol=1e-9)
    answered = np.isfinite(req["finish"]) & ~np.isin(req["tier"], [2, 4])
    assert np.count_nonzero(answered) == row["served"]
