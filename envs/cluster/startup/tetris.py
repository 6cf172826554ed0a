"""Tetris (ATC 2022): instances on a node share their equal tensors.

A tensor is held once for all models that use it, and goes with the last of them, so that resident
bytes are a union. k copies of a model of s GiB that share a part rho of their bytes hold

    s (1 + (k - 1) (1 - rho))        instead of k s

Follows the abstract (read): tensors are shared across instances of the same or different functions.
Here a tensor is known by its name; that the system finds equal tensors by a hash of their content
is recalled. Sharing of the runtime (batching and concurrency in one instance) is left to the
engine's `max_batch` and `concurrency`. Sections and code were not looked up. Quoted, not
reproduced: up to 93 % less memory, 30 times the density.

Units: GiB.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from stoker.envs.cluster.errors import require
from stoker.envs.cluster.startup.arguments import amount, count, share

Tensors = Mapping[str, float]
"""Name -> GiB. One name means one content wherever it appears."""


def fine_tunes_gib(size_gib: float, copies: int, shared: float) -> float:
    """Compute the bytes of fine-tunes of one model that share a part of their bytes.

    Raises:
        SpecError: a negative size or number of copies, a share outside [0, 1].
    """
    amount("size_gib", size_gib)
    count("copies", copies, least=0)
    share("shared", shared)
    return size_gib * (1.0 + (copies - 1) * (1.0 - shared)) if copies else 0.0


def resident_gib(models: Iterable[Tensors]) -> float:
    """Compute the bytes of any multiset of models: the sum over their distinct tensors.

    Raises:
        SpecError: a negative size, one name with two sizes.
    """
    store = TensorStore()
    for tensors in models:
        store.add(tensors)
    return store.resident_gib


class TensorStore:
    """The tensors on one node or device, counted by the models that use them."""

    def __init__(self) -> None:
        self._gib: dict[str, float] = {}
        self._users: Counter[str] = Counter()

    @property
    def resident_gib(self) -> float:
        """Bytes held."""
        return math.fsum(self._gib.values())

    def shared_gib(self, tensors: Tensors) -> float:
        """Compute the bytes of a model that are here already.

        Raises:
            SpecError: a negative size, a size that differs from the one held.
        """
        self._check(tensors)
        return math.fsum(gib for name, gib in tensors.items() if name in self._gib)

    def add(self, tensors: Tensors) -> float:
        """Add one instance of a model; return the bytes that had to be loaded.

        Raises:
            SpecError: a negative size, a size that differs from the one held.
        """
        self._check(tensors)
        loaded = {name: gib for name, gib in tensors.items() if name not in self._gib}
        self._gib.update(loaded)
        self._users.update(tensors.keys())
        return math.fsum(loaded.values())

    def remove(self, tensors: Tensors) -> float:
        """Remove one instance of a model; return the bytes that were freed.

        Raises:
            SpecError: a tensor that is not held.
        """
        for name in tensors:
            require(name in self._gib, f"tensor[{name}]", "absent", "a tensor that is held")
        self._users.subtract(tensors.keys())
        unused = [name for name in tensors if self._users[name] == 0]
        for name in unused:
            del self._users[name]
        return math.fsum(self._gib.pop(name) for name in unused)

    def _check(self, tensors: Tensors) -> None:
        for name, gib in tensors.items():
            amount(f"tensor[{name}]", gib)
            held = self._gib.get(name, gib)
            require(gib == held, f"tensor[{name}]", gib, f"{held}, its size elsewhere")
