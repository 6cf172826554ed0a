"""Where episodes of `stoker/Batching-v0`, variant `llm`, come from: loaded LLMs, bursty requests.

Every function is one replica of a model of the calibration, on GPUs of its own. Its requests are
those of two services in a share drawn anew, code completion (long prompts, short outputs, violent
bursts) and conversation, with the arrivals (MMPP2) and token counts fitted to the Azure LLM
inference trace of 2023 (envs/workload/llm_tokens.py).

Shapes: N requests.  Units: seconds, requests per second, tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stoker.envs.batch_problems import between
from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.cluster.llm.calibration import profile
from stoker.envs.cluster.llm.iteration_time import iteration_s
from stoker.envs.cluster.llm_spec import Llm, llm_function
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.problems import Rng
from stoker.envs.workload import Workload
from stoker.envs.workload.marginals import TOKENS, tokens
from stoker.envs.workload.processes import FITS, mmpp2, within

PROFILES = (
    "meta-llama/Meta-Llama-3-8B|a100|tp1",
    "meta-llama/Meta-Llama-3-70B|a100|tp4|a100_dgx",
    "meta-llama/Llama-2-70b-hf|h100|tp4|h100_dgx",
    "codellama/CodeLlama-34b-Instruct-hf|a100|tp2|a100_dgx",
    "Qwen/Qwen-2-7B|a30|tp1",
)
"""Measured ones, of several sizes."""
CODE, CHAT = "azure_llm_2023_code", "azure_llm_2023_conv"
MAX_TOKENS, MAX_BATCH, REQUESTS = 8192, 128, 4096
DECODES, CONTEXT = 32, 1024
"""What capacity and targets are measured with."""
FULL, PROMPT = 2048, 1024
LEAST_REQUESTS = 0.1
"""A service of which fewer are expected in an episode has none."""
Counts = NDArray[np.int32]
Requests = tuple[NDArray[np.float64], Counts, Counts]
"""Arrivals, prompts, outputs. Shapes: (N,)"""


def draw_tokens(rng: Rng, service: str, n: int) -> tuple[Counts, Counts]:
    """Draw prompts and outputs that a replica can take. Shapes: (N,), (N,)"""
    prompt, output = (tokens(rng, mixture, n) for mixture in TOKENS[service])
    output = np.minimum(output, MAX_TOKENS // 2)
    return np.minimum(prompt, MAX_TOKENS - output), output


@lru_cache
def mean_tokens(service: str) -> tuple[float, float]:
    """Mean prompt and output of a service."""
    prompt, output = draw_tokens(np.random.default_rng(0), service, 2**16)
    return float(prompt.mean()), float(output.mean())


@lru_cache
def times_s(name: str) -> tuple[float, float, float]:
    """Of a profile: a prompt token, an iteration of decodes alone, a prompt of PROMPT tokens."""
    known = profile(name)
    decode_s = iteration_s(known, 0, DECODES, CONTEXT)
    return iteration_s(known, FULL, 0, 0.0) / FULL, decode_s, iteration_s(known, PROMPT, 0, 0.0)


@dataclass(frozen=True)
class TokenProblems:
    """LLM functions, each always loaded in one replica.

    Every episode draws models, the mix of services, the share of what a replica can serve that is
    asked for, and the targets.
    """

    functions: int = 1
    seconds: float = 300.0
    """Length of an episode."""
    profiles: Sequence[str] = PROFILES
    code: tuple[float, float] = (0.0, 1.0)
    """Range of the share of code completion in the requests; the rest is conversation."""
    load: tuple[float, float] = (0.1, 0.7)
    """Range of the share of a replica's time that the requests ask for: prompts at a budget of
    2,048, tokens in batches of 32 decodes."""
    ttft: tuple[float, float] = (5.0, 50.0)
    """Range of the target of the first token over the time of a prompt of 1,024 (log-uniform)."""
    tbt: tuple[float, float] = (1.5, 8.0)
    """Range of the target between tokens over the time of an iteration of 32 decodes
    (log-uniform)."""

    def __post_init__(self) -> None:
        require(self.functions >= 1, "problems.functions", self.functions, "an integer >= 1")
        require(0.0 < self.seconds < np.inf, "problems.seconds", self.seconds, "finite, > 0")
        require(len(self.profiles) > 0, "problems.profiles", self.profiles, "at least one")
        low, high = self.code
        require(0.0 <= low <= high <= 1.0, "problems.code", self.code, "0 <= low <= high <= 1")
        for name in ("load", "ttft", "tbt"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high < np.inf:
                raise SpecError(f"problems.{name}", (low, high), "0 < low <= high")
        for name in self.profiles:
            profile(name)

    @property
    def gpus(self) -> int:
        """Every function could be the largest model."""
        return self.functions * max(int(profile(p).figures["tp"]) for p in self.profiles)

    def sample(self, rng: Rng) -> tuple[Cluster, Workload]:
        """Draw models, targets and traffic."""
        drawn = [self._function(rng, f) for f in range(self.functions)]
        if not any(len(own[0]) for _, own in drawn):
            drawn[0] = drawn[0][0], (np.zeros(1), *draw_tokens(rng, CHAT, 1))
        functions = tuple(function for function, _ in drawn)
        gib = max(f.device_gib / f.gpus for f in functions)
        cluster = Cluster(Node((Gpu(gib),) * self.gpus), functions)
        arrival, prompt, output = (
            np.concatenate([columns[j] for _, columns in drawn]) for j in range(3)
        )
        index = np.repeat(
            np.arange(self.functions, dtype=np.int32), [len(own[0]) for _, own in drawn]
        )
        order = np.argsort(arrival, kind="stable")
        workload = Workload(
            arrival[order], index[order], tuple(f.name for f in functions), self.seconds,
            prompt_tokens=prompt[order], output_tokens=output[order],
            source="MMPP2 and tokens fitted to azure_llm_2023",
        )  # fmt: skip
        return cluster, workload

    def _function(self, rng: Rng, f: int) -> tuple[Function, Requests]:
        """Draw one function and its requests."""
        name = str(rng.choice(list(self.profiles)))
        token_s, decode_s, prompt_s = times_s(name)
        llm = Llm(
            name, max_batch=MAX_BATCH, max_tokens=MAX_TOKENS, requests=REQUESTS,
            ttft_s=prompt_s * between(rng, self.ttft), tbt_s=decode_s * between(rng, self.tbt),
        )  # fmt: skip
        code, load = float(rng.uniform(*self.code)), float(rng.uniform(*self.load))
        work_s, services = 0.0, ((CODE, code), (CHAT, 1.0 - code))
        for service, share in services:
            prompt, output = mean_tokens(service)
            work_s += share * (prompt * token_s + output * decode_s / DECODES)
        parts = [self._requests(rng, service, load * x / work_s) for service, x in services]
        times, prompts, outputs = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return llm_function(f"f{f}", llm), (times, prompts, outputs)

    def _requests(self, rng: Rng, service: str, rate: float) -> Requests:
        """Draw the requests of one service."""
        times = np.zeros(0)
        if rate * self.seconds > LEAST_REQUESTS:
            times = mmpp2(rng, FITS[service].at_rate(rate), self.seconds)
            times = times[within(times, self.seconds)]
        return times, *draw_tokens(rng, service, len(times))
