"""What sharing of GPUs asks of a cluster, checked at construction."""

from __future__ import annotations

from collections.abc import Sequence

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.function import Function
from stoker.envs.cluster.node import Gpu


def check_interference(functions: Sequence[Function], gpus: Sequence[Gpu]) -> None:
    """Refuse GPUs with interference where it is not known what a function asks for.

    Raises:
        SpecError: a function lacks compute_util or memory_util, or is served in a way that loads
            are not known to slow.
    """
    beside = next((g for g in gpus if g.beside), None)
    other = next((f.name for f in functions if f.gpus > 1 or f.llm is not None), None)
    if beside is not None and other is not None:
        found = (beside.batch_beside_load, beside.load_beside_batch)
        accepted = f"1, 1 (function[{other}] spans several GPUs or is an LLM)"
        raise SpecError("gpu.batch_beside_load, load_beside_batch", found, accepted)
    form = next((g.interference for g in gpus if g.interference != "none"), None)
    if form is None:
        return
    for f in functions:
        for name in ("compute_util", "memory_util"):
            if getattr(f, name) is None:
                accepted = f"0..1 (a GPU has interference={form})"
                raise SpecError(f"function[{f.name}].{name}", None, accepted)
