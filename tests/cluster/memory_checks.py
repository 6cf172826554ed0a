"""What must hold of host memory, parked layers and disks between any two events."""

from __future__ import annotations

from typing import Any

import numpy as np
from small_clusters import FETCHING, PARKED, READY, STARTING

from stoker.envs.cluster.simulation import Simulation

NONE = -1


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


def chain_from(inst: Any, i: int, link: str = "next") -> list[int]:
    found = []
    while i != NONE:
        found.append(i)
        i = int(inst[i][link])
    return found
