"""From config nodes to the things they describe: the edge between Hydra and the rest.

An application calls `build_problem` and `build_policy` and sees no config below them.

Units: seconds, GiB, GiB/s, dollars.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from stoker.agents.build_functions import map_functions, mapping_profile
from stoker.agents.build_llm import llm_hardware
from stoker.baselines.base import Policy
from stoker.baselines.registry import load_policy
from stoker.envs import workload as traffic
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.faults import FaultRates, Faults
from stoker.envs.cluster.faults import draw as draw_faults
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Link, Node, Objective
from stoker.envs.workload import Workload, to_gpu

PARTS = ("all", "train", "validation", "test", "later")
ConfigNode = DictConfig | Mapping[str, Any]


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
    if node is None:
        return None
    rates = _build("faults", FaultRates, plain(node))
    if rates == FaultRates(retry=rates.retry):
        return None
    return draw_faults(np.random.default_rng([seed, 6]), cluster, workload.horizon_s, rates)


def build_workload(node: ConfigNode, seed: int) -> tuple[Workload, tuple[Function, ...]]:
    """Load or draw a workload, and the functions where its table is given (else empty)."""
    options = plain(node)
    if "_target_" not in options:
        raise SpecError("workload._target_", None, "a loader or generator")
    target = get_method(str(options.pop("_target_")))
    if "rng" in inspect.signature(target).parameters:
        options["rng"] = np.random.default_rng([seed, 0])
    made = _call("workload", target, options)
    return made if isinstance(made, tuple) else (made, ())


def shape_traffic(workload: Workload, scenario: Mapping[str, Any], seed: int) -> Workload:
    """Take the scenario's part of a workload, thin it and compress its time."""
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
    disk = _build("scenario.disk", Link, scenario["disk"])
    count = node["nodes"]
    if not (isinstance(count, int) and count >= 1):
        raise SpecError("cluster.nodes", count, "an integer >= 1")
    if node["gpus"] is not None:
        gpus = tuple(_build(f"cluster.gpus[{i}]", Gpu, gpu) for i, gpu in enumerate(node["gpus"]))
        pcie = _build("cluster.pcie", Link, node["pcie"] or {})
        hardware = Node(gpus, node["host_gib"], node["host_price_usd_gib_h"], disk, pcie)
    elif scenario["mapping"] == "llm":
        hardware = llm_hardware(node, scenario, node["host_gib"], disk)
    else:
        device_gib = traffic.memory_ratio(workload, functions, scenario["ratio"])
        hardware = to_gpu.node(
            device_gib / count, gpu=node["gpu"], pooled=node["pooled"], host_gib=node["host_gib"],
            disk=disk,
        )  # fmt: skip
    hardware = replace(hardware, host_price_usd_gib_h=node["host_price_usd_gib_h"])
    return Cluster(
        (_complete(hardware, node),) * count,
        functions,
        _build("cluster.objective", Objective, node["objective"]),
        first_bin_s=node["first_bin_s"] / scenario["compress"],
        profile=scenario["profile"] or mapping_profile(scenario),
    )


def _complete(hardware: Node, node: Mapping[str, Any]) -> Node:
    """Give a node how it loads, its disk, its network and how long it takes to come up."""
    network = node["network"]
    if network is not None:
        network = _build("cluster.network", Link, network)
    return replace(
        hardware, loading=node["loading"], demotion=node["demotion"], disk_gib=node["disk_gib"],
        network=network, boot_s=node["boot_s"],
    )  # fmt: skip


def build_policy(node: str | ConfigNode) -> Policy:
    """Build a policy from a name, `file.py:Class` or a config node with `_target_`."""
    return load_policy(node if isinstance(node, str) else plain(node))


def azure_sample(rng: np.random.Generator, path: str | None = None, **options: Any) -> Workload:
    """Load the full-day sample of 1,250 functions; a path left out is looked for here."""
    file = _located(path, "azure_functions_2019_sample")
    made: Workload = _call(
        "workload", traffic.azure_functions.load, {"invocations_path": file, "rng": rng, **options}
    )
    return made


def azure_functions(
    rng: np.random.Generator,
    path: str | None = None,
    durations_path: str | None = None,
    **options: Any,
) -> Workload:
    """Load the Azure Functions trace of 2019; a path left out is looked for on this machine."""
    files = {
        "invocations_path": _located(path, "azure_functions_2019_d07_invocations"),
        "durations_path": _located(durations_path, "azure_functions_2019_d07_durations"),
    }
    return _call("workload", traffic.azure_functions.load, {**files, "rng": rng, **options})


def azure_llm(
    path: str | None = None, trace: str = "azure_llm_2023_conv", **options: Any
) -> Workload:
    """Load an Azure LLM trace; a path left out is looked for on this machine."""
    return _call("workload", traffic.azure_llm.load, {"path": _located(path, trace), **options})


def synthetic(rng: np.random.Generator, **options: Any) -> Workload:
    """Draw synthetic traffic; `mix` may be a mapping of shares."""
    if options.get("mix") is not None:
        options["mix"] = _build("workload.mix", traffic.synthetic.Mix, options["mix"])
    return _call("workload", traffic.generate, {"rng": rng, **options})


def plain(node: ConfigNode) -> dict[str, Any]:
    """Resolve a config node into a plain dict."""
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore
    return dict(node)


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


def _located(path: str | None, name: str) -> Path:
    """Return the path given, or where the trace of that name lies."""
    if path is not None:
        return Path(path)
    found = traffic.locate(name)
    if found is None:
        place = "`stoker data fetch` it, set STOKER_DATA"
        raise SpecError("workload.path", None, f"the file of {name}: {place}, or name the file")
    return found


def _build(field: str, kind: type[Any], node: Mapping[str, Any]) -> Any:
    """Fill a dataclass of the spec; an unknown key is the user's mistake."""
    known = [f.name for f in fields(kind)]
    for key in node:
        if key not in known:
            raise SpecError(f"{field}.{key}", node[key], f"no such field; fields: {known}")
    return _call(field, kind, dict(node))


def _call(field: str, target: Any, options: dict[str, Any]) -> Any:
    """Call with arguments from a config; one that the target does not take is a mistake."""
    signature = inspect.signature(target)
    try:
        signature.bind(**options)
    except TypeError as error:
        accepted = ", ".join(signature.parameters)
        raise SpecError(field, list(options), f"arguments of {accepted} ({error})") from error
    return target(**options)
