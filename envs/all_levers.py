"""`stoker/Cluster-v0`: every lever at once: tiers, counts and classes, batches.

Units: seconds, GiB; rewards in cold starts.
"""

from __future__ import annotations

from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.levers import Batch, Levers, Prewarm, Swap
from stoker.envs.single import SingleEnv
from stoker.envs.spread_problems import SpreadProblems
from stoker.envs.turn_view import TurnVectorEnv
from stoker.envs.views import Views

AllLeversVectorEnv = Views(
    ClusterVectorEnv,
    TurnVectorEnv,
    (
        ("levers", Levers(Swap(), Prewarm(), Batch())),
        ("problems", SpreadProblems(dear=2, cheap=2, host_share=0.5, max_batch=8, slo_slack_s=5.0)),
    ),
)
"""Build B rows of the environment: `AllLeversVectorEnv(num_envs, view, **arguments)`."""


class AllLeversEnv(SingleEnv):
    """Every lever at once: tiers, counts and classes, batches.

    ## Description
    Two classes of GPU, host memory on every node, functions that batch and have a latency target.
    At every tick of 60 s the agent says for each function where its weights are to be, how many
    instances are to be ready on which class, and how large a batch is to be before it starts.

    ## Action Space
    Cluster view: `MultiDiscrete([6, 7, 3] * S)`. Function view: `Discrete(126)`, the three choices
    as one number, (tier * 7 + count) * 3 + batch; functions in turn.

    | Lever | Choices |
    | --- | --- |
    | tier | those of `stoker/Swap-v0` |
    | count | those of `stoker/Prewarm-v0` |
    | batch | a batch starts with 1 request (0), half of the function's limit (1), the limit (2) |

    A batch that waits for more starts at the latest after a quarter of the latency target.
    Where tier and count differ on how long an idle instance stays, or how many are to be ready, the
    larger counts. Masks are those of the levers; batch choices that are the same as a smaller one
    are masked. Masked choices are replaced lever by lever and counted in `info["clipped"]`.

    ## Observation Space
    As that of `stoker/KeepAlive-v0`; in the function view one slot and the cluster's columns.

    ## Rewards
    As those of `stoker/KeepAlive-v0`; in the function view see envs/turn_view.py.

    ## Episode
    As those of `stoker/KeepAlive-v0`.

    ## Arguments
    As those of `ClusterVectorEnv` or `TurnVectorEnv`; `problems` are 8 functions on 2 + 2 GPUs.

    ## Version History
    * v0: first version.
    """

    views = AllLeversVectorEnv
