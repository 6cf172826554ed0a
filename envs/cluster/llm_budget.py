"""The token budget that an order sets for the iterations of an LLM function.

Its replicas go by it from the next batch they form. A stretch of several iterations that runs was
planned under the old budget: it ends with the iteration that runs now.

Units: seconds, tokens.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.lane_table import RUNS, STOP, lane_at, take_turn
from stoker.envs.cluster.llm.tables import SARATHI
from stoker.envs.cluster.llm_lanes import schedule
from stoker.envs.cluster.tables import NONE, READY, fn_at, inst_at


@njit
def order_budget(r, f, t):
    """Take over the budget that was ordered for f, or refuse it where prompts are never cut."""
    fn = fn_at(r["fn"], f)
    pattern = lane_at(r["lane"], fn["llm"])
    if fn["token_budget"] == pattern["budget"]:
        return
    if pattern["scheduler"] != SARATHI:
        fn["token_budget"] = pattern["budget"]
        r["clipped"] += 1
        return
    pattern["budget"] = fn["token_budget"]
    for i in range(r["insts"]):
        inst = inst_at(r["inst"], i)
        if inst["fn"] == f and inst["state"] == READY and inst["lane"] != NONE:
            _replan(r, inst["lane"], t)


@njit
def _replan(r, k, t):
    """End the stretch of lane k, if it runs one, with the iteration that runs at t."""
    lane = lane_at(r["lane"], k)
    if lane["phase"] != RUNS:
        return
    steps = lane["steps"]
    take_turn(r["turn"], r["lane"], k, STOP, t)
    if lane["steps"] < steps:
        schedule(r, k, RUNS, lane["began"] + lane["total_s"])
