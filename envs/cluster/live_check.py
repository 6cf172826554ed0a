"""Which clusters a real backend can be: what the live engine refuses, with the reason."""

from __future__ import annotations

import math

from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.spec import Cluster


def check_live(cluster: Cluster, residency_s: float) -> None:
    """Refuse what no backend carries out yet."""
    finite = 0.0 <= residency_s < math.inf
    require(finite, "residency_s", residency_s, "a time >= 0")
    for f in cluster.functions:
        if f.llm is not None:
            accepted = "None (on a real backend, which forms its own iterations)"
            raise SpecError(f"function[{f.name}].llm", f.llm.profile, accepted)
        if f.gpus > 1:
            raise SpecError(f"function[{f.name}].gpus", f.gpus, "1 (on a real backend)")
    for gpu in cluster.gpus:
        if gpu.sharing not in ("parallel", "exclusive"):
            accepted = "parallel | exclusive (on a real backend)"
            raise SpecError("gpu.sharing", gpu.sharing, accepted)
