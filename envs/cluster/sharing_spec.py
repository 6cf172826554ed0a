"""What sharing of GPUs asks of a cluster, checked at construction."""

from __future__ import annotations

from collections.abc import Sequence

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.function import Function
from stoker.envs.cluster.node import Gpu


def check_interference(functions: Sequence[Function], gpus: Sequence[Gpu]) -> None:
    """Refuse GPUs with interference where it is not known what a function asks for.

    Raises:
        SpecError: a function lacks compute_util or memory_util.
    """
    form = next((g.interference for g in gpus if g.interference != "none"), None)
    if form is None:
        return
    for f in functions:
        for name in ("compute_util", "memory_util"):
            if getattr(f, name) is None:
                accepted = f"0..1 (a GPU has interference={form})"
                raise SpecError(f"function[{f.name}].{name}", None, accepted)
