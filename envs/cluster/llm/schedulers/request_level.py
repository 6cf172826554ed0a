"""Request-level batching: a batch runs until its last request is done; only then comes the next.

Rule: a new batch takes waiting prompts, first come, first served, up to the places and the full
reservations of blocks. Requests that are done leave the computation, but nobody takes their place.

Source: the batching of FasterTransformer, as Orca's paper describes it (OSDI 2022, section 3).
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.decode import join_all
from stoker.envs.cluster.llm.schedulers.orca import admit_reserved


@njit
def form_request_level(r):
    """Form the next batch."""
    if r["running"] > 0:
        join_all(r)
    else:
        admit_reserved(r)
