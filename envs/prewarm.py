"""`stoker/Prewarm-v0`: what is loaded ahead of its requests, and on which class of GPU.

Units: seconds, GiB; rewards in cold starts.
"""

from __future__ import annotations

from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.levers import Levers, Prewarm
from stoker.envs.single import SingleEnv
from stoker.envs.spread_problems import SpreadProblems
from stoker.envs.turn_view import TurnVectorEnv
from stoker.envs.views import Views

PrewarmVectorEnv = Views(
    ClusterVectorEnv,
    TurnVectorEnv,
    (("levers", Levers(Prewarm())), ("problems", SpreadProblems(dear=2, cheap=2))),
)
"""Build B rows of the environment: `PrewarmVectorEnv(num_envs, view, **arguments)`."""


class PrewarmEnv(SingleEnv):
    """What is loaded ahead of its requests, and on which class of GPU.

    ## Description
    Two nodes, one with dear and quick GPUs, one with cheap and slow ones. At every tick of 60 s the
    agent says how many instances of each function are to be ready, and on which class new ones
    start. What it keeps costs rent, what it does not keep costs a start-up at the next request.
    The decision is IceBreaker's (ASPLOS 2022), with counts.

    ## Action Space
    Cluster view: `MultiDiscrete([7] * S)`. Function view: `Discrete(7)`, functions in turn.

    | Action | Ready or loading until the next tick | New ones go to |
    | --- | --- | --- |
    | 0 | none is kept: idle ones leave | any class |
    | 1, 2, 3 | at least 1, 2, 4 | the dearest class |
    | 4, 5, 6 | at least 1, 2, 4 | the cheapest class |

    Instances above the count stay until the next tick. Masked: counts that the class does not
    hold, and 4-6 where there is one class. A masked action becomes the next smaller count of its
    class, 4 becomes 1; it is counted in `info["clipped"]`.

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

    views = PrewarmVectorEnv
