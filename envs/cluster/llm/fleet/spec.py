"""An LLM function of a fleet: its replicas, how they serve, when they come and go.

Units: seconds, tokens, blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.llm.calibration import GIB, Profile
from stoker.envs.cluster.llm.calibration import profile as profile_of
from stoker.envs.cluster.llm.replica import whole
from stoker.envs.cluster.profiles import gpu_figures

STARTS = ("up", "cold", "on_arrival")
APART = ("sarathi", "vllm")
LINKED = ("a100", "h100")
"""GPUs of the calibration whose host link is known."""


@dataclass(frozen=True)
class ReplicaLoss:
    """A replica is lost with all that it holds."""

    t_s: float
    replica: int
    """As the result counts them: those of the first function come first."""
    away_s: float = math.inf
    """From the loss until it can load again, or be started where replicas come on arrival."""

    def __post_init__(self) -> None:
        require(0.0 <= self.t_s < math.inf, "loss.t_s", self.t_s, "finite, >= 0")
        whole("loss.replica", self.replica, 0)
        require(self.away_s >= 0.0, "loss.away_s", self.away_s, "seconds >= 0")


@dataclass(frozen=True)
class LlmFunction:
    """One model behind the router; fields not described here are those of `replay.llm_replica`."""

    profile: str = "meta-llama/Meta-Llama-3-8B|a100|tp1"
    """It says the tensor parallel degree, too: each replica takes so many GPUs."""
    replicas: int = 1
    """Where `decode_replicas` is given, those for prompts."""
    scheduler: str = "sarathi"
    token_budget: int = 512
    num_blocks: int = 30208
    """Of a replica; not used on shared devices, where memory decides."""
    block_size: int = 16
    max_batch: int = 128
    max_tokens: int = 4096
    watermark: float = 0.01
    form: str = "roofline"
    t_cpu_s: float | str = 0.0
    preset: str = "vidur"
    start: str = "up"
    """up: all replicas serve from time 0. cold: all load from time 0. on_arrival: none is there
    until a request finds none, or each with `scale_at` requests."""
    load_s: float | None = None
    """Time to load; None = all weights over each GPU's link to pinned host memory (A100, H100)."""
    keep_alive_s: float = math.inf
    """An idle replica leaves after it; with start `on_arrival`."""
    scale_at: int | None = None
    """None: one replica is enough."""
    devices: Sequence[int] | None = None
    """Device of each replica, where replicas share devices; None = GPUs of its own."""

    decode_replicas: int = 0
    """Further replicas that only decode, for prompts and decodes apart; by sarathi or vllm."""
    kv_gib_s: float = 25.0
    """Rate at which keys and values go from one replica to another, one request after the other."""
    migrate_every_s: float | None = None
    """How often to look for a running request to migrate; None = never. By sarathi or vllm."""
    migrate_below: float = 3.0
    """Freeness below which a replica sends requests away, to one that has so much."""

    def __post_init__(self) -> None:
        whole("replicas", self.replicas)
        whole("decode_replicas", self.decode_replicas, 0)
        require(self.kv_gib_s > 0.0, "kv_gib_s", self.kv_gib_s, "GiB/s > 0")
        if self.migrate_every_s is not None:
            every = self.migrate_every_s
            ok = math.isfinite(every) and every > 0.0
            require(ok, "migrate_every_s", every, "seconds > 0, or None")
            ok = not self.decode_replicas and self.devices is None and self.scheduler in APART
            asked = (self.decode_replicas, self.devices, self.scheduler)
            accepted = "none, no shared devices, sarathi or vllm, with migrate_every_s"
            require(ok, "decode_replicas, devices, scheduler", asked, accepted)
            accepted = "up or cold with migrate_every_s"
            require(self.start != "on_arrival", "start", self.start, accepted)
        require(math.isfinite(self.migrate_below), "migrate_below", self.migrate_below, "finite")
        if self.decode_replicas:
            ok = self.start == "up" and self.devices is None and self.scheduler in APART
            found = (self.start, self.devices, self.scheduler)
            accepted = "start up, no shared devices, sarathi or vllm, with decode_replicas"
            require(ok, "start, devices, scheduler", found, accepted)
        require(self.start in STARTS, "start", self.start, " | ".join(STARTS))
        if self.load_s is not None:
            ok = math.isfinite(self.load_s) and self.load_s >= 0.0
            require(ok, "load_s", self.load_s, "seconds >= 0, or None")
        require(self.keep_alive_s >= 0.0, "keep_alive_s", self.keep_alive_s, "seconds >= 0")
        for name, default in (("keep_alive_s", math.inf), ("scale_at", None)):
            value = getattr(self, name)
            comes = self.start == "on_arrival" or value == default
            require(comes, name, value, f"{default} unless start is on_arrival")
        if self.scale_at is not None:
            whole("scale_at", self.scale_at)
        if self.devices is not None:
            count = len(self.devices)
            require(count == self.replicas, "devices: length", count, f"{self.replicas}, replicas")
            for k in self.devices:
                whole("devices", k, 0)

    @property
    def known(self) -> Profile:
        """Its calibration."""
        return profile_of(self.profile)

    @property
    def sites(self) -> int:
        """Replicas of either kind."""
        return self.replicas + self.decode_replicas

    @property
    def kv_token_s(self) -> float:
        """Time of the link for a token: the keys and values of all GPUs of a replica."""
        figures = self.known.figures
        return float(figures["kv_token_bytes"] * figures["tp"] / (self.kv_gib_s * GIB))

    @property
    def least_blocks(self) -> int:
        """Least grant on a shared device: a request of `max_tokens`, and the watermark beside."""
        return math.ceil(-(-self.max_tokens // self.block_size) / (1.0 - self.watermark)) + 1

    @property
    def loading_s(self) -> float:
        """Time to load a replica.

        Raises:
            SpecError: it is not given, and the link of this GPU is not known.
        """
        if self.load_s is not None:
            return float(self.load_s)
        figures = self.known.figures
        if figures["gpu"] not in LINKED:
            accepted = f"seconds: the host link of {figures['gpu']} is unknown"
            raise SpecError("load_s", None, accepted)
        gib = (figures["weight_bytes"] + figures["embedding_bytes"]) / GIB
        return float(gib / gpu_figures(figures["gpu"].upper())["pinned_gib_s"].value)
