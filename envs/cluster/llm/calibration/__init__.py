"""Latency of an iteration: 96 published profiles (model, GPU, tensor parallel degree, network).

    calibration.profile("meta-llama/Meta-Llama-3-8B|a100|tp1").quality   # 'measured'

The figures and their sources are in latency.yaml and token_ms.parquet beside this file.

Units: milliseconds in the fields ending in `_ms`, else seconds; bytes of one GPU.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.profiles.figure import QUALITIES

FORMS = ("roofline", "pwl", "table")
"""Ways to give the time of the linear layers: two branches, 17 knots, or the points themselves."""
STEP, STEPS = 8, 512
"""Token counts are rounded up to a multiple of 8; the tables end at 4,096."""
GRID = STEP * np.arange(1, STEPS + 1)
SHOWN = 4
"""Names shown for one that is not known."""
GIB = 2.0**30
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """Calibration of one model on one GPU class."""

    name: str
    figures: Mapping[str, Any]
    """The entry of latency.yaml; its head says what each field means."""

    @property
    def quality(self) -> str:
        """Worst flag of its parts: measured, derived or extrapolated."""
        parts = ("token_quality", "prefill_quality", "decode_quality")
        return max((str(self.figures[k]) for k in parts), key=QUALITIES.index)

    @property
    def sources(self) -> tuple[str, ...]:
        """What was read, where, under which licence."""
        named = (self.figures["token_source"], self.figures["attention_source"])
        known = _latency()["sources"]
        return tuple(
            f"{known[k]['what']}: {known[k]['where']} ({known[k]['licence']})"
            for k in dict.fromkeys(named)
        )

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return int(self.figures["layers"])

    def token_ms(self, form: str) -> Floats:
        """Time of all linear layers on 8, 16 .. 4,096 tokens. Shape: (512,)

        Raises:
            SpecError: an unknown form.
        """
        ms: Floats
        if form == "roofline":
            r0, r1, r2, r3 = self.figures["roofline_ms"]
            ms = np.maximum(r0 + r1 * GRID, r2 + r3 * GRID)
            return ms
        if form in ("pwl", "table"):
            knots = (_latency()["pwl_knots"], self.figures["pwl_ms"])
            ms = np.interp(GRID, *(knots if form == "pwl" else _points()[self.name]))
            return ms
        raise SpecError("form", form, " | ".join(FORMS))

    @property
    def beyond_ms(self) -> float:
        """Milliseconds a token beyond 4,096: slope of the roofline branch that holds there."""
        r0, r1, r2, r3 = self.figures["roofline_ms"]
        return float(r1 if r0 + r1 * GRID[-1] > r2 + r3 * GRID[-1] else r3)

    def host_s(self, preset: str) -> float:
        """Host and launch time of an iteration under a preset of `t_cpu`.

        Args:
            preset: vidur (0) | vllm2023 (Llama-2-70B under vLLM of 2023, by GPU and degree).

        Raises:
            SpecError: an unknown preset, or one without a figure for this GPU and degree.
        """
        presets = _latency()["host_ms"]
        if preset == "vidur":
            return 0.0
        if preset not in presets:
            raise SpecError("t_cpu_s", preset, " | ".join(("seconds >= 0", "vidur", *presets)))
        by_degree = presets[preset].get(self.figures["gpu"], {})
        if self.figures["tp"] not in by_degree:
            there = "a100 or h100 at tp2, tp4 or tp8, or seconds of your own"
            raise SpecError(f"t_cpu_s of {self.name}", preset, there)
        return float(by_degree[self.figures["tp"]]) / 1e3

    def num_blocks(
        self, block_size: int = 16, max_tokens: int = 4096, memory_fraction: float = 0.9
    ) -> int:
        """Blocks of key-value memory that fit beside the weights, as Vidur counts them.

        Whole requests of `max_tokens`, in `memory_fraction` of the device less weights without
        embeddings. Real engines have fewer: activations and the context take memory, too.
        """
        free = memory_fraction * self.figures["gpu_gib"] * GIB - self.figures["weight_bytes"]
        request = self.figures["kv_token_bytes"] * max_tokens
        return max(0, int(free // request)) * -(-max_tokens // block_size)


def names() -> tuple[str, ...]:
    """Every profile there is."""
    return tuple(_latency()["entries"])


def profile(name: str) -> Profile:
    """Look a profile up by name, such as "meta-llama/Llama-2-70b-hf|h100|tp4|h100_dgx".

    Raises:
        SpecError: names the nearest there are.
    """
    entries = _latency()["entries"]
    if name not in entries:
        near = difflib.get_close_matches(str(name), entries, SHOWN, 0.0)
        accepted = f"one of {len(entries)} profiles, nearest: {', '.join(near)}"
        raise SpecError("profile", name, accepted)
    return Profile(name, entries[name])


@cache
def _latency() -> dict[str, Any]:
    # The pure Python loader takes a second for this file.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = Path(__file__).with_name("latency.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.load(text, Loader=loader)
    return loaded


@cache
def _points() -> dict[str, tuple[Floats, Floats]]:
    """Measured points of each profile: token counts and milliseconds."""
    import pyarrow.parquet as parquet  # on demand: only the table form needs it

    table = parquet.read_table(Path(__file__).with_name("token_ms.parquet"))
    entry = table["entry"].combine_chunks()
    code, known = entry.indices.to_numpy(), entry.dictionary.to_pylist()
    tokens, ms = (table[k].to_numpy().astype(np.float64) for k in ("tokens", "ms"))
    return {name: (tokens[code == k], ms[code == k]) for k, name in enumerate(known)}
