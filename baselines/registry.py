"""From a name, a config node or a path to a Policy.

Four forms are accepted: a registered name (`hazard`), a dotted class
(`stoker.baselines.ttl.FixedTtl`), a class in a file of your own (`path/to/file.py:MyPolicy`) and
the folder of an exported policy (`runs/train/RUN/bundle`); a
mapping names one of them as `_target_` and gives the arguments beside it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from stoker.baselines.base import Policy
from stoker.baselines.bundle import MANIFEST
from stoker.envs.cluster.errors import SpecError

POLICIES = {
    "ttl": "stoker.baselines.ttl.FixedTtl",
    "lru": "stoker.baselines.lru.Lru",
    "faascache": "stoker.baselines.faascache.FaasCache",
    "hybrid_histogram": "stoker.baselines.hybrid_histogram.HybridHistogram",
    "rainbowcake": "stoker.baselines.rainbowcake.RainbowCake",
    "icebreaker": "stoker.baselines.icebreaker.IceBreaker",
    "lead_time": "stoker.baselines.lead_time.LeadTime",
    "serverlessllm": "stoker.baselines.serverlessllm.ServerlessLlm",
    "torpor": "stoker.baselines.torpor.Torpor",
    "hazard": "stoker.baselines.hazard.HazardIndex",
    "combined": "stoker.baselines.combined.Combined",
    "alpaserve": "stoker.baselines.alpaserve.AlpaServe",
    "hpa": "stoker.baselines.hpa.HpaNodes",
    "sarathi": "stoker.baselines.sarathi.Sarathi",
    "sarathi_slo": "stoker.baselines.sarathi_slo.SarathiSlo",
    "vllm_order": "stoker.baselines.vllm_order.VllmOrder",
    "orca_order": "stoker.baselines.orca_order.OrcaOrder",
}
KEEP_ALIVE = ("ttl", "lru", "faascache", "hybrid_histogram", "hazard")
"""Those that neither place nor scale nodes: they are compared on one node."""


def load_policy(spec: str | Mapping[str, Any], **kwargs: Any) -> Policy:
    """Build a policy.

    Args:
        spec: name, dotted class, `file.py:Class` or a bundle's folder; or a mapping with
            `_target_` and arguments.
        **kwargs: further arguments of the class.

    Raises:
        SpecError: unknown name, file or class, not a Policy, or arguments it does not take.
    """
    if isinstance(spec, Mapping):
        arguments = {str(key): value for key, value in spec.items() if key != "_target_"}
        if "_target_" not in spec:
            raise SpecError("policy._target_", None, _choices())
        return load_policy(str(spec["_target_"]), **{**arguments, **kwargs})
    if (Path(spec) / MANIFEST).is_file():
        from stoker.baselines.bundles import load_bundle

        return load_bundle(spec)
    try:
        policy = _class(spec)(**kwargs)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # from inside the constructor: a fault of the policy's own
        raise SpecError("policy", spec, f"arguments that the class takes ({error})") from error
    return policy


def _class(spec: str) -> type[Policy]:
    """Find the class that a name, dotted path or `file.py:Class` stands for."""
    target = POLICIES.get(spec, spec)
    if ".py:" in target:
        path, name = target.rsplit(":", 1)
        module = _module_from_file(spec, Path(path).expanduser())
    elif "." in target:
        dotted, name = target.rsplit(".", 1)
        module = _module(spec, dotted)
    else:
        raise SpecError("policy", spec, _choices())
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Policy)):
        here = ", ".join(_policies_in(module)) or "none"
        raise SpecError("policy", spec, f"a subclass of stoker.baselines.base.Policy; here: {here}")
    return found


def _module(spec: str, dotted: str) -> ModuleType:
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name is None or not (dotted == error.name or dotted.startswith(f"{error.name}.")):
            raise  # the module is there, something that it imports is not
        raise SpecError("policy", spec, _choices()) from error


def _module_from_file(spec: str, path: Path) -> ModuleType:
    """Import a file once under a name of its own, so that its classes can be pickled."""
    if not path.is_file():
        raise SpecError("policy", spec, f"an existing file ({path} is not), or {_choices()}")
    digest = hashlib.sha256(path.read_bytes() + str(path.resolve()).encode()).hexdigest()[:12]
    name = f"stoker_user_policy_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    source = importlib.util.spec_from_file_location(name, path)
    if source is None or source.loader is None:
        raise SpecError("policy", spec, "a Python file")
    module = importlib.util.module_from_spec(source)
    sys.modules[name] = module
    try:
        source.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _policies_in(module: ModuleType) -> list[str]:
    return [
        name
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, Policy) and found is not Policy
    ]


def _choices() -> str:
    yours = "path/to/file.py:ClassName | package.module.ClassName | path/to/bundle"
    return f"{' | '.join(POLICIES)} | {yours}"
