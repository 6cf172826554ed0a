"""An exported policy: an ONNX graph beside a JSON manifest, loaded without pickle or torch.

The graph takes observations (N, K) float32 and returns `mix` (N, E), `multiplier` (N,) and
`variant` (N,); normalisation is inside. The manifest carries what the graph rests on: schema hash
of the features, rules and their numbers, the time unit, a training card and the graph's checksum.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.baselines.base import IdlePolicy
from stoker.envs.cluster.decision import IdlePlan
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.observe import FEATURES, K
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster.tables import EXPERTS

FORMAT = 1
GRAPH, MANIFEST = "policy.onnx", "manifest.json"
REQUIRED = ("format", "schema", "sha256", "rules", "first_bin_s", "card")


def schema_hash() -> str:
    """Digest of the observation's columns and of the experts: a graph fits only its own."""
    text = json.dumps([list(FEATURES), EXPERTS])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check the manifest and the graph's checksum.

    Raises:
        SpecError: a file is missing, cut short or changed, or the schema is another one.
    """
    for name in (MANIFEST, GRAPH):
        if not (folder / name).is_file():
            raise SpecError("bundle", str(folder / name), f"a folder with {MANIFEST} and {GRAPH}")
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except ValueError as error:
        raise SpecError("bundle.manifest", str(folder / MANIFEST), f"JSON ({error})") from error
    missing = [name for name in REQUIRED if not isinstance(manifest, dict) or name not in manifest]
    if missing:
        raise SpecError("bundle.manifest", missing, "these fields to be present")
    if manifest["format"] != FORMAT:
        raise SpecError("bundle.format", manifest["format"], str(FORMAT))
    if manifest["schema"] != schema_hash():
        raise SpecError("bundle.schema", manifest["schema"], f"{schema_hash()} (this version)")
    found = hashlib.sha256((folder / GRAPH).read_bytes()).hexdigest()
    if found != manifest["sha256"]:
        raise SpecError("bundle.sha256", found[:16], f"{manifest['sha256'][:16]} (truncated file?)")
    return manifest


class BundlePolicy(IdlePolicy):
    """The policy of a bundle, run by onnxruntime on one thread.

    Args:
        folder: where manifest and graph lie.
    """

    def __init__(self, folder: str | Path) -> None:
        import onnxruntime

        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.rules = Rules(**self.manifest["rules"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(self.folder / GRAPH), options, providers=["CPUExecutionProvider"]
        )

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Refuse a cluster on another time scale than the one that the policy was trained on."""
        trained = float(self.manifest["first_bin_s"])
        if not np.isclose(cluster.first_bin_s, trained, rtol=1e-6):
            raise SpecError("cluster.first_bin_s", cluster.first_bin_s, f"{trained} (the bundle's)")

    def act(self, observation: NDArray[np.float32]) -> IdlePlan:
        """Run the graph. Shape: (N, K)"""
        if observation.ndim != 2 or observation.shape[1] != K:
            raise SpecError("observation", observation.shape, f"(N, {K})")
        mix, multiplier, variant = self._session.run(None, {"observation": observation})
        return IdlePlan(mix.astype(np.float64), multiplier.astype(np.float64), variant)
