"""An exported policy: an ONNX graph beside a JSON manifest, loaded without pickle or torch.

Three kinds, told apart by the manifest's `epoch`, the event at which the policy is asked: a
function becomes idle (here), a tick (tick_bundle.py), a batch may start (batch_bundle.py). The
manifest carries what the graph rests on: schema hash of the columns, rules and their numbers, a
training card, the range of every column in training, and the graph's checksum.
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
REQUIRED = ("format", "epoch", "schema", "sha256", "card")
IDLE = "a function becomes idle"


def digest(columns: Any) -> str:
    """Digest of what a graph takes and gives: a graph fits only its own."""
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]


def schema_hash() -> str:
    """Digest of the columns at an idle event, and of the experts."""
    return digest([list(FEATURES), EXPERTS])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check the manifest and the graph's checksum.

    Raises:
        SpecError: a file is missing, cut short or changed.
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
    found = hashlib.sha256((folder / GRAPH).read_bytes()).hexdigest()
    if found != manifest["sha256"]:
        raise SpecError("bundle.sha256", found[:16], f"{manifest['sha256'][:16]} (truncated file?)")
    return manifest


class Graph:
    """Manifest and graph of one bundle, run by onnxruntime on one thread.

    Args:
        folder: where they lie.
        epoch: that the bundle must be for.
        fields: that the manifest of that epoch must have, beside those of all.

    Raises:
        SpecError: as `read_manifest`, or it is another kind of bundle.
    """

    def __init__(self, folder: str | Path, epoch: str, fields: tuple[str, ...]) -> None:
        import onnxruntime

        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        if self.manifest["epoch"] != epoch:
            raise SpecError("bundle.epoch", self.manifest["epoch"], epoch)
        missing = [name for name in fields if name not in self.manifest]
        if missing:
            raise SpecError("bundle.manifest", missing, "these fields to be present")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(self.folder / GRAPH), options, providers=["CPUExecutionProvider"]
        )
        widths = {node.name: node.shape[-1] for node in self._session.get_inputs()}
        self.memory = int(widths.get("memory", 0))
        """Width of what is handed from one call to the next; 0 = the graph remembers nothing."""

    def check(self, schema: str) -> None:
        """Refuse a graph that was trained on other columns."""
        if self.manifest["schema"] != schema:
            raise SpecError("bundle.schema", self.manifest["schema"], f"{schema} (this version)")

    def run(
        self, observation: NDArray[np.float32], width: int, **more: NDArray[np.float32]
    ) -> list[NDArray[Any]]:
        """Return the graph's outputs; `more` are its further inputs. Shape: (N, width)"""
        if observation.ndim != 2 or observation.shape[1] != width:
            raise SpecError("observation", observation.shape, f"(N, {width})")
        out: list[NDArray[Any]] = self._session.run(None, {"observation": observation, **more})
        return out


class BundlePolicy(IdlePolicy):
    """The policy of a bundle that is asked when a function becomes idle.

    The graph takes observations (N, K) float32 and returns `mix` (N, E), `multiplier` (N,) and
    `variant` (N,); normalisation is inside.

    Args:
        folder: where manifest and graph lie.
    """

    def __init__(self, folder: str | Path) -> None:
        self._graph = Graph(folder, IDLE, ("rules", "first_bin_s"))
        self._graph.check(schema_hash())
        self.folder, self.manifest = self._graph.folder, self._graph.manifest
        self.rules = Rules(**self.manifest["rules"])

    def reset(self, cluster: Cluster, rows: int) -> None:
        """Refuse a cluster on another time scale than the one that the policy was trained on."""
        trained = float(self.manifest["first_bin_s"])
        if not np.isclose(cluster.first_bin_s, trained, rtol=1e-6):
            raise SpecError("cluster.first_bin_s", cluster.first_bin_s, f"{trained} (the bundle's)")

    def act(self, observation: NDArray[np.float32]) -> IdlePlan:
        """Run the graph. Shape: (N, K)"""
        mix, multiplier, variant = self._graph.run(observation, K)
        return IdlePlan(mix.astype(np.float64), multiplier.astype(np.float64), variant)
