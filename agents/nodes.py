"""Config nodes as plain values, and calls with what is in them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stoker.envs.cluster.errors import SpecError

ConfigNode = DictConfig | Mapping[str, Any]


def plain(node: ConfigNode) -> dict[str, Any]:
    """Resolve a config node into a plain dict."""
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore
    return dict(node)


def fill(field: str, kind: type[Any], node: Mapping[str, Any]) -> Any:
    """Fill a dataclass of the spec; an unknown key is the user's mistake."""
    known = [f.name for f in fields(kind)]
    for key in node:
        if key not in known:
            raise SpecError(f"{field}.{key}", node[key], f"no such field; fields: {known}")
    return call(field, kind, dict(node))


def call(field: str, target: Any, options: dict[str, Any]) -> Any:
    """Call with arguments from a config; one that the target does not take is a mistake."""
    signature = inspect.signature(target)
    try:
        signature.bind(**options)
    except TypeError as error:
        accepted = ", ".join(signature.parameters)
        raise SpecError(field, list(options), f"arguments of {accepted} ({error})") from error
    return target(**options)
