"""Problems of the variant `llm` of Batching, and the iteration times that they are made with."""

import numpy as np
import pytest

from stoker.envs.cluster import replay
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.llm.calibration import profile
from stoker.envs.cluster.llm.iteration_time import iteration_s
from stoker.envs.problems import stream
from stoker.envs.token_problems import TokenProblems

LLAMA = "meta-llama/Meta-Llama-3-8B|a100|tp1"


def test_the_formula_outside_is_that_of_the_engine():
    rng = np.random.default_rng(2)
    arrival = np.sort(rng.uniform(0.0, 20.0, 60))
    prompt, output = rng.integers(10, 3000, 60), rng.integers(2, 200, 60)
    log = replay.llm_replica(arrival, prompt, output, token_budget=6000, max_tokens=8192,
                             log_iterations=10_000).log  # fmt: skip
    known, compared = profile(LLAMA), 0
    begun = set()
    for k, members in enumerate(log.members):
        fresh = [q for q in members if q not in begun]
        whole = len(fresh) == log.chunks[k] and log.chunk_tokens[k] == prompt[fresh].sum()
        begun |= set(members)
        if log.chunks[k] > 1 or not whole:
            continue
        n = int(log.decodes[k])
        context = float(log.context[k]) / max(n, 1)
        took_s = log.end_s[k] - log.start_s[k]
        assert iteration_s(known, int(log.chunk_tokens[k]), n, context) == pytest.approx(took_s)
        compared += 1
    assert compared > 100


@pytest.mark.parametrize(
    ("name", "value"),
    [("functions", 0), ("seconds", 0.0), ("profiles", ()), ("code", (0.5, 0.2)),
     ("load", (0.0, 1.0)), ("ttft", (2.0, 1.0)), ("tbt", (1.0, np.inf))],
)  # fmt: skip
def test_a_wrong_range_of_problems_is_named(name, value):
    with pytest.raises(SpecError, match=f"problems.{name}"):
        TokenProblems(**{name: value})


def test_problems_fit_their_gpus_and_ask_for_the_load_they_say():
    problems = TokenProblems(functions=4, seconds=20_000.0, load=(0.5, 0.5), code=(0.0, 0.0))
    cluster, workload = problems.sample(stream(0, 0, 0))
    assert len(cluster.gpus) == problems.gpus == 16
    assert workload.prompt_tokens.min() >= 1
    assert (workload.prompt_tokens + workload.output_tokens).max() <= 8192
    for f, function in enumerate(cluster.functions):
        mine = workload.function == f
        known = profile(function.llm.profile)
        prompt_s = iteration_s(known, 2048, 0, 0.0) / 2048 * workload.prompt_tokens[mine].sum()
        output_s = iteration_s(known, 0, 32, 1024) / 32 * workload.output_tokens[mine].sum()
        assert (prompt_s + output_s) / 20_000.0 == pytest.approx(0.5, rel=0.2)
