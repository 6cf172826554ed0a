"""Export a trained policy: ONNX graph, manifest, parity check, nothing pickled.

Run it with `stoker export run=runs/train/RUN output=bundles/mine`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from stoker.baselines.bundle import FORMAT, GRAPH, MANIFEST, BundlePolicy, schema_hash
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.observe import FEATURES, K
from stoker.envs.cluster.spec import Rules

CHECKED = 1000
"""Least number of stored observations on which graph and torch must agree."""
OBSERVATIONS = "observations.npy"
TOLERANCE = 1e-5


def write_bundle(
    folder: Path,
    module: nn.Module,
    observations: NDArray[np.float32],
    rules: Rules,
    first_bin_s: float,
    card: dict[str, Any],
) -> Path:
    """Export, write the manifest, reload and compare.

    Args:
        folder: created.
        module: maps observations to mix, multiplier, variant.
        observations: to compare on; at least 1,000. Shape: (N, K)
        rules: that the policy runs on.
        first_bin_s: time unit of the histograms that it was trained on.
        card: what it was trained on and how it scored.

    Raises:
        SpecError: too few observations, or graph and module disagree.
    """
    if observations.shape[0] < CHECKED or observations.shape[1:] != (K,):
        raise SpecError("observations", observations.shape, f"({CHECKED} or more, {K})")
    folder.mkdir(parents=True, exist_ok=True)
    module = module.eval()
    for chatty in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.from_numpy(observations[:2]),),
            str(folder / GRAPH),
            dynamo=True,
            external_data=False,
            input_names=["observation"],
            output_names=["mix", "multiplier", "variant"],
            dynamic_shapes={"observation": {0: torch.export.Dim("decisions")}},
            verbose=False,
        )
    _strip(folder / GRAPH)
    manifest = {
        "format": FORMAT,
        "schema": schema_hash(),
        "sha256": hashlib.sha256((folder / GRAPH).read_bytes()).hexdigest(),
        "features": [name for name, _ in FEATURES],
        "rules": asdict(rules),
        "first_bin_s": first_bin_s,
        "epoch": "a function becomes idle",
        "card": card,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    check_parity(folder, module, observations)
    return folder


def _strip(path: Path) -> None:
    """Take the exporter's stack traces, which name files of this machine, out of a graph."""
    model = onnx.load(path)
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    for item in (*model.graph.input, *model.graph.output):
        del item.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    onnx.save(model, path)


def check_parity(folder: Path, module: nn.Module, observations: NDArray[np.float32]) -> float:
    """Compare the bundle with the module; return the largest difference of mix and multiplier."""
    plan = BundlePolicy(folder).act(observations)
    with torch.no_grad():
        mix, multiplier, variant = module(torch.from_numpy(observations))
    worst = max(
        float(np.abs(plan.mix - mix.numpy()).max()),
        float(np.abs(plan.multiplier / multiplier.numpy() - 1.0).max()),
    )
    if worst > TOLERANCE or not np.array_equal(plan.variant, variant.numpy()):
        raise SpecError("bundle", worst, f"within {TOLERANCE} of the torch policy")
    return worst
