"""How long it takes to start: import, first compilation, start with compiled code at hand.

Each figure is a process of its own; compiled code goes to a folder that is new for every repeat of
the first-compilation figure.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from omegaconf import DictConfig

from stoker.agents.bench_figure import Figure

IMPORT = "import stoker"
WORK = """
import numpy as np
from stoker.baselines.hazard import HazardIndex
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.workload import Workload
cluster = Cluster(Node((Gpu(1.0),)), (Function("f", 1.0, 1.0, runtime_s=1.0, alpha_s=0.1),))
workload = Workload(np.array([1.0, 5.0]), np.zeros(2, np.int32), ("f",), 10.0)
simulate(cluster, workload, HazardIndex())
"""
COMPILES = 1
"""The first compilation takes so long that one run has to do."""


def measure(cfg: DictConfig) -> list[Figure]:
    """Measure the three starts."""
    bare = _median("", cfg.repeats)
    imported = _median(IMPORT, cfg.repeats)
    with tempfile.TemporaryDirectory() as folder:
        first = _median(WORK, COMPILES, folder)
        again = _median(WORK, cfg.repeats, folder)
    note = f"interpreter alone {bare:.2f} s, taken off"
    return [
        Figure("start", "import stoker", imported - bare, "s", 0.5, False, note),
        Figure("start", "first simulation, compiling", first - bare, "s", 90.0, False),
        Figure("start", "first simulation, compiled before", again - bare, "s", 2.0, False),
    ]


def _median(code: str, repeats: int, cache: str | None = None) -> float:
    environment = dict(os.environ) | ({"STOKER_CACHE": cache} if cache else {})
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
