"""How an LLM function serves: by iterations of a scheduler, over paged key-value memory.

Units: seconds, GiB, tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError, require

if TYPE_CHECKING:
    from stoker.envs.cluster.function import Function
    from stoker.envs.cluster.node import Gpu
    from stoker.envs.workload.workload import Workload

GIB = float(2**30)
SLACK_GIB = 1e-9
"""Rounding of a difference."""
DEVICE_SHARE = 0.9
"""gpu_memory_utilization of vLLM."""
TARGETS = ("ttft_s", "tbt_s")
APART = ("profile", "kv_gib", "requests", *TARGETS)
"""Fields that a replica does not know by these names."""
LEFT_ALONE = {"max_batch": 1, "concurrency": 1, "overlap_s": 0.0}
"""Fields of a function that say nothing of one that serves by iterations."""


@dataclass(frozen=True)
class Llm:
    """Service by iterations, as `replay.llm_replica` has it; docs/llm.md says what each field does.

    An instance holds its weights and its key-value memory for as long as it lives.
    """

    profile: str
    """Calibration entry; the function spans as many GPUs as the entry's degree."""
    scheduler: str = "sarathi"
    token_budget: int = 512
    kv_gib: float | None = None
    """Key-value memory of an instance, over all its GPUs; None = all it holds but its weights."""
    block_size: int = 16
    max_batch: int = 128
    """Requests that run at a time."""
    max_tokens: int = 4096
    """Prompt and output of a request; one that is longer is dropped."""
    requests: int = 256
    """Requests that an instance takes at a time, running or waiting for their turn; where more come
    another instance is started."""
    watermark: float = 0.01
    form: str = "roofline"
    t_cpu_s: float | str = 0.0
    preset: str = "stoker"
    ttft_s: float = math.inf
    """Target of the time from arrival to the first token."""
    tbt_s: float = math.inf
    """Target of the time between two tokens; those that come later are counted."""


def check_llm(f: Function) -> None:
    """Refuse an LLM function that cannot be served.

    Raises:
        SpecError: names the field, the value and what is accepted.
    """
    pattern(f)


def pattern(f: Function) -> NDArray[Any]:
    """The state that every replica of an LLM function starts with. Shape: (1,)

    Raises:
        SpecError: as `check_llm`.
    """
    # On demand: the replica's code is imported where there are LLM functions.
    from stoker.envs.cluster.llm.calibration import profile
    from stoker.envs.cluster.llm.lane_table import LANE
    from stoker.envs.cluster.llm.replica import enter, whole

    llm, at = f.llm, f"function[{f.name}]"
    assert llm is not None
    for name, value in LEFT_ALONE.items():
        accepted = f"{value} (it is an LLM: requests are batched by iteration)"
        require(getattr(f, name) == value, f"{at}.{name}", getattr(f, name), accepted)
    row = np.zeros(1, LANE)
    try:
        known = profile(llm.profile)
        for name in ("requests", "block_size"):
            whole(name, getattr(llm, name))
        for name in TARGETS:
            require(getattr(llm, name) > 0.0, name, getattr(llm, name), "> 0; inf = none")
            row[name] = getattr(llm, name)
        asked = {x.name: getattr(llm, x.name) for x in fields(llm) if x.name not in APART}
        enter(row, known, num_blocks=_blocks(f, llm, known.figures["kv_token_bytes"]), **asked)
    except SpecError as error:
        raise SpecError(f"{at}.llm.{error.field}", error.value, error.accepted) from None
    degree = known.figures["tp"]
    require(f.gpus == degree, f"{at}.gpus", f.gpus, f"{degree} (degree of {llm.profile})")
    return row


def _blocks(f: Function, llm: Llm, token_bytes: float) -> int:
    """Blocks of key-value memory of an instance; each of its GPUs holds a part of every token."""
    block_gib = f.gpus * token_bytes * llm.block_size / GIB
    room_gib = f.device_gib - f.weights_gib
    kv_gib = room_gib if llm.kv_gib is None else llm.kv_gib
    fits = block_gib <= kv_gib + SLACK_GIB and kv_gib <= room_gib + SLACK_GIB
    accepted = f">= {block_gib:g} (a block), <= {room_gib:g} (device_gib less weights_gib)"
    require(fits, "kv_gib", llm.kv_gib, accepted)
    return int((kv_gib + SLACK_GIB) // block_gib)


def check_llm_gpus(functions: Sequence[Function], gpus: Sequence[Gpu]) -> None:
    """Refuse GPUs on which the iterations of an LLM would not take the times of its profile.

    Raises:
        SpecError: names the sharing.
    """
    name = next((f.name for f in functions if f.llm is not None), None)
    shared = next((g.sharing for g in gpus if g.sharing != "parallel"), None)
    if name is not None and shared is not None:
        raise SpecError("gpu.sharing", shared, f"parallel (function[{name}] is an LLM)")


def check_llm_run(functions: Sequence[Function], workload: Workload, scale_out: str) -> None:
    """Refuse traffic without token counts, and a rule that would have to foresee completions.

    Raises:
        SpecError: names the column or the rule.
    """
    name = next((f.name for f in functions if f.llm is not None), None)
    if name is None:
        return
    for column in ("prompt_tokens", "output_tokens"):
        if getattr(workload, column) is None and len(workload):
            accepted = f"a count a request (function[{name}] is an LLM)"
            raise SpecError(f"workload.{column}", None, accepted)
    if scale_out == "wait_vs_cold":
        accepted = f"target_concurrency | per_request (function[{name}] is an LLM)"
        raise SpecError("rules.scale_out", scale_out, accepted)


def llm_function(name: str, llm: Llm, **changes: Any) -> Function:
    """Build the function that a calibration entry is: its weights, GPUs and key-value memory.

    Without `llm.kv_gib` an instance holds nine tenths of its GPUs' memory, as vLLM does.

    Args:
        name: of the function.
        llm: how it serves.
        **changes: further fields of the function, such as its start-up.

    Raises:
        SpecError: as `check_llm`.
    """
    from stoker.envs.cluster.function import Function
    from stoker.envs.cluster.llm.calibration import profile

    known = profile(llm.profile).figures
    degree = known["tp"]
    weights_gib = degree * (known["weight_bytes"] + known["embedding_bytes"]) / GIB
    device_gib = DEVICE_SHARE * degree * known["gpu_gib"]
    if llm.kv_gib is not None:
        device_gib = weights_gib + llm.kv_gib
    made = {"weights_gib": weights_gib, "device_gib": device_gib, "gpus": degree, **changes}
    return Function(name, llm=llm, **made)
