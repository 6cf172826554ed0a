"""SimFaaS 0.2.2 on its own work, beside us on the same work in the same run.

The work: 100 Poisson requests a second to one function, exponential service, keep-alive 600 s, no
limit on memory: about 240 instances. SimFaaS pins old packages, so it runs in another interpreter:
`simfaas_venv=FOLDER` names a venv, which is made on demand; `pip install simfaas==0.2.2` here does,
too.

Source: Mahmoudi and Khazaei, "SimFaaS: a performance simulator for serverless computing platforms",
CLOSER 2021.  Units: requests per CPU-second.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from stoker.agents.bench_figure import Figure, cpu_seconds
from stoker.envs.cluster import replay
from stoker.envs.cluster.errors import SpecError

PIN = "simfaas==0.2.2"
RATE_HZ, TTL_S, HORIZON_S = 100.0, 600.0, 300.0
WARM_S, COLD_S = 2.0, 2.3
THEIRS = """
import json, sys, time
import numpy as np
from simfaas.ServerlessSimulator import ServerlessSimulator
rate, warm, cold, ttl, horizon, seed = map(float, sys.argv[1:])
np.random.seed(int(seed))
sim = ServerlessSimulator(arrival_rate=rate, warm_service_rate=1 / warm, cold_service_rate=1 / cold,
                          expiration_threshold=ttl, max_time=horizon)
began = time.process_time()
sim.generate_trace(debug_print=False, progress=False)
seconds = time.process_time() - began
requests = sim.total_req_count
print(json.dumps({"requests": requests, "cpu_s": seconds, "cold": sim.total_cold_count,
                  "instances": float(sim.get_average_server_count())}))
"""


def measure(cfg: DictConfig) -> list[Figure]:
    """Run both on the same work; nothing where SimFaaS is not to be had."""
    python = interpreter(cfg.simfaas_venv)
    if python is None:
        note = f"not run: pip install {PIN}, or bench simfaas_venv=FOLDER"
        return [Figure("peer", "SimFaaS", float("nan"), "requests/s", note=note)]
    theirs = [_theirs(python, seed) for seed in range(min(int(cfg.repeats), 3))]
    rate = float(np.median([run["requests"] / run["cpu_s"] for run in theirs]))
    instances = float(np.mean([run["instances"] for run in theirs]))
    work = _ours()
    seconds = cpu_seconds(lambda: replay.function_cache(**work), int(cfg.repeats))
    found = replay.function_cache(**work)
    mine = len(work["arrival_s"]) / seconds
    note = (
        f"mean instances {found.mean_instances:.0f}, SimFaaS {instances:.0f}; cold starts "
        f"{int((found.outcome == 1).sum())}, SimFaaS {np.mean([run['cold'] for run in theirs]):.0f}"
    )
    return [
        Figure("peer", "SimFaaS, its own work", rate, "requests/s"),
        Figure("peer", "ours, the same work", mine, "requests/s", note=note),
        Figure("peer", "ours against SimFaaS", mine / rate, "x"),
    ]


def interpreter(venv: str | None) -> Path | None:
    """Return a Python that has SimFaaS: this one, or that of a venv, made on demand."""
    if venv is None:
        return Path(sys.executable) if importlib.util.find_spec("simfaas") else None
    python = Path(venv).absolute() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(Path(venv))], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", PIN]
        if subprocess.run(install, check=False).returncode:
            raise SpecError("simfaas_venv", str(venv), f"a venv into which pip can install {PIN}")
    return python


def _theirs(python: Path, seed: int) -> dict[str, float]:
    numbers = (RATE_HZ, WARM_S, COLD_S, TTL_S, HORIZON_S, seed)
    done = subprocess.run(
        [str(python), "-c", THEIRS, *map(str, numbers)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SpecError("simfaas_venv", str(python), f"a Python with {PIN}: {done.stderr[-200:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _ours() -> dict[str, object]:
    rng = np.random.default_rng(0)
    arrival_s = np.cumsum(rng.exponential(1.0 / RATE_HZ, int(RATE_HZ * HORIZON_S)))
    count = len(arrival_s)
    services = np.stack([rng.exponential(WARM_S, count), rng.exponential(COLD_S, count)], axis=1)
    return {
        "arrival_s": arrival_s,
        "function": np.zeros(count, np.int64),
        "memory_mb": [128.0],
        "warm_s": [WARM_S],
        "init_s": [COLD_S - WARM_S],
        "capacity_mb": np.inf,
        "policy": "ttl",
        "preset": "simfaas",
        "ttl_s": TTL_S,
        "service_s": services,
    }
