"""What the cluster view's action means, which actions are legal, and how others are put right.

An action is one number a function: device choice + 3 x host choice.

| action | on the device, while idle | then |
| --- | --- | --- |
| 0 | drop at once | gone |
| 1 | keep while idle for less than 15 s | gone |
| 2 | keep to the next tick | gone (if evicted) |
| 3, 4, 5 | as 0, 1, 2 | weights stay in host memory to the next tick |

Shapes: B rows, S slots, A = 6 actions.  Units: seconds, GiB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stoker.envs.cluster.decision import Decision
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster

ACTIONS = 6
DEVICE = 3
"""Device choices; actions from here on keep the weights in host memory afterwards."""
SHORT_S = 15.0
"""The short keep-alive, at uncompressed time."""
Actions = NDArray[np.int64]


def mask_of(cluster: Cluster, slots: int) -> NDArray[np.bool_]:
    """Legal actions: slots without a function only drop; no host copy without room for one.

    Shape: (S, A)
    """
    mask = np.zeros((slots, ACTIONS), np.bool_)
    mask[:, 0] = True
    mask[: len(cluster.functions), :DEVICE] = True
    for f, function in enumerate(cluster.functions):
        mask[f, DEVICE:] = 0.0 < function.weights_gib <= cluster.host_gib
    return mask


def check_actions(actions: ArrayLike, rows: int, slots: int) -> Actions:
    """Return actions as integers, or say what is wrong with them. Shape: (B, S)."""
    asked = np.asarray(actions)
    if asked.shape != (rows, slots):
        raise SpecError("action", f"shape {asked.shape}", f"shape ({rows}, {slots})")
    if not np.issubdtype(asked.dtype, np.integer):
        bad = "NaN" if asked.dtype.kind == "f" and np.isnan(asked).any() else str(asked.dtype)
        raise SpecError("action", bad, f"integers 0..{ACTIONS - 1}")
    if asked.min() < 0 or asked.max() >= ACTIONS:
        worst = int(asked.min() if asked.min() < 0 else asked.max())
        raise SpecError("action", worst, f"integers 0..{ACTIONS - 1}")
    return asked.astype(np.int64, copy=False)


def legal_actions(actions: Actions, masks: NDArray[np.bool_]) -> tuple[Actions, NDArray[np.int64]]:
    """Replace masked actions: the same without the host copy, else drop; count them by row.

    Shapes: (B, S), (B, S, A) -> (B, S), (B,)
    """
    allowed = np.take_along_axis(masks, actions[..., None], axis=2)[..., 0]
    if allowed.all():
        return actions, np.zeros(len(actions), np.int64)
    device = actions % DEVICE
    device_allowed = np.take_along_axis(masks, device[..., None], axis=2)[..., 0]
    legal = np.where(allowed, actions, np.where(device_allowed, device, 0))
    return legal, (~allowed).sum(axis=1)


def decision_of(actions: Actions, short_s: NDArray[np.float64]) -> Decision:
    """Standing orders until the next tick. Shapes: (B, S), (B,)."""
    device = actions % DEVICE
    keep = np.where(device == 1, short_s[:, None], np.where(device == 0, 0.0, np.inf))
    return Decision(keep_alive_s=keep, host_keep_alive_s=np.where(actions >= DEVICE, np.inf, 0.0))
