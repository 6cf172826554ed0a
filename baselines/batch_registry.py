"""The opponents in `stoker/Batching-v0`, by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from stoker.baselines.batch_policy import BatchPolicy
from stoker.envs.cluster.errors import SpecError

BATCHING = {
    "nexus": "stoker.baselines.nexus.Nexus",
    "clipper": "stoker.baselines.clipper.Clipper",
    "batch": "stoker.baselines.batch.Batch",
    "triton": "stoker.baselines.triton.Triton",
}


def load_batch_policy(node: Mapping[str, Any]) -> BatchPolicy:
    """Build a policy from a config node: `_target_` (one of BATCHING) and arguments.

    Raises:
        SpecError: it names no policy of ours.
    """
    target = node.get("_target_")
    if target not in BATCHING.values():
        raise SpecError("policy._target_", target, " | ".join(BATCHING.values()))
    module, name = str(target).rsplit(".", 1)
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    policy = getattr(importlib.import_module(module), name)(**arguments)
    assert isinstance(policy, BatchPolicy)
    return policy
