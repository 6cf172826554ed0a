"""`stoker/Batching-v0`: when a batch starts and how large it is, as an Env and a native VectorEnv.

Shapes: B rows, S slots for functions, K features, A actions.
Units: seconds; rewards in requests.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from stoker.envs.batching_core import BatchingRows, Ints
from stoker.envs.cluster.batching import RUN
from stoker.envs.single import SingleEnv
from stoker.envs.token_view import TokenTurnEnv, TokenVectorEnv
from stoker.envs.views import Variants, Views


class BatchingFunctionRows(BatchingRows):
    """Function view: a step decides for one function, the one whose head is due first."""

    one = True

    def _actions(self) -> gym.spaces.Space[Any]:
        return gym.spaces.Discrete(RUN + len(self.sizes))

    def _room(self) -> Ints:
        """Shape: (B,)"""
        books = self._books[0]
        room: Ints = books.room[np.arange(self.num_envs), books.due.function]
        return room

    def _spread(self, actions: Ints) -> Ints:
        spread = np.zeros_like(self._books[0].room)
        spread[np.arange(self.num_envs), self._books[0].due.function] = actions
        return spread


class BatchingClusterRows(BatchingRows):
    """Cluster view: a step decides for every function that could start a batch."""

    one = False

    def _actions(self) -> gym.spaces.Space[Any]:
        return gym.spaces.MultiDiscrete([RUN + len(self.sizes)] * self.slots)

    def _room(self) -> Ints:
        """Shape: (B, S)"""
        return self._books[0].room

    def _spread(self, actions: Ints) -> Ints:
        return actions


BatchingVectorEnv = Variants(
    (
        ("dnn", Views(BatchingClusterRows, BatchingFunctionRows)),
        ("llm", Views(TokenVectorEnv, TokenTurnEnv)),
    )
)
"""Build B rows: `BatchingVectorEnv(num_envs, view, variant, **arguments)`."""


class BatchingEnv(SingleEnv):
    """When a batch starts, how large it is, and which requests are not worth a place in it.

    ## Description
    Requests wait in their function's queue. A batch of b takes alpha + beta x b, is not
    interrupted, and holds its GPU alone: a larger batch serves more requests a second, but its
    head has waited longer. Functions are loaded from the start, one instance each, and take turns
    on the GPUs. A row stops when a batch could start and something has happened: a request has
    come, a batch has ended, or a timer has fired.

    This is the variant `dnn`, the default. In the variant `llm` a tick of a second sets the token
    budget of LLM functions: see `stoker.envs.token_view.TokenVectorEnv`.

    Two views (argument `view`): `cluster` decides at once for every function that could start a
    batch; `function` asks one question a step, about the one whose head is due first.

    ## Action Space
    Cluster view `MultiDiscrete([2 + Z] * S)`, function view `Discrete(2 + Z)`, for Z `sizes`:

    | Action | Meaning |
    | --- | --- |
    | 0 | wait for the next event, at most `wait_share` latency targets |
    | 1 | drop the head of the queue |
    | 2 + j | run the first requests, up to `sizes[j]` of them (1, 2, 4, 8, 16, 32) |

    Masks (`action_masks()`, `info["action_mask"]`): 1 and up need a GPU that is free and a request
    that waits; a size is legal unless the next smaller one takes all that a batch could take. A
    masked action becomes the largest legal batch, else waiting, and is counted in
    `info["clipped"]`.

    ## Observation Space
    `Box(-10, 10)`: the features of the function that decides; in the cluster view, for every slot
    an `active` flag (0 = no such function, all columns 0) and then its features.

    | Column | Feature | Meaning |
    | --- | --- | --- |
    | 0 | due | 1 = a batch may start now |
    | 1 | queued | requests that wait: ln(1 + n) / 4 |
    | 2 | queue_share | requests that wait, over the largest batch |
    | 3 | slack_1 | time to the deadline of the head over the target; 1 = there is none |
    | 4 | slack_2 | time to the deadline of the 2nd request over the target; 1 = there is none |
    | 5 | slack_4 | time to the deadline of the 4th request over the target; 1 = there is none |
    | 6 | slack_8 | time to the deadline of the 8th request over the target; 1 = there is none |
    | 7 | slack_16 | time to the deadline of the 16th request over the target; 1 = there is none |
    | 8 | hopeless | requests at the head that would be late even alone: ln(1 + n) / 4 |
    | 9 | service_one | time of a batch of one over the target |
    | 10 | service_all | time of a batch of all that wait, up to the largest, over the target |
    | 11 | service_most | time of the largest batch over the target |
    | 12 | target | latency target over the time of a batch of one: ln, / 4 |
    | 13 | largest | largest batch: ln, / 4 |
    | 14 | rate_10s | arrivals in the largest batch's time at the rate of 10 s: ln(1 + x) / 4 |
    | 15 | rate_60s | the same over 60 s |
    | 16 | rate_600s | the same over 600 s |
    | 17 | rate_3600s | the same over an hour |
    | 18 | since | time since the last arrival over the target |
    | 19 | running | requests in batches that run: ln(1 + n) / 4 |
    | 20 | others | requests of other functions that wait: ln(1 + n) / 8 |
    | 21 | gpus_busy | share of the GPUs that run a batch |

    ln = natural logarithm; the target is the function's latency target. Rates are those of the
    last 10 s at uncompressed time (`Cluster.first_bin_s` / 3 times that), and so on.

    ## Rewards
    Minus the weighted costs of the whole row since the last step, by name in `info["costs"]` (all
    >= 0) and, weighted and signed, in `info["reward_terms"]`:

    | Term | Weight | Cost |
    | --- | --- | --- |
    | wait | 0.1 | time that requests waited, in their latency targets |
    | late | 1 | late requests: charged when the deadline passes in the queue, else at the end |
    | drop | 1 | requests refused before that |
    | busy | 0.05 | time of the batches that were begun, in latency targets |

    Steps take unequal time, `info["dt"]` seconds (0 where several decisions fall together):
    discount by gamma ** dt; `info["scale"]` is the row's mean latency target.

    ## Starting State
    The first decision of a new problem, or the first after `warmup_s` under "run what waits".
    Problems are drawn from a stream of (seed, row, episode): rows do not depend on each other.

    ## Episode End
    Truncation at the workload's horizon; never terminated. `info["summary"]` then holds the scores.

    ## Arguments
    `view`; `variant`; `problems`: where episodes come from (`BatchProblems`); `max_functions`:
    slots; `sizes`: of batches, ascending; `wait_share`: longest wait for the next decision, in
    latency targets, inf = no timer; `weights`: of the costs, by name; `warmup_s`;
    `same_trace_groups`: so many neighbouring rows share every problem; `copy`: False hands out one
    of two buffers in turn.

    ## Version History
    * v0: first version.
    """

    views = BatchingVectorEnv

    def action_masks(self) -> NDArray[np.bool_]:
        """Legal actions. Shape: (S * A,) or (A,)"""
        masks: NDArray[np.bool_] = self.core.action_masks()[0]  # type: ignore[attr-defined]
        return masks
