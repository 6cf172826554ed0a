"""Presets of the replica: Vidur's habits, or the natural rule in each case."""

from __future__ import annotations

from dataclasses import dataclass

from stoker.envs.cluster.errors import SpecError


@dataclass(frozen=True)
class Habits:
    """Where Vidur differs from the systems that it models."""

    padded: bool
    """vllm: tokens of a prompt batch = requests x longest prompt; else their sum."""
    resort: bool
    """sarathi: order the running list by arrival before every batch; else only who was left out."""
    keep_prompt: bool
    """A victim in the middle of its prompt keeps it; else what is left of it becomes output."""
    test_always: bool
    """Ask for a free block before every output token, and keep the watermark on an empty replica;
    else only where a block is needed, and only for the growth of others."""


PRESETS = {
    "vidur": Habits(padded=True, resort=False, keep_prompt=False, test_always=True),
    "stoker": Habits(padded=False, resort=True, keep_prompt=True, test_always=False),
}
"""vidur: microsoft/vidur 7d475133 (Agrawal et al., MLSys 2024)."""


def preset(name: str) -> Habits:
    """Look a preset up.

    Raises:
        SpecError: lists the names there are.
    """
    if name not in PRESETS:
        raise SpecError("preset", name, " | ".join(PRESETS))
    return PRESETS[name]
