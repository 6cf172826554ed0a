"""The luckiest a cluster can be under given faults: what a lower bound must be computed on.

Nodes lost, slow links and late telemetry only add to the cost of whatever a policy does; noise may
shorten a load or a batch, but not below its least factor. So a bound on the cluster whose times are
all multiplied by the least factors holds for every run under the faults, if requests that fail are
tried again (`Faults.retry`, and not under scale_out=per_request) or cost something
(`Objective.drop_usd`: a failed request is billed as a refused one).

Units: seconds, GiB/s.
"""

from __future__ import annotations

from dataclasses import replace

from stoker.envs.cluster.faults import Faults
from stoker.envs.cluster.spec import Cluster, Function, Link, Node
from stoker.envs.workload import Workload


def best_case(
    cluster: Cluster, workload: Workload, faults: Faults | None
) -> tuple[Cluster, Workload]:
    """Return the cluster and the workload with every time at its least under the faults."""
    load = min(min(faults.load_factors, default=1.0), 1.0) if faults else 1.0
    service = min(min(faults.service_factors, default=1.0), 1.0) if faults else 1.0
    if load == service == 1.0:
        return cluster, workload
    nodes = tuple(_faster(node, load) for node in cluster.all_nodes)
    functions = tuple(_sooner(f, load, service) for f in cluster.functions)
    if workload.service_s is not None:
        workload = replace(workload, service_s=workload.service_s * service)
    return replace(cluster, nodes=nodes, functions=functions), workload


def _faster(node: Node, factor: float) -> Node:
    """The node with links on which loads take `factor` of their time."""

    def link(found: Link) -> Link:
        return replace(found, gib_s=found.gib_s / factor)

    return replace(
        node,
        disk=link(node.disk),
        pcie=link(node.pcie),
        nvlink=node.nvlink and link(node.nvlink),
        network=node.network and link(node.network),
    )


def _sooner(f: Function, load: float, service: float) -> Function:
    """The function with loads and batches that take these factors of their time."""
    classes = tuple(
        replace(s, alpha_s=s.alpha_s * service, beta_s=s.beta_s * service) for s in f.services
    )
    return replace(
        f, runtime_s=f.runtime_s * load, warmup_s=f.warmup_s * load, sandbox_s=f.sandbox_s * load,
        fork_s=f.fork_s * load, lent_s=f.lent_s * load, load_gib_s=f.load_gib_s / load,
        alpha_s=f.alpha_s * service, beta_s=f.beta_s * service, services=classes,
        batch_s=tuple(s * service for s in f.batch_s),
    )  # fmt: skip
