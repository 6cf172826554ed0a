"""Whatever LLM functions stand beside others: what must never break."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_clusters import QUICK, Case, rules
from small_llms import faulty_llms, llm_cases
from test_invariants import cut, drive, finish, together

from stoker.envs.cluster.llm.lane_table import OFF
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Rules

SCALE_OUT = ("target_concurrency", "per_request")


def check_lanes(sim: Simulation) -> None:
    """Every lane that is not free serves a ready instance; what is idle holds no block."""
    state, row = sim.state, sim.state.rows[0]
    assert state.lanes is not None
    lane, inst = state.lanes.lane[0], state.inst[0]
    mine = np.flatnonzero(inst["state"] == 2)
    mine = mine[state.fn[0]["llm"][inst["fn"][mine]] >= 0]
    assert sorted(inst["lane"][mine].tolist()) == sorted(np.flatnonzero(held(lane, row)).tolist())
    assert np.array_equal(lane["inst"][inst["lane"][mine]], mine)
    for i in mine.tolist():
        its = lane[inst[i]["lane"]]
        assert (its["phase"] == OFF) == (inst[i]["inflight"] == 0)
        assert 0 <= its["free"] <= its["num_blocks"]
        assert inst[i]["inflight"] > 0 or its["free"] == its["num_blocks"]
    free, k = 0, int(row["lane_free"])
    while k >= 0:
        free, k = free + 1, int(lane[k]["next"])
    assert free + len(mine) + state.lanes.llms == len(lane)


def held(lane: Any, row: Any) -> Any:
    busy = lane["inst"] >= 0
    busy[: int(row["llms"])] = False
    return busy


def check_answers(sim: Simulation) -> None:
    """What was served has its tokens in order; what has none, or too many, was dropped."""
    result, w = sim.result(), sim.state.workloads[0]
    seen, functions = result.outcome, sim.clusters[0].functions
    assert seen.first_token_s is not None
    assert w.prompt_tokens is not None and w.output_tokens is not None
    for q, f in enumerate(w.function.tolist()):
        llm = functions[f].llm
        if llm is None:
            assert np.isnan(seen.first_token_s[q]) or seen.tier[q] == 4
            continue
        prompt, output = int(w.prompt_tokens[q]), int(w.output_tokens[q])
        if prompt < 1 or output < 1 or prompt + output > llm.max_tokens:
            assert seen.tier[q] == 2 and seen.finish_s[q] == seen.arrival_s[q]
        elif seen.tier[q] not in (2, 4):
            assert seen.arrival_s[q] <= seen.start_s[q] < seen.first_token_s[q] <= seen.finish_s[q]
            assert (seen.first_token_s[q] == seen.finish_s[q]) == (output == 1)


@given(llm_cases(), rules(SCALE_OUT))
@settings(QUICK, max_examples=25)
def test_the_books_balance_and_every_request_is_answered(case: Case, chosen: Rules) -> None:
    sim = drive(case, chosen)
    check_lanes(sim)
    finish(sim)
    check_lanes(sim)
    check_answers(sim)


@given(faulty_llms(), rules(SCALE_OUT))
@settings(QUICK, max_examples=25)
def test_the_same_where_nodes_are_lost(case: Case, chosen: Rules) -> None:
    sim = drive(case, chosen)
    check_lanes(sim)
    finish(sim)
    check_lanes(sim)
    check_answers(sim)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(st.one_of(llm_cases(), faulty_llms()), rules(SCALE_OUT))
@settings(QUICK, max_examples=250)
def test_the_same_at_length(case: Case, chosen: Rules) -> None:
    sim = drive(case, chosen)
    check_lanes(sim)
    finish(sim)
    check_lanes(sim)
    check_answers(sim)


@given(faulty_llms(), llm_cases(), llm_cases(), rules(("target_concurrency",)))
@settings(QUICK, max_examples=8)
def test_a_row_does_not_depend_on_its_neighbours(a: Case, b: Case, c: Case, chosen: Rules) -> None:
    some = [cut(a, 31.0), cut(b, 17.0), cut(c, 60.0)]
    alone = [together([case], chosen, 1, 1)[0] for case in some]
    assert together(some, chosen, 5, 1) == [alone[k % 3] for k in range(5)]
    assert together(some, chosen, 5, 2) == [alone[k % 3] for k in range(5)]
