"""Export a trained policy: ONNX graph, manifest, parity check, nothing pickled.

Run it with `stoker export run=runs/train/RUN output=bundles/mine`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from stoker.agents.tick_memory import RecurrentPreference, inputs_of
from stoker.baselines.batch_bundle import BATCH, BatchBundle, batch_schema
from stoker.baselines.bundle import (
    FORMAT,
    GRAPH,
    IDLE,
    MANIFEST,
    BundlePolicy,
    Graph,
    read_manifest,
    schema_hash,
)
from stoker.baselines.tick_bundle import TICK, TickBundle, tick_schema
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.observe import FEATURES, K
from stoker.envs.cluster.observe_all import SLOT, C
from stoker.envs.cluster.observe_batch import K as BATCH_K
from stoker.envs.cluster.spec import Rules
from stoker.envs.levers import Levers

CHECKED = 1000
"""Least number of stored observations on which graph and torch must agree."""
OBSERVATIONS = "observations.npy"
TOLERANCE = 1e-5
SEEN = (0.001, 0.999)
"""Quantiles of each column in training that the manifest states: its usual range."""
Observations = NDArray[np.float32]


def write_bundle(
    folder: Path,
    module: nn.Module,
    observations: Observations,
    rules: Rules,
    first_bin_s: float,
    card: dict[str, Any],
) -> Path:
    """Export a policy of idle events, reload it and compare.

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
    facts = {
        "schema": schema_hash(),
        "features": [name for name, _ in FEATURES],
        "rules": asdict(rules),
        "first_bin_s": first_bin_s,
    }
    _write(folder, module, observations, K, ("mix", "multiplier", "variant"), IDLE, facts, card)
    check_parity(BundlePolicy(folder).folder, module, observations)
    return folder


def write_tick_bundle(
    folder: Path,
    module: nn.Module,
    observations: Observations,
    levers: Levers,
    rules: Rules,
    tick_s: float,
    card: dict[str, Any],
) -> Path:
    """Export a policy of ticks, reload it and compare.

    Args:
        folder: created.
        module: maps observations to preferences over the joint choices of the levers; a
            RecurrentPreference also its memory to the next.
        observations: to compare on; at least 1,000. Shape: (N, SLOT + C)
        levers: of the environment.
        rules: that the policy runs on.
        tick_s: seconds between ticks, at uncompressed time.
        card: what it was trained on and how it scored.

    Raises:
        SpecError: too few observations, or graph and module disagree.
    """
    facts = {
        "schema": tick_schema(levers),
        "levers": [type(lever).__name__ for lever in levers.levers],
        "rules": asdict(rules),
        "tick_s": tick_s,
    }
    outputs = ("preference", "remembered")[: 1 + isinstance(module, RecurrentPreference)]
    _write(folder, module, observations, SLOT + C, outputs, TICK, facts, card)
    check_parity(TickBundle(folder).folder, module, observations)
    return folder


def write_batch_bundle(
    folder: Path,
    module: nn.Module,
    observations: Observations,
    sizes: Sequence[int],
    wait_share: float,
    card: dict[str, Any],
) -> Path:
    """Export a policy of batches, reload it and compare.

    Args:
        folder: created.
        module: maps observations to preferences over the actions, illegal ones far below.
        observations: to compare on; at least 1,000. Shape: (N, K)
        sizes: of batches.
        wait_share: longest wait for the next decision, in latency targets.
        card: what it was trained on and how it scored.

    Raises:
        SpecError: too few observations, or graph and module disagree.
    """
    given = [int(size) for size in sizes]
    facts = {"schema": batch_schema(given), "sizes": given, "wait_share": wait_share}
    _write(folder, module, observations, BATCH_K, ("preference",), BATCH, facts, card)
    check_parity(BatchBundle(folder).folder, module, observations)
    return folder


def _write(
    folder: Path, module: nn.Module, observations: Observations, width: int,
    outputs: Sequence[str], epoch: str, facts: dict[str, Any], card: dict[str, Any],
) -> None:  # fmt: skip
    """Write graph and manifest."""
    if observations.shape[0] < CHECKED or observations.shape[1:] != (width,):
        raise SpecError("observations", observations.shape, f"({CHECKED} or more, {width})")
    folder.mkdir(parents=True, exist_ok=True)
    module = module.eval()
    given = inputs_of(module, torch.from_numpy(observations[:2]))
    for chatty in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(given.values()),
            str(folder / GRAPH),
            dynamo=True,
            external_data=False,
            input_names=list(given),
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("decisions")},) * len(given),
            verbose=False,
        )
    _strip(folder / GRAPH)
    low, high = np.quantile(observations, SEEN, axis=0)
    manifest = {
        "format": FORMAT,
        "epoch": epoch,
        "sha256": hashlib.sha256((folder / GRAPH).read_bytes()).hexdigest(),
        **facts,
        "seen": {"low": low.tolist(), "high": high.tolist()},
        "card": card,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


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


def check_parity(folder: Path, module: nn.Module, observations: Observations) -> float:
    """Compare the graph with the module; return the largest relative difference of any output."""
    epoch = read_manifest(folder)["epoch"]
    inputs = inputs_of(module, torch.from_numpy(observations))
    more = {name: value.numpy() for name, value in inputs.items() if name != "observation"}
    found = Graph(folder, epoch, ()).run(observations, observations.shape[1], **more)
    with torch.no_grad():
        given = module(*inputs.values())
    worst = 0.0
    for ours, theirs in zip(found, given if isinstance(given, tuple) else (given,), strict=True):
        expected = theirs.numpy()
        if ours.dtype.kind == "f":
            apart = np.abs(ours - expected) / np.maximum(np.abs(expected), 1.0)
            worst = max(worst, float(apart.max()))
        elif not np.array_equal(ours, expected):
            worst = np.inf
    if not worst <= TOLERANCE:
        raise SpecError("bundle", worst, f"within {TOLERANCE} of the torch policy")
    return worst
