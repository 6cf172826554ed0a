"""Find the exported policy of a train run, or open a bundle."""

from __future__ import annotations

from pathlib import Path

from stoker.baselines.base import Policy
from stoker.baselines.bundle import MANIFEST
from stoker.baselines.bundles import load_bundle
from stoker.envs.cluster.errors import SpecError


def bundle_of(path: str | Path, setting: str = "learned") -> Path:
    """Return where the bundle lies: in a train run's folder (its `bundle`), or there itself.

    Args:
        path: of the folder.
        setting: that named it, for the message to the user.
    """
    folder = Path(path)
    for candidate in (folder, folder / "bundle"):
        if (candidate / MANIFEST).is_file():
            return candidate
    raise SpecError(setting, str(path), "a train run's folder or an exported bundle")


def load_learned(path: str | Path, setting: str = "learned") -> Policy:
    """Load a policy that `simulate` and the runtime take."""
    return load_bundle(bundle_of(path, setting))
