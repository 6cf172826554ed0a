"""How long it takes to start: import, first compilation, start with compiled code at hand.

Each figure is a process of its own; compiled code goes to a folder that is new for every repeat of
the first-compilation figure.
"""

from __future__ import annotations

import os
import resource
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
    with tempfile.TemporaryDirectory() as folder:
        return [
            _figure("import stoker", IMPORT, cfg.repeats, 0.5),
            _figure("first simulation, compiling", WORK, COMPILES, 90.0, folder),
            _figure("first simulation, compiled before", WORK, cfg.repeats, 2.0, folder),
        ]


def _figure(
    name: str, code: str, repeats: int, budget_s: float, cache: str | None = None
) -> Figure:
    """Time a process: seconds on the clock, and its CPU time in the note."""
    environment = dict(os.environ) | ({"STOKER_CACHE": cache} if cache else {})
    clock, cpu = [], []
    for _ in range(repeats):
        began, used = time.perf_counter(), _children_cpu_s()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        clock.append(time.perf_counter() - began)
        cpu.append(_children_cpu_s() - used)
    note = f"{statistics.median(cpu):.2f} s of CPU time"
    return Figure("start", name, statistics.median(clock), "s", budget_s, False, note)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
