"""What must hold of the engine's tables between any two events."""

from __future__ import annotations

from typing import Any

import numpy as np
from gpu_checks import check_gpus, check_sharing, on_gpus
from memory_checks import check_disks, check_hosts
from small_clusters import FETCHING, FREE, READY, STARTING

from stoker.envs.cluster.simulation import Simulation
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
