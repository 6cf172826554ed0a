"""Whether a cluster, a workload and rules go together."""

from __future__ import annotations

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.llm_spec import check_llm_run
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.workload.workload import Workload


def check(cluster: Cluster, workload: Workload, rules: Rules) -> None:
    """Raise SpecError unless the workload names the cluster's functions and the rules suit it."""
    check_llm_run(cluster.functions, workload, rules.scale_out)
    for gpu in cluster.gpus:
        if gpu.sharing == "exclusive" and rules.scale_out in ("per_request", "wait_vs_cold"):
            accepted = f"parallel (rules.scale_out is {rules.scale_out})"
            raise SpecError("gpu.sharing", gpu.sharing, accepted)
        if gpu.slows and rules.scale_out == "wait_vs_cold":  # it would need to foresee the ends
            if gpu.sharing == "processor":
                raise SpecError("gpu.sharing", gpu.sharing, "parallel (scale_out is wait_vs_cold)")
            if gpu.interference != "none":
                accepted = "none (rules.scale_out is wait_vs_cold)"
                raise SpecError("gpu.interference", gpu.interference, accepted)
            found = (gpu.batch_beside_load, gpu.load_beside_batch)
            field = "gpu.batch_beside_load, load_beside_batch"
            raise SpecError(field, found, "1, 1 (rules.scale_out is wait_vs_cold)")
    if len(workload.names) != len(cluster.functions):
        accepted = f"as many as the cluster has functions ({len(cluster.functions)})"
        raise SpecError("workload.names", len(workload.names), accepted)
