"""The cluster view's reward: named terms of a tick, and what the horizon cuts off.

Every term is a cost in seconds of waiting (dollars over the price of a second's wait), except
`slo`, which is in mean cold starts; the reward is minus their weighted sum in mean cold starts.

| term | cost |
| --- | --- |
| wait | seconds that requests waited, booked when they start; at the horizon also of those queued |
| rent, host | memory held on the device and on the host at the tiers' prices |
| load | start-up work at its price |
| drop | refused requests at their price |
| tail | rent of what standing orders hold past the horizon, at most the cold cost of a function |
| slo | multiplier x late or refused requests beyond those that the target allows |

Shapes: B rows, S slots.  Units: seconds, GiB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.idle import TERMS
from stoker.envs.cluster.observe_all import TICK
from stoker.envs.cluster.outcome import Result
from stoker.envs.cluster.slo import SloMultipliers
from stoker.envs.cluster.tables import IN_FLIGHT

Floats = NDArray[np.float64]
BILLED = tuple(name for name in TERMS if name != "shadow")
"""These add up to the bill."""
COSTS = (*BILLED, "tail", "slo")
LATE, REQUESTS, HELD, WAIT = (TICK.index(n) for n in ("late", "requests", "held_gib_s", "wait"))


def tail_cost(row: Any, fn: NDArray[Any], end_s: float) -> Floats:
    """Rent that idle instances would still cost under the orders that stand at the horizon.

    An order stands to the end of the tick (`end_s`) that the horizon has cut short; a function pays
    at most one cold start of its own. Shapes: (F,) -> (F,)
    """
    cut = max(end_s - float(row["horizon"]), 0.0)
    forever = np.isinf(fn["keep_alive_s"])
    kept = np.where(forever, 0.0, fn["keep_alive_s"])
    left = np.where(forever, cut, np.clip(fn["last_idle"] + kept - row["horizon"], 0.0, cut))
    rent = fn["idle"] * fn["gib"] * row["rent"] * left
    cold = fn["load_disk_s"] * (1.0 + row["load_price"])
    tail: Floats = np.minimum(rent, cold)
    return tail


def add_queued(own: Floats, row: Any, result: Result) -> None:
    """Charge the last tick for the requests that still wait at the horizon. Shape: (F, 9)"""
    seen, until_s = result.outcome, result.horizon_s
    scored = (seen.arrival_s >= row["warmup"]) & (seen.arrival_s <= until_s)
    waits = scored & (seen.tier == IN_FLIGHT) & np.isnan(seen.start_s)
    waited_s = until_s - seen.arrival_s[waits]
    own[:, WAIT] += np.bincount(seen.function[waits], waited_s, len(own))
    own[:, LATE] += np.bincount(seen.function[waits], minlength=len(own))


def costs_of(
    tick: Floats, tail: Floats, slo: SloMultipliers, scale: Floats
) -> tuple[dict[str, Floats], Floats]:
    """Name the costs of a tick in mean cold starts; also the SLO's excess. Shapes: (B,)."""
    excess = slo.excess(tick[:, LATE], tick[:, REQUESTS])
    costs: dict[str, Floats] = {name: tick[:, TERMS.index(name)] / scale for name in BILLED}
    costs["tail"] = tail / scale
    costs["slo"] = slo.state[:, 1] * excess
    return costs, excess
