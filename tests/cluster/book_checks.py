"""What must hold of the books of a run: service times, GPU-time, dollars, requests."""

from __future__ import annotations

import numpy as np

from stoker.envs.cluster.simulation import Simulation


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
