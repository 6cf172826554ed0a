"""`stoker/KeepAlive-v0`: which models stay loaded, as an Env and as a native VectorEnv.

Units: seconds, GiB; rewards in cold starts.
"""

from __future__ import annotations

from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.function_view import FunctionVectorEnv
from stoker.envs.single import SingleEnv
from stoker.envs.views import Views

KeepAliveVectorEnv = Views(ClusterVectorEnv, FunctionVectorEnv)
"""Build B rows of the environment: `KeepAliveVectorEnv(num_envs, view, **arguments)`."""


class KeepAliveEnv(SingleEnv):
    """Which models stay loaded on the GPUs, and which wait in host memory.

    ## Description
    A cluster hosts more models than its GPUs hold. Requests arrive for functions (one model each);
    one that finds no instance waits for a start-up: runtime, weights disk -> host -> device over
    shared links, warm-up. Idle instances save those waits and cost rent and memory that others
    need. The agent decides how long idle instances stay and whether their weights then stay in
    host memory. Under pressure the instance of least hazard index leaves first, whatever was
    ordered; a busy instance never does.

    Two views (argument `view`): `cluster`, described here, is one agent that decides for every
    function at every tick of 60 s; `function` asks one question a step, whenever a function
    becomes idle (see docs/environments/keepalive.md).

    ## Action Space
    `MultiDiscrete([6] * S)`: device choice + 3 x host choice for every slot.

    | Action | On the device, while idle | Then |
    | --- | --- | --- |
    | 0 | drop at once | gone |
    | 1 | keep while idle for less than 15 s | gone |
    | 2 | keep to the next tick | gone (if evicted) |
    | 3, 4, 5 | as 0, 1, 2 | weights stay in host memory to the next tick |

    Masks (`action_masks()`, `info["action_mask"]`, S x 6 flags): slots without a function allow
    only 0; 3-5 need a host tier that holds the weights. A masked action becomes the same without
    the host copy, else 0, and is counted in `info["clipped"]`. The function view has
    `Discrete(15)`: multiplier on the hazard index (0.2, 0.45, 1, 2.2, 5) x plan (as the
    heuristic, no prewarm, eager prewarm).

    ## Observation Space
    Flat `Box(-10, 10)` of S x 83 + 15 columns. Every slot has an `active` flag (0 = no such
    function, all columns 0), then:

    | Column | Feature | Meaning |
    | --- | --- | --- |
    | 0 | rate_10s | arrivals expected during one load at the rate of the last 10 s: ln, / 8 |
    | 1 | rate_60s | the same over 60 s |
    | 2 | rate_600s | the same over 600 s |
    | 3 | rate_3600s | the same over an hour |
    | 4 | last_gap | bin of the last gap / 72 |
    | 5 | previous_gap | bin of the gap before / 72 |
    | 6 | gaps | gaps seen: ln(1 + n) / 8 |
    | 7 | age | bin of the time since the function became idle / 72 |
    | 8 | load | start-up time over the first bin: ln, / 4 |
    | 9 | size | share of the device memory that an instance takes: ln, / 8 |
    | 10 | host | 1 = weights in some host memory |
    | 11 | gap_before_load | forecast probability that the gap is shorter than a load |
    | 12 | gap_before_even | the same for the break-even time at the present price |
    | 13 | gap_p10 | bin of the forecast's 10 % quantile / 72 |
    | 14 | gap_p50 | of the median |
    | 15 | gap_p90 | of the 90 % quantile |
    | 16 | index | hazard index: ln, / 8 |
    | 17 | price | rent plus online price of memory: ln, / 8 |
    | 18 | index_over_price | ln of their ratio / 8 |
    | 19 | free | free share of device memory |
    | 20 | evictable | idle share of device memory |
    | 21 | loading | loads in progress: ln(1 + n) / 4 |
    | 22 | link_queue | loads waiting for the disk links, over their slots: ln(1 + x) / 4 |
    | 23 | requests_waiting | requests in queues: ln(1 + n) / 8 |
    | 24 | link_price | loads, a slot, that recent loads found waiting: ln(1 + x) / 4 |
    | 25-48 | slow_0 .. slow_23 | share of each coarse gap bin, slowly decayed |
    | 49-72 | fast_0 .. fast_23 | the same, quickly decayed |
    | 73 | queued | requests waiting: ln(1 + n) / 8 |
    | 74 | ready_idle | idle instances: ln(1 + n) / 4 |
    | 75 | ready_busy | busy instances: ln(1 + n) / 4 |
    | 76 | starting | instances that start up: ln(1 + n) / 4 |
    | 77 | load_host | start-up time from host memory over that from disk |
    | 78 | service | service time of one request, s / (s + start-up time) |
    | 79 | waited | mean wait of the requests since the last tick, w / (w + start-up time) |
    | 80 | target | latency target, x / (x + start-up time); 1 without a target |
    | 81 | slack | time left to the oldest request that waits, over the start-up time; 1 if none |

    After the slots come the features of the whole cluster:

    | Column | Feature | Meaning |
    | --- | --- | --- |
    | 0 | free | free share of device memory |
    | 1 | evictable | idle share of device memory |
    | 2 | loading | loads in progress: ln(1 + n) / 4 |
    | 3 | link_queue | loads waiting for the disk links, over their slots: ln(1 + x) / 4 |
    | 4 | requests_waiting | requests in queues: ln(1 + n) / 8 |
    | 5 | link_price | loads, a slot, that recent loads found waiting: ln(1 + x) / 4 |
    | 6 | price | rent plus online price of memory: ln, / 8 |
    | 7 | gpu_free_most | free share of the GPU with the most free memory |
    | 8 | gpu_free_least | free share of the GPU with the least |
    | 9 | host_free | free share of host memory; 0 without a host tier |
    | 10 | slo_target | share of requests that should meet their latency target |
    | 11 | slo_multiplier | Lagrange multiplier of the target: ln(1 + m) / 4 |
    | 12 | late_share | share of recent requests that were late or refused (decayed over an hour) |
    | 13 | day_sin | sine of the time of day, the workload beginning at midnight |
    | 14 | day_cos | its cosine |

    ln = natural logarithm; figures are scaled by fixed constants and do not depend on the size of
    the cluster; the function view observes the first 73 of the function that has become
    idle, and no clock.

    ## Rewards
    Minus the costs of the tick in mean cold starts of the cluster (`info["scale"]`, s), by name in
    `info["reward_terms"]`: `wait`, `rent`, `host`, `load`, `drop` (these add up to the bill),
    `tail` (rent of what the last orders hold past the horizon, at most one cold start a function)
    and `slo` (multiplier x late or refused requests beyond those that the target allows). The
    multiplier grows while the target is missed and is carried over from episode to episode.

    ## Starting State
    Empty GPUs, or the state after `warmup_s` under "keep all, evict under pressure". Problem and
    SLO target are drawn from a stream of (seed, row, episode): rows do not depend on each other.

    ## Episode End
    Truncation at the workload's horizon; never terminated. `info["summary"]` then holds the scores.

    ## Arguments
    `view`, `problems`, `max_functions`, `tick_s`, `rules`, `weights`, `slo_target`, `slo_rate`,
    `warmup_s`, `same_trace_groups`, `faults`, `copy`, `threads`: see `ClusterVectorEnv`; those of
    the function view: see `FunctionVectorEnv`.

    ## Version History
    * v0: first version.
    """

    views = KeepAliveVectorEnv
