"""The record of a row: one independent cluster's scalars, and where its tables (tables.py) are.

Units: seconds, bytes.
"""

from __future__ import annotations

import numpy as np

from stoker.envs.cluster.tables import AGES

_TABLES = (
    "fn", "inst", "node", "gpu", "nf", "gf", "fg", "cf", "link", "req", "heap", "order", "effect",
    "store", "kept", "scratch", "arrival", "function", "service", "cold_service", "param", "hybrid",
    "theta", "target", "layer", "slowed", "fault", "service_noise", "load_noise", "lane",
    "llm_req", "prompt", "curve",
)  # fmt: skip
ROW = np.dtype(
    [(name, "i8") for name in _TABLES]
    + [
        ("fns", "i8"), ("insts", "i8"), ("nodes", "i8"), ("gpus", "i8"), ("kinds", "i8"),
        ("families", "i8"), ("images", "i8"),
        ("reqs", "i8"),
        ("heap_cap", "i8"), ("heap_n", "i8"), ("effect_cap", "i8"), ("effects", "i8"),
        ("oracle", "i8"),
        ("now", "f8"), ("horizon", "f8"), ("warmup", "f8"), ("next_req", "i8"), ("seq", "i8"),
        ("created", "i8"), ("free_head", "i8"), ("free_n", "i8"),
        ("wait_head", "i8"), ("wait_tail", "i8"), ("queued", "i8"), ("pending", "i8"),
        ("status", "i8"), ("starved", "i8"), ("live", "i8"), ("pause", "i8"), ("track", "i8"),
        # rules
        ("scale_out", "i8"), ("placement", "i8"), ("eviction", "i8"), ("plan", "i8"),
        ("order_rule", "i8"), ("drop_overload", "i8"), ("need_full", "i8"), ("clone", "i8"),
        ("ttl_start", "i8"), ("ttl_lazy", "i8"), ("freq_instance", "i8"), ("clock_assign", "i8"),
        ("quantum", "f8"), ("futile", "i8"), ("host_eviction", "i8"),
        # whether targets or nodes wanted were ever ordered; new targets are to be taken up
        ("placing", "i8"), ("retarget", "i8"),
        # prices and clocks
        ("clock", "f8"), ("price", "f8"), ("price_t", "f8"), ("price_sum", "f8"),
        ("link_price", "f8"),
        ("rent", "f8"), ("host_rent", "f8"), ("load_price", "f8"), ("drop_price", "f8"),
        ("first_bin", "f8"),
        # memory of all GPUs
        ("cap", "i8"), ("used", "i8"), ("evictable", "i8"), ("off", "i8"),
        # host memory of all nodes
        ("host_cap", "i8"), ("host_used", "i8"),
        # population history (shared prior of the forecasts)
        ("prior_sum", "f8"), ("prior", "f4", (AGES,)),
        # counters
        ("evictions", "i8"), ("expiries", "i8"), ("loads_disk", "i8"), ("loads_host", "i8"),
        ("loads_peer", "i8"), ("loads_remote", "i8"),
        ("layers_runtime", "i8"), ("layers_sandbox", "i8"), ("lent", "i8"),
        ("prewarms", "i8"), ("refused", "i8"), ("drops", "i8"), ("served", "i8"), ("failed", "i8"),
        ("wait_s", "f8"), ("startup_wait_s", "f8"), ("load_s", "f8"), ("late", "i8"),
        ("loads_now", "i8"), ("events", "i8"), ("decisions", "i8"), ("clipped", "i8"),
        # most GPUs that an instance spans
        ("spans", "i8"),
        # faults: how many, the next one, whether what they hit goes on, whether the policy hears
        ("faults", "i8"), ("next_fault", "i8"), ("retry", "i8"), ("heed", "i8"), ("retries", "i8"),
        # batches that others may slow: how many, first free place of the table
        ("slowed_n", "i8"), ("slowed_free", "i8"),
        # whether batches are decided from outside (batching.py)
        ("batching", "i8"),
        # longest of the measured curves of batch times; 0 = there is none
        ("curve_n", "i8"),
        # LLM functions: how many, first free replica, address of the replicas' code
        ("llms", "i8"), ("lane_free", "i8"), ("turn", "i8"),
        # on a real backend: what has been loaded stays so long, unless a request needs the memory
        ("residency_s", "f8"),
    ],
    align=True,
)  # fmt: skip
