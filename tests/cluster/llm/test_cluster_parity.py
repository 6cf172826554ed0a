"""One warm instance of an LLM function, alone on its GPUs, against the replica engine."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from small_replicas import replicas

from stoker.envs.cluster import replay
from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.llm import calibration
from stoker.envs.cluster.llm_spec import llm_function
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import GIB, Cluster, Gpu, Llm, Node
from stoker.envs.workload.workload import Workload

HORIZON_S = 1e6
WARM, DROPPED = 0, 2
SCHEDULERS = ("sarathi", "vllm", "orca", "request_level", "fastserve", "vtc")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(replicas(SCHEDULERS))
def test_one_warm_instance_is_a_replica(asked: dict[str, Any]) -> None:
    figures = calibration.profile(asked["profile"]).figures
    block_bytes = figures["tp"] * figures["kv_token_bytes"] * asked["block_size"]
    kv_gib = block_bytes * asked["num_blocks"] / GIB
    same = ("profile", "scheduler", "token_budget", "block_size", "max_batch", "max_tokens")
    llm = Llm(
        **{name: asked[name] for name in same}, kv_gib=kv_gib, requests=1000,
        watermark=asked["watermark"], preset=asked["preset"],
    )  # fmt: skip
    f = llm_function("f0", llm)
    n = len(asked["arrival_s"])
    w = Workload(
        asked["arrival_s"] + 1.0, np.zeros(n, np.int32), ("f0",), HORIZON_S,
        prompt_tokens=asked["prompt_tokens"], output_tokens=asked["output_tokens"],
        client=asked["client"],
    )  # fmt: skip
    alone = replay.llm_replica(**{**asked, "arrival_s": w.arrival_s})
    sim = Simulation([Cluster(Node((Gpu(1000.0),) * f.gpus), (f,))], [w])
    sim.apply(Decision(prewarm=np.ones((1, 1), int), keep_alive_s=np.full((1, 1), np.inf)))
    sim.run()
    result = sim.result()
    seen = result.outcome
    assert np.array_equal(seen.tier == DROPPED, alone.rejected)
    served = ~alone.rejected
    assert np.all(seen.tier[served] == WARM)
    for ours, theirs in (
        (seen.start_s, alone.first_scheduled_s), (seen.first_token_s, alone.first_token_s),
        (seen.finish_s, alone.completed_s), (seen.max_tbt_s, alone.max_tbt_s),
    ):  # fmt: skip
        assert ours is not None
        np.testing.assert_allclose(ours[served], theirs[served], rtol=1e-9, atol=1e-12)
