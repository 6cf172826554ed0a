"""How long requests may wait, how many, and how long what was loaded stays.  Units: seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stoker.envs.cluster.errors import require


@dataclass(frozen=True)
class ControllerSettings:
    """Settings of a Controller.

    Raises:
        SpecError: a value is out of its range.
    """

    deadline_s: float = math.inf
    """A request that has waited in its queue for so long is refused."""
    queue_limit: int | None = None
    """Requests that may wait for one function; what comes then is refused. None = no limit."""
    residency_s: float = 0.0
    """What has been loaded stays so long whatever the policy orders, unless a request needs the
    memory: no policy can make the runtime load and drop the same models all the time."""

    def __post_init__(self) -> None:
        require(self.deadline_s > 0.0, "limits.deadline_s", self.deadline_s, "a time > 0")
        if self.queue_limit is not None:
            whole = self.queue_limit >= 0 and self.queue_limit == int(self.queue_limit)
            require(whole, "limits.queue_limit", self.queue_limit, "an integer >= 0, or null")
        finite = 0.0 <= self.residency_s < math.inf
        require(finite, "limits.residency_s", self.residency_s, "a time >= 0")
