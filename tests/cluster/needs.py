"""Marks of tests that rest on a published trace, which is not part of the repository."""

from __future__ import annotations

import pytest

from stoker.envs.workload import locate


def needs(trace: str) -> pytest.MarkDecorator:
    """Skip where the trace is not at hand."""
    reason = f"trace {trace} is not on this machine (shared/data/traces beside the checkout)"
    return pytest.mark.skipif(locate(trace) is None, reason=f"{reason} or STOKER_DATA)")
