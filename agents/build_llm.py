"""Functions and GPUs of a scenario in which every function is an LLM.

Units: seconds, GiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.llm.calibration import profile
from stoker.envs.cluster.llm_spec import Llm, llm_function
from stoker.envs.cluster.spec import Function, Link, Node
from stoker.envs.workload import Workload, to_gpu

BESIDES = ("instances", "runtime_s", "load_gib_s")
"""Fields of `scenario.llm` that are not of the service."""


def llm_functions(workload: Workload, scenario: Mapping[str, Any]) -> tuple[Function, ...]:
    """Make every function of a workload the LLM of the scenario."""
    asked = scenario["llm"]
    known = [*(f.name for f in fields(Llm)), *BESIDES]
    for name in asked:
        if name not in known:
            raise SpecError(f"scenario.llm.{name}", asked[name], f"no such field; fields: {known}")
    llm = Llm(**{name: value for name, value in asked.items() if name not in BESIDES})
    start = {name: float(asked[name]) for name in ("runtime_s", "load_gib_s")}
    slo_s = float(scenario["slo_slack_s"])
    return tuple(llm_function(name, llm, **start, slo_s=slo_s) for name in workload.names)


def llm_hardware(
    node: Mapping[str, Any], scenario: Mapping[str, Any], host_gib: float, disk: Link
) -> Node:
    """GPUs of the profile's size for so many instances, at the price per GiB of `cluster.gpu`."""
    count = scenario["llm"]["instances"]
    if not (isinstance(count, int) and count >= 1):
        raise SpecError("scenario.llm.instances", count, "an integer >= 1")
    figures = profile(scenario["llm"]["profile"]).figures
    one = to_gpu.node(figures["gpu_gib"], gpu=node["gpu"], host_gib=host_gib, disk=disk)
    return replace(one, gpus=one.gpus * (count * figures["tp"]))


def llm_profile(scenario: Mapping[str, Any]) -> str:
    """Name what the times rest on, and how they were come by."""
    known = profile(scenario["llm"]["profile"])
    return f"{known.name} ({known.quality})"
