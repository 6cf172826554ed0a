"""The views of one environment id, built by name.

Units: seconds.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from gymnasium.vector import VectorEnv

from stoker.envs.cluster.errors import SpecError

Core = VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class Views:
    """What `view=` names, a class of vector environment each, and the arguments of the id."""

    cluster: Any
    function: Any
    defaults: tuple[tuple[str, Any], ...] = ()
    """Arguments that the id sets where the caller does not."""

    def __call__(self, num_envs: int = 1, view: str = "cluster", **arguments: Any) -> Core:
        """Build B rows of a view.

        Raises:
            SpecError: names the argument that the view does not have.
        """
        if view not in ("cluster", "function"):
            raise SpecError("view", view, "cluster | function")
        build = getattr(self, view)
        known = list(inspect.signature(build.__init__).parameters)[1:]
        for name, value in arguments.items():
            if name not in known:
                raise SpecError(name, value, f"an argument of the {view} view: {', '.join(known)}")
        core: Core = build(num_envs, **{**dict(self.defaults), **arguments})
        return core


@dataclass(frozen=True)
class Variants:
    """What `variant=` names: the views of one id in each of its variants, the default first."""

    views: tuple[tuple[str, Views], ...]

    def __call__(
        self, num_envs: int = 1, view: str = "cluster", variant: str | None = None, **arguments: Any
    ) -> Core:
        """Build B rows of a view.

        Raises:
            SpecError: names the variant, or the argument that its view does not have.
        """
        known = dict(self.views)
        if variant is None:
            variant = self.views[0][0]
        if variant not in known:
            raise SpecError("variant", variant, " | ".join(known))
        return known[variant](num_envs, view, **arguments)
