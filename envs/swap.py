"""`stoker/Swap-v0`: which tier the weights of every model lie in, on several GPUs.

Units: seconds, GiB; rewards in cold starts.
"""

from __future__ import annotations

from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.levers import Levers, Swap
from stoker.envs.single import SingleEnv
from stoker.envs.spread_problems import SpreadProblems
from stoker.envs.turn_view import TurnVectorEnv
from stoker.envs.views import Views

SwapVectorEnv = Views(
    ClusterVectorEnv,
    TurnVectorEnv,
    (("levers", Levers(Swap())), ("problems", SpreadProblems(dear=4, host_share=0.5))),
)
"""Build B rows of the environment: `SwapVectorEnv(num_envs, view, **arguments)`."""


class SwapEnv(SingleEnv):
    """Which tier the weights of every model lie in, on several GPUs.

    ## Description
    Weights lie on disk, in pinned host memory or on a GPU. A load from host memory is quicker than
    one from disk; both tiers are smaller than what is hosted. At every tick of 60 s the agent says
    for each function where its weights are to be. Under pressure the instance of least hazard
    index leaves first; a busy one never does.

    ## Action Space
    Cluster view: `MultiDiscrete([6] * S)`. Function view: `Discrete(6)`, functions in turn.

    | Action | On the device | In host memory |
    | --- | --- | --- |
    | 0 | leaves | - |
    | 1 | leaves | stays there |
    | 2 | stays, if it is there | - |
    | 3 | stays, if it is there | afterwards, if it is evicted |
    | 4 | leaves | is fetched now |
    | 5 | is loaded now | afterwards, if it is evicted |

    Masked: 1, 3 and 4 where no host memory holds the weights; they become 0, 2 and 0, and are
    counted in `info["clipped"]`.

    ## Observation Space
    As that of `stoker/KeepAlive-v0`; in the function view one slot and the cluster's columns.

    ## Rewards
    As those of `stoker/KeepAlive-v0`; in the function view see envs/turn_view.py.

    ## Episode
    As those of `stoker/KeepAlive-v0`.

    ## Arguments
    As those of `ClusterVectorEnv` or `TurnVectorEnv`; `problems` are 8 functions on 4 GPUs with
    half their memory again on the host.

    ## Version History
    * v0: first version.
    """

    views = SwapVectorEnv
