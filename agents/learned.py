"""Find the exported policy of a train run, or open a bundle."""

from __future__ import annotations

from pathlib import Path

from stoker.baselines.bundle import MANIFEST, BundlePolicy
from stoker.envs.cluster.errors import SpecError


def load_learned(path: str | Path) -> BundlePolicy:
    """Load the policy of a train run's folder (its `bundle`) or of a bundle itself."""
    folder = Path(path)
    for candidate in (folder, folder / "bundle"):
        if (candidate / MANIFEST).is_file():
            return BundlePolicy(candidate)
    raise SpecError("learned", str(path), "a train run's folder or an exported bundle")
