"""Fine-tune families: functions made from one base model, of whose weights they share a part.

Shapes: F functions.  Units: GiB.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.spec import Function

MOST_SHARED = 0.95


def share(
    functions: tuple[Function, ...], rng: np.random.Generator, *, size: int, rho: float
) -> tuple[Function, ...]:
    """Group functions into families and let each family share its base model.

    Members are drawn at random. All of a family get the sizes of its first member: fine-tunes of
    one base model are as large as it is.

    Args:
        functions: of one kind of GPU, none of them in a family.
        rng: draws the families.
        size: members of a family; the last one may have fewer.
        rho: share of the weights that is the base model's, 0..0.95.

    Raises:
        SpecError: names the argument.
    """
    require(size >= 1, "families.size", size, "an integer >= 1")
    require(0.0 <= rho <= MOST_SHARED, "families.rho", rho, f"0..{MOST_SHARED}")
    out = list(functions)
    order = rng.permutation(len(functions)).tolist()
    for number, first in enumerate(range(0, len(order), size)):
        base = functions[order[first]]
        for k in order[first : first + size]:
            out[k] = replace(
                functions[k],
                weights_gib=base.weights_gib,
                device_gib=base.device_gib,
                load_gib_s=base.load_gib_s,
                family=f"family-{number}",
                shared_gib=rho * base.weights_gib,
            )
    return tuple(out)
