"""What a function over several GPUs asks of a cluster, checked at construction.  Units: GiB."""

from __future__ import annotations

from collections.abc import Sequence

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.function import Function
from stoker.envs.cluster.node import Node


def check_span(function: Function, nodes: Sequence[Node], drop_oversized: bool) -> None:
    """Refuse a function over several GPUs that no node can hold.

    Raises:
        SpecError: a GPU is not parallel, no node has so many GPUs of one class, or (unless
            `drop_oversized`) the share of one GPU is larger than they are.
    """
    shared = next((g.sharing for n in nodes for g in n.gpus if g.sharing != "parallel"), None)
    if shared is not None:
        accepted = f"parallel (function[{function.name}] spans {function.gpus} GPUs)"
        raise SpecError("gpu.sharing", shared, accepted)
    alike = [_memory_by_class(node) for node in nodes]
    sizes = [memory_gib for classes in alike for memory_gib in classes]
    most = max(len(memory_gib) for memory_gib in sizes)
    if function.gpus > most:
        at = f"function[{function.name}].gpus"
        raise SpecError(at, function.gpus, f"<= {most} (GPUs of one class on a node)")
    share = max(s[function.gpus - 1] for s in sizes if len(s) >= function.gpus)
    if function.device_gib / function.gpus > share and not drop_oversized:
        at = f"function[{function.name}].device_gib"
        accepted = f"<= {function.gpus * share} ({function.gpus} GPUs of one class on a node)"
        raise SpecError(at, function.device_gib, accepted)


def _memory_by_class(node: Node) -> list[list[float]]:
    """Memory of a node's GPUs, class by class, largest first."""
    kinds = dict.fromkeys(g.kind for g in node.gpus)
    return [
        sorted((g.memory_gib for g in node.gpus if g.kind == kind), reverse=True) for kind in kinds
    ]
