"""Functions of a scenario: the workload's own table, or models that it is mapped to.

Units: seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stoker.agents.build_llm import llm_functions, llm_profile
from stoker.agents.nodes import call
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Function
from stoker.envs.workload import Workload, families, to_gpu

MAPPINGS = ("lognormal", "catalogue", "table", "llm")
LAYERS = {
    "runtime": "", "sandbox_s": 0.0, "runtime_gib": 0.0, "sandbox_gib": 0.0,
    "lend_after_s": math.inf, "lent_s": 0.0,
}  # fmt: skip
"""Fields of a function that a scenario may set for all mapped ones, and what they are if not."""


def map_functions(
    workload: Workload, table: tuple[Function, ...], scenario: Mapping[str, Any], seed: int
) -> tuple[Function, ...]:
    """Take the functions of the workload's own table, or map them to models."""
    mapping = scenario["mapping"]
    if mapping not in MAPPINGS:
        raise SpecError("scenario.mapping", mapping, " | ".join(MAPPINGS))
    layers = _layers(scenario.get("layers") or {})
    related = dict(scenario["families"])
    if mapping in ("llm", "table") and related["size"] != 1:
        accepted = f"1: functions of mapping={mapping} have their own families, or none"
        raise SpecError("scenario.families.size", related["size"], accepted)
    if mapping == "llm":
        return tuple(replace(f, **layers) for f in llm_functions(workload, scenario))
    if mapping == "table":
        if layers:
            raise SpecError("scenario.layers", dict(layers), "{}: the workload's table has them")
        if not table:
            raise SpecError("scenario.mapping", mapping, "a workload with functions_path")
        by_name = {function.name: function for function in table}
        return tuple(by_name[name] for name in workload.names)
    draw = to_gpu.lognormal if mapping == "lognormal" else to_gpu.catalogue
    functions = draw(workload, np.random.default_rng([seed, 2]))
    if related["size"] != 1:
        functions = call(
            "scenario.families",
            families.share,
            {"functions": functions, "rng": np.random.default_rng([seed, 7]), **related},
        )
    slack_s = float(scenario["slo_slack_s"])
    return tuple(replace(f, slo_s=f.alpha_s + f.beta_s + slack_s, **layers) for f in functions)


def _layers(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Check the layers of a scenario, and leave out what is as it is anyway."""
    for name in asked:
        if name not in LAYERS:
            raise SpecError(f"scenario.layers.{name}", asked[name], " | ".join(LAYERS))
    return {name: value for name, value in asked.items() if value != LAYERS[name]}


def mapping_profile(scenario: Mapping[str, Any]) -> str:
    """Name the calibration profile that the functions rest on."""
    mapping = scenario["mapping"]
    if mapping == "llm":
        return llm_profile(scenario)
    return "the workload's own table" if mapping == "table" else to_gpu.profile(mapping)
