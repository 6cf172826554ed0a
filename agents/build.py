"""From config nodes to the things they describe: the edge between Hydra and the rest.

An application calls `build_problem` and `build_policy` and sees no config below them.

Units: seconds, GiB, GiB/s, dollars.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_method

from stoker.agents.build_functions import map_functions, mapping_profile
from stoker.agents.build_llm import llm_hardware
from stoker.agents.nodes import ConfigNode, call, fill, plain
from stoker.baselines.base import Policy
from stoker.baselines.registry import load_policy
from stoker.envs import workload as traffic
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import FaultRates, Faults
from stoker.envs.cluster.faults import draw as draw_faults
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Objective
from stoker.envs.workload import Workload, to_gpu

PARTS = ("all", "train", "validation", "test", "later")


@dataclass(frozen=True)
class Problem:
    """A cluster and the traffic that it has to serve."""

    cluster: Cluster
    workload: Workload
    faults: Faults | None = None
    """What goes wrong; None = nothing."""


def build_problem(cfg: ConfigNode, seed: int, ratio: float | None = None) -> Problem:
    """Build the problem that the nodes workload, scenario and cluster describe.

    Args:
        cfg: a config with these nodes.
        seed: of the traffic, the split and the mapping to models.
        ratio: replaces the scenario's memory ratio.
    """
    scenario = plain(cfg["scenario"])
    return build_problems(cfg, seed, [scenario["ratio"] if ratio is None else ratio])[0]


def build_problems(
    cfg: ConfigNode,
    seed: int,
    ratios: Sequence[float],
    loaded: tuple[Workload, tuple[Function, ...]] | None = None,
) -> list[Problem]:
    """Build one problem a memory ratio, all over the same traffic, functions and faults.

    Args:
        cfg: a config with the nodes workload, scenario and cluster, and perhaps faults.
        seed: of the traffic, the draw of functions and the mapping to models.
        ratios: replace the scenario's memory ratio, one a problem.
        loaded: of `build_workload` with this seed, if at hand.
    """
    scenario = plain(cfg["scenario"])
    workload, functions = loaded or build_workload(cfg["workload"], seed)
    workload = shape_traffic(workload, scenario, seed)
    functions = map_functions(workload, functions, scenario, seed)
    node = plain(cfg["cluster"])
    made = [build_cluster(node, {**scenario, "ratio": r}, workload, functions) for r in ratios]
    return [
        Problem(cluster, workload, build_faults(cfg.get("faults"), cluster, workload, seed))
        for cluster in made
    ]


def build_faults(
    node: ConfigNode | None, cluster: Cluster, workload: Workload, seed: int
) -> Faults | None:
    """Draw what goes wrong in a problem; None where nothing can."""
    rates = fault_rates(node)
    if rates is None:
        return None
    return draw_faults(np.random.default_rng([seed, 6]), cluster, workload.horizon_s, rates)


def fault_rates(node: ConfigNode | None) -> FaultRates | None:
    """Read the `faults` node; None where nothing can go wrong."""
    if node is None:
        return None
    options = plain(node)
    profile = options.pop("profile", None)
    if profile is not None:
        from stoker.runtime.profile import read_profile, residual_factors

        measured = residual_factors(read_profile(profile))
        options |= dict(zip(("load_factors", "service_factors"), measured, strict=True))
    rates = fill("faults", FaultRates, options)
    assert isinstance(rates, FaultRates)
    return None if rates == FaultRates(retry=rates.retry) else rates


def build_workload(node: ConfigNode, seed: int) -> tuple[Workload, tuple[Function, ...]]:
    """Load or draw a workload, and the functions where its table is given (else empty)."""
    options = plain(node)
    if "_target_" not in options:
        raise SpecError("workload._target_", None, "a loader or generator")
    target = get_method(str(options.pop("_target_")))
    for name in [name for name in options if name.endswith("trace")]:
        path = name.removesuffix("trace") + "path"  # null: where the public trace lies here
        options[path] = located(options.get(path), options.pop(name))
    if "rng" in inspect.signature(target).parameters:
        options["rng"] = np.random.default_rng([seed, 0])
    made = call("workload", target, options)
    return made if isinstance(made, tuple) else (made, ())


def shape_traffic(workload: Workload, scenario: Mapping[str, Any], seed: int) -> Workload:
    """Take the scenario's part of a workload, its first hours, thin it and compress its time."""
    part = scenario["part"]
    if part not in PARTS:
        raise SpecError("scenario.part", part, " | ".join(PARTS))
    if part != "all":
        # The split is the same for every seed: no function may change sides between runs.
        parts = traffic.split(
            workload,
            np.random.default_rng(int(scenario["split_seed"])),
            function_shares=tuple(scenario["split_shares"]),
            edges_s=tuple(edge * workload.horizon_s for edge in scenario["split_edges"]),
        )
        workload = getattr(parts, part)
    workload = _first_hours(workload, scenario["hours"])
    workload = _draw_functions(workload, float(scenario["function_share"]), seed)
    if scenario["keep_probability"] < 1.0:
        rng = np.random.default_rng([seed, 1])
        workload = traffic.thin(workload, rng, keep_probability=scenario["keep_probability"])
    factor = scenario["compress"]
    return workload if factor == 1.0 else workload.compress(factor)


def build_cluster(
    node: Mapping[str, Any],
    scenario: Mapping[str, Any],
    workload: Workload,
    functions: tuple[Function, ...],
) -> Cluster:
    """Build a cluster of equal nodes: explicit GPUs, or pools that the memory ratio sizes."""
    disk = fill("scenario.disk", Link, scenario["disk"])
    count = node["nodes"]
    if not (isinstance(count, int) and count >= 1):
        raise SpecError("cluster.nodes", count, "an integer >= 1")
    if node["gpus"] is not None:
        gpus = tuple(fill(f"cluster.gpus[{i}]", Gpu, gpu) for i, gpu in enumerate(node["gpus"]))
        pcie = fill("cluster.pcie", Link, node["pcie"] or {})
        hardware = Node(gpus, node["host_gib"], node["host_price_usd_gib_h"], disk, pcie)
    elif scenario["mapping"] == "llm":
        hardware = llm_hardware(node, scenario, node["host_gib"], disk)
    else:
        device_gib = traffic.memory_ratio(workload, functions, scenario["ratio"])
        count, gpus = pools(node, len(functions), device_gib / max(f.device_gib for f in functions))
        hardware = to_gpu.node(
            device_gib / count, gpu=node["gpu"], pooled=node["pooled"], gpus=gpus,
            host_gib=node["host_gib"], disk=disk,
        )  # fmt: skip
    hardware = replace(hardware, host_price_usd_gib_h=node["host_price_usd_gib_h"])
    return Cluster(
        (_complete(hardware, node),) * count,
        functions,
        fill("cluster.objective", Objective, node["objective"]),
        first_bin_s=node["first_bin_s"] / scenario["compress"],
        profile=scenario["profile"] or mapping_profile(scenario),
    )


def pools(node: Mapping[str, Any], functions: int, most: float = math.inf) -> tuple[int, int]:
    """Return how many nodes and how many GPUs a node a pool is spread over.

    Args:
        node: the config of the cluster.
        functions: number of functions.
        most: GPUs there may be at most, so that each holds any function.
    """
    each = node["functions_per_gpu"]
    if each is None:
        return node["nodes"], 1
    if not (each > 0.0 and node["pooled"]):
        raise SpecError("cluster.functions_per_gpu", each, "> 0, and null where not pooled")
    if not node["gpus_per_node"] >= 1:
        raise SpecError("cluster.gpus_per_node", node["gpus_per_node"], "an integer >= 1")
    gpus = max(math.floor(min(round(functions / each), most)), 1)
    count = math.ceil(gpus / node["gpus_per_node"])
    return count, gpus // count


def _complete(hardware: Node, node: Mapping[str, Any]) -> Node:
    """Give a node how it loads, its disk, its network and how long it takes to come up."""
    network = node["network"]
    if network is not None:
        network = fill("cluster.network", Link, network)
    return replace(
        hardware, loading=node["loading"], demotion=node["demotion"], disk_gib=node["disk_gib"],
        network=network, boot_s=node["boot_s"],
    )  # fmt: skip


def build_policy(node: str | ConfigNode) -> Policy:
    """Build a policy from a name, `file.py:Class` or a config node with `_target_`."""
    return load_policy(node if isinstance(node, str) else plain(node))


def located(path: str | None, name: str) -> Path:
    """Return the path given, or where the trace of that name lies on this machine."""
    if path is not None:
        return Path(path)
    found = traffic.locate(name)
    if found is None:
        place = "`stoker data fetch` it, set STOKER_DATA"
        raise SpecError("workload.path", None, f"the file of {name}: {place}, or name the file")
    return found


def _first_hours(workload: Workload, hours: float | None) -> Workload:
    """Keep the first hours, all of them if None."""
    if hours is None:
        return workload
    longest = workload.horizon_s / 3600.0
    if not 0.0 < hours <= longest:
        raise SpecError("scenario.hours", hours, f"> 0, <= {longest:g} (length of the traffic)")
    return workload.window(0.0, hours * 3600.0)


def _draw_functions(workload: Workload, share: float, seed: int) -> Workload:
    """Keep a share of the functions, drawn anew for every seed."""
    if not 0.0 < share <= 1.0:
        raise SpecError("scenario.function_share", share, "> 0, <= 1")
    if share == 1.0:
        return workload
    count = len(workload.names)
    rng = np.random.default_rng([seed, 3])
    kept = np.sort(rng.permutation(count)[: max(round(share * count), 1)])
    source = f"{workload.source}; {len(kept)} of them drawn by seed"
    return replace(workload.select(kept), source=source)
