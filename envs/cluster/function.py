"""A deployed model endpoint and its service times.  Units: seconds, GiB, GiB/s."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.llm_spec import Llm, check_llm


@dataclass(frozen=True)
class Service:
    """How long a batch of b takes on one class of GPU: alpha_s + beta_s * b."""

    kind: str
    """Gpu.kind that this is for."""
    alpha_s: float
    beta_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("alpha_s", "beta_s"):
            value = getattr(self, name)
            require(0.0 <= value < math.inf, f"service[{self.kind}].{name}", value, "finite, >= 0")


AMOUNTS = (
    "weights_gib", "device_gib", "runtime_s", "warmup_s", "alpha_s", "beta_s", "overlap_s",
    "shared_gib", "sandbox_s", "runtime_gib", "sandbox_gib", "lent_s",
)  # fmt: skip
"""Fields of a function that may be nothing."""
MOST_GPUS = 8
"""Most GPUs that an instance may span."""


@dataclass(frozen=True)
class Function:
    """One deployed model endpoint.

    Start-up is sandbox_s, runtime_s, then weights disk -> host -> device over the node's links (the
    disk leg is skipped when the weights lie in the node's host memory), then warmup_s. Service of a
    batch of b takes alpha_s + beta_s * b, or what `services` says of the GPU's class.
    """

    name: str
    weights_gib: float
    """Bytes moved on a load, and held in host memory by a host copy."""
    device_gib: float
    """Bytes that one instance holds on the device, weights included."""
    runtime_s: float = 0.0
    """Process, framework and device context."""
    warmup_s: float = 0.0
    """First-use warm-up after the weights are on the device."""
    load_gib_s: float = math.inf
    """Ceiling of this function's own format or storage class on the disk leg."""
    alpha_s: float = 0.0
    beta_s: float = 0.0
    max_batch: int = 1
    concurrency: int = 1
    """Batches in flight on one instance."""
    slo_s: float = math.inf
    """Latency target of a request, arrival to completion."""
    services: tuple[Service, ...] = ()
    """Service times on classes of GPU where they differ from alpha_s and beta_s."""
    compression: float = 1.0
    """Bytes of the weights over those on disk (Sabre); load_gib_s is then that of the raw bytes."""
    fork_s: float = math.inf
    """In place of runtime_s where an instance of the function is ready on the node (Catalyzer)."""
    overlap_s: float = 0.0
    """How much of the service of the batch that a load was for runs while it loads (PipeSwitch)."""
    family: str = ""
    """Functions of one family share `shared_gib` of their weights on a GPU (Tetris)."""
    shared_gib: float = 0.0
    gpus: int = 1
    """GPUs of one class on one node that an instance spans (tensor parallel degree): it holds
    device_gib / gpus on each, and service times are those of the whole instance."""
    gpu_fraction: float = 1.0
    """Of a GPU shared in space: what an instance holds, and at which service times are given."""
    compute_util: float | None = None
    """Compute of the whole GPU that a running batch uses (gpulet: of the L2 cache); needed where
    GPUs have interference."""
    memory_util: float | None = None
    """Memory bandwidth of the whole GPU that it uses; likewise."""
    runtime: str = ""
    """The image that its process is of: functions of one runtime can take over each other's
    processes, parked (RainbowCake) or lent (Pagurus); without a name it is its own alone."""
    sandbox_s: float = 0.0
    """Empty sandbox, before runtime_s."""
    runtime_gib: float = 0.0
    """Host memory of its process parked without weights; 0 = none can be."""
    sandbox_gib: float = 0.0
    """Host memory of its empty sandbox; 0 = none can be parked."""
    lend_after_s: float = math.inf
    """An instance that has idled so long may be lent; inf = never. In simulation alone."""
    lent_s: float = 0.0
    """In place of sandbox_s and runtime_s in a process lent to it."""
    llm: Llm | None = None
    """It serves by iterations, not by batches of alpha_s + beta_s * b."""
    batch_s: tuple[float, ...] = ()
    """Service time of a batch of 1, 2, ... max_batch as measured, in place of the line, by which
    rules and policies go all the same."""

    def __post_init__(self) -> None:
        for name in AMOUNTS:
            if not 0.0 <= getattr(self, name) < math.inf:
                self._refuse(name, "finite, >= 0")
        for name in ("load_gib_s", "slo_s", "compression"):
            if not getattr(self, name) > 0.0:
                self._refuse(name, "> 0")
        if not self.fork_s >= 0.0:
            self._refuse("fork_s", ">= 0")
        if self.shared_gib > (min(self.weights_gib, self.device_gib) if self.family else 0.0):
            self._refuse("shared_gib", "<= the weights on the device, and 0 without a family")
        if not self.lend_after_s >= 0.0 or (self.lend_after_s < math.inf and not self.runtime):
            self._refuse("lend_after_s", ">= 0, and inf without a runtime")
        if 0.0 < self.runtime_gib < self.sandbox_gib:
            self._refuse("sandbox_gib", f"<= {self.runtime_gib} (runtime_gib, which contains it)")
        for name in ("max_batch", "concurrency"):
            if not getattr(self, name) >= 1:
                self._refuse(name, "an integer >= 1")
        if not 0.0 < self.gpu_fraction <= 1.0:
            self._refuse("gpu_fraction", "> 0, <= 1")
        for name in ("compute_util", "memory_util"):
            used = getattr(self, name)
            if used is not None and not 0.0 <= used <= 1.0:
                self._refuse(name, "0..1")
        if self.gpus not in range(1, MOST_GPUS + 1):
            self._refuse("gpus", f"an integer, 1..{MOST_GPUS}")
        if self.gpus > 1 and self.shared_gib > 0.0:
            self._refuse("shared_gib", f"0 (an instance spans {self.gpus} GPUs)")
        if len({s.kind for s in self.services}) < len(self.services):
            self._refuse("services", "one a class of GPU")
        if self.batch_s:
            self._check_batches()
        if self.llm is not None:
            check_llm(self)

    def _check_batches(self) -> None:
        times = (0.0, *self.batch_s)
        rise = all(a <= b < math.inf for a, b in pairwise(times))
        if len(self.batch_s) != self.max_batch or not rise:
            self._refuse("batch_s", f"{self.max_batch} times (max_batch) >= 0, none below another")
        if self.services or self.llm is not None:
            self._refuse("batch_s", "() (services or llm are given)")

    @property
    def layered(self) -> bool:
        """Whether it leaves layers behind, or lends."""
        return self.runtime_gib > 0.0 or self.sandbox_gib > 0.0 or self.lend_after_s < math.inf

    @property
    def image(self) -> tuple[str, str]:
        """What it must have in common with a function to use its process."""
        return (self.runtime, "") if self.runtime else ("", self.name)

    @property
    def disk_gib(self) -> float:
        """What the weights take on a disk."""
        return self.weights_gib / self.compression

    def service(self, kind: str) -> tuple[float, float]:
        """Return alpha_s and beta_s on a class of GPU."""
        for s in self.services:
            if s.kind == kind:
                return s.alpha_s, s.beta_s
        return self.alpha_s, self.beta_s

    def _refuse(self, name: str, accepted: str) -> NoReturn:
        raise SpecError(f"function[{self.name}].{name}", getattr(self, name), accepted)
