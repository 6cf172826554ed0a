"""`stoker/Batching-v0`, variant `llm`: the token budget of LLM functions, at a tick of a second.

Shapes: B rows, S slots for functions, T terms of the reward.
Units: seconds, tokens; rewards in requests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.faults import FaultRates
from stoker.envs.cluster.observe_tokens import SLOT, SPENT, TERMS, C, observe_tokens
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster.token_scan import MEMORY
from stoker.envs.cluster_view import ClusterVectorEnv, Floats, Observation
from stoker.envs.levers import Levers, TokenBudget
from stoker.envs.problems import Problems
from stoker.envs.token_problems import TokenProblems
from stoker.envs.token_reward import WEIGHTS, check_functions, figures
from stoker.envs.turn_view import TurnVectorEnv
from stoker.envs.workload import Workload


class TokenVectorEnv(ClusterVectorEnv):
    """Cluster view: one agent a row sets the token budget of every LLM function of a cluster.

    ## Description
    Every function is an LLM that is always loaded. Its replica works by iterations: a token for
    every request past its prompt, and of prompts as much as a budget leaves. A large budget serves
    prompts soonest and wastes least; but an iteration lasts as long as its tokens take, and all who
    read along wait for it. At every tick of a second the agent says what the budget is to be.

    ## Action Space
    Cluster view `MultiDiscrete([10] * S)`; function view `Discrete(10)`, functions in turn.

    | Action | Tokens of an iteration |
    | --- | --- |
    | 0 .. 8 | 128, 192, 256, 384, 512, 768, 1,024, 1,536, 2,048: decodes, then prompts in chunks |
    | 9 | whole prompts first and alone, then decodes |

    All are legal; an empty slot has 0 alone, others are counted in `info["clipped"]`.

    ## Observation Space
    `Box(-10, 10)`: for every slot an `active` flag (0 = no such function, all columns 0) and the
    features of the function, then the columns of the cluster; in the function view one slot and the
    cluster's. TTFT and TBT target: those of the first token and of the time between tokens.

    | Column | Feature | Meaning |
    | --- | --- | --- |
    | 0 | decoding | requests that put out tokens: ln(1 + n) / 8 |
    | 1 | begun | prompts that are partly computed: ln(1 + n) / 4 |
    | 2 | waiting | requests without a first token: ln(1 + n) / 8 |
    | 3 | backlog | time of their prompts at a budget of 2,048 over the TTFT target: ln(1 + x) / 4 |
    | 4 | slack | time left to the oldest of them, over the TTFT target; 1 = there is none |
    | 5 | overdue | those of them whose target has passed: ln(1 + n) / 8 |
    | 6 | places | share of the places for running requests that are taken |
    | 7 | free | free share of the blocks of key-value memory |
    | 8 | gap | mean time between tokens in the last tick, over the TBT target |
    | 9 | gap_worst | the longest of them, likewise |
    | 10 | late | share of the last tick's tokens that came late |
    | 11 | late_10s | the same, decayed over 10 s |
    | 12 | late_first_60s | late first tokens over requests, decayed over 60 s |
    | 13 | prompts | share of prompt tokens in the last tick's tokens |
    | 14 | busy | time of the iterations that ended in the last tick, over its length |
    | 15 | budget | the budget that stands, over 512: ln, / 4; 0 for whole prompts |
    | 16 | whole | 1 = whole prompts first |
    | 17 | iteration_0 | an iteration of the present decodes alone, over the TBT target |
    | 18 | iteration_128 | one that prompts fill up to 128 tokens, likewise |
    | 19 | iteration_192 | one that prompts fill up to 192 tokens, likewise |
    | 20 | iteration_256 | one that prompts fill up to 256 tokens, likewise |
    | 21 | iteration_384 | one that prompts fill up to 384 tokens, likewise |
    | 22 | iteration_512 | one that prompts fill up to 512 tokens, likewise |
    | 23 | iteration_768 | one that prompts fill up to 768 tokens, likewise |
    | 24 | iteration_1024 | one that prompts fill up to 1,024 tokens, likewise |
    | 25 | iteration_1536 | one that prompts fill up to 1,536 tokens, likewise |
    | 26 | iteration_2048 | one that prompts fill up to 2,048 tokens, likewise |
    | 27 | targets | TTFT target over TBT target: ln, / 8 |
    | 28 | prompt | mean prompt of the requests so far over 2,048 tokens: ln, / 4 |
    | 29 | rate_10s | arrivals in a TTFT target at the rate of the last 10 s: ln(1 + x) / 4 |
    | 30 | rate_60s | the same over 60 s |
    | 31 | rate_600s | the same over 600 s |
    | 32 | rate_3600s | the same over an hour |
    | 33 | load_10s | share of the time that their prompts take at 2,048, at the rate of 10 s |
    | 34 | load_60s | the same over 60 s |
    | 35 | load_600s | the same over 600 s |
    | 36 | load_3600s | the same over an hour |
    | 37 | since | time since the last arrival over the TTFT target: ln(1 + x) / 4 |

    | Cluster's column | Feature | Meaning |
    | --- | --- | --- |
    | 0 | all_waiting | requests of all functions without a first token: ln(1 + n) / 8 |
    | 1 | all_decoding | requests of all functions that put out tokens: ln(1 + n) / 8 |

    ln = natural logarithm. Rates are those of the last 10 s at uncompressed time
    (`Cluster.first_bin_s` / 3 times that), and so on.

    ## Rewards
    Minus the weighted costs of the row's functions in the last tick, in requests; by name in
    `info["costs"]` (all >= 0) and, weighted and signed, in `info["reward_terms"]`. In the function
    view a reward is that of the function asked, and the rewards of a tick add up to the row's.

    | Term | Weight | Cost |
    | --- | --- | --- |
    | wait | 0.1 | time that requests waited for the first token, in TTFT targets, 10 each at most |
    | first | 1 | requests whose first token is late: charged when its target passes |
    | between | 3 | tokens that came later than the TBT target after the one before, in outputs |
    | drop | 1 | requests refused |

    The output of a request counts as one: a third of it late weighs as much as a late first token.

    ## Episode
    Starts with empty replicas, or after `warmup_s` under the functions' own budgets, which is not
    scored. Truncation at the workload's horizon; never terminated. `info["summary"]` then holds the
    scores: the costs (`cost`, `wait_cost`, ...) and percentiles of TTFT and of longest gaps.

    ## Arguments
    As those of `ClusterVectorEnv`, without levers, rules and latency target; `problems` are
    `TokenProblems`; functions of your own must have an `Llm` with scheduler `sarathi` and finite
    `ttft_s` and `tbt_s`. The function view has no `max_functions` and no `copy`.
    """

    slot_columns, cluster_columns, spent_columns = SLOT, C, len(SPENT)
    cost_names = TERMS

    def __init__(
        self,
        num_envs: int = 1,
        problems: Problems | None = None,
        *,
        max_functions: int | None = None,
        tick_s: float = 1.0,
        weights: dict[str, float] | None = None,
        warmup_s: float = 0.0,
        same_trace_groups: int = 1,
        faults: FaultRates | None = None,
        copy: bool = True,
        threads: int = 1,
    ) -> None:
        super().__init__(
            num_envs, problems or TokenProblems(), levers=Levers(TokenBudget()),
            max_functions=max_functions, tick_s=tick_s, rules=Rules(), slo_rate=0.0,
            weights={**WEIGHTS, **(weights or {})}, warmup_s=warmup_s,
            same_trace_groups=same_trace_groups, faults=faults, copy=copy, threads=threads,
        )  # fmt: skip
        self.targets_s = np.ones((num_envs, self.slots))
        """Target of the first token of each function. Shape: (B, S)."""
        self._memory = np.zeros((num_envs, self.slots), MEMORY)
        self._marks, self._last_s = np.zeros((num_envs, 2), np.int64), np.zeros(num_envs)

    def _draw(self, k: int) -> tuple[Cluster, Workload]:
        cluster, workload = super()._draw(k)
        check_functions(cluster)
        return cluster, workload

    def _load(self, k: int, cluster: Cluster, workload: Workload) -> None:
        super()._load(k, cluster, workload)
        llms = check_functions(cluster)
        self.targets_s[k, : len(llms)] = [llm.ttft_s for llm in llms]
        self._scale[k] = self.targets_s[k, : len(llms)].mean()
        self._memory[k], self._marks[k], self._last_s[k] = np.zeros((), MEMORY), 0, 0.0

    def _observe(self, which: NDArray[np.int64]) -> Observation:
        observation, rows = self._buffers[0], self.sim.state.rows
        observe_tokens(
            rows, which, self.slots, observation, self.spent, self._memory, self._marks,
            self._last_s,
        )  # fmt: skip
        return observation

    def _close(
        self, over: NDArray[np.int64], ends: Floats
    ) -> tuple[Floats, list[dict[str, float]]]:
        """Summarise the rows at their horizon; nothing is owed after it."""
        summaries = []
        for k in over.tolist():
            result, cluster = self.sim.result(k), self.sim.clusters[k]
            own = figures(result, cluster, self.sim.state.workloads[k], self.warmup_s)
            summaries.append({**result.summary(), **own})
        return np.zeros(self.num_envs), summaries

    def _rewards(self, tail: Floats, dt: Floats) -> tuple[Floats, dict[str, Any]]:
        """Sum the weighted costs of the tick. Shapes: (B,)."""
        spent = dict(zip(SPENT, np.moveaxis(self.spent.sum(axis=1), 1, 0).copy(), strict=True))
        costs = {name: spent[name] for name in TERMS}
        terms = {name: -self.weights[name] * cost for name, cost in costs.items()}
        rewards: Floats = np.sum(list(terms.values()), axis=0)
        self._books.add(rewards)
        info = {
            "reward_terms": terms,
            "costs": costs,
            "late": costs["first"].copy(),
            **{name: spent[name] for name in SPENT[len(TERMS) :]},
            "scale": self._scale.copy(),
            "dt": dt,
        }
        return rewards, info


class TokenTurnEnv(TurnVectorEnv):
    """Function view: the functions of a cluster take turns at every tick."""

    core: TokenVectorEnv

    def __init__(
        self,
        num_envs: int = 1,
        problems: Problems | None = None,
        *,
        tick_s: float = 1.0,
        weights: dict[str, float] | None = None,
        warmup_s: float = 0.0,
        same_trace_groups: int = 1,
        faults: FaultRates | None = None,
        threads: int = 1,
    ) -> None:
        core = TokenVectorEnv(
            num_envs, problems, tick_s=tick_s, weights=weights, warmup_s=warmup_s,
            same_trace_groups=same_trace_groups, faults=faults, copy=False, threads=threads,
        )  # fmt: skip
        self.weights = np.array([core.weights[name] for name in TERMS])
        self._take_over(core)

    def _rewards(self, info: dict[str, Any]) -> Floats:
        """What the function asked has cost, in requests. Shape: (B,)"""
        rewards: Floats = -(info["terms"] * self.weights).sum(axis=1)
        return rewards

    def _info(self, dt: Floats) -> dict[str, Any]:
        info = super()._info(dt)
        info["scale"] = self.core.targets_s[:, self._turn].copy()
        return info
