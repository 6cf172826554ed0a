"""Open an exported policy, whatever event it is asked at."""

from __future__ import annotations

from pathlib import Path

from stoker.baselines.base import Policy
from stoker.baselines.batch_bundle import BATCH, BatchBundle
from stoker.baselines.batched import Batched
from stoker.baselines.bundle import IDLE, BundlePolicy, read_manifest
from stoker.baselines.tick_bundle import TICK, TickBundle
from stoker.envs.cluster.errors import SpecError


def load_bundle(folder: str | Path) -> Policy:
    """Load a policy that `simulate` and the runtime take.

    Raises:
        SpecError: no bundle, a damaged one, or one of another version.
    """
    epoch = read_manifest(Path(folder))["epoch"]
    if epoch == IDLE:
        return BundlePolicy(folder)
    if epoch == TICK:
        return TickBundle(folder)
    if epoch == BATCH:
        bundle = BatchBundle(folder)
        return Batched(bundle, bundle.sizes, bundle.wait_share)
    raise SpecError("bundle.epoch", epoch, f"{IDLE} | {TICK} | {BATCH}")
