"""Find the exported policy of a train run, or open a bundle."""

from __future__ import annotations

from pathlib import Path

from stoker.baselines.bundle import MANIFEST, BundlePolicy
from stoker.envs.cluster.errors import SpecError


def load_learned(path: str | Path, setting: str = "learned") -> BundlePolicy:
    """Load the policy of a train run's folder (its `bundle`) or of a bundle itself.

    Args:
        path: of the folder.
        setting: that named it, for the message to the user.
    """
    folder = Path(path)
    for candidate in (folder, folder / "bundle"):
        if (candidate / MANIFEST).is_file():
            return BundlePolicy(candidate)
    raise SpecError(setting, str(path), "a train run's folder or an exported bundle")
