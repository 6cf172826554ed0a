"""Random LLM functions beside batch functions, with too little memory, and their traffic.

Units: seconds, GiB, tokens.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from small_clusters import Case, cases, faults, most_gpus

from stoker.envs.cluster.llm import calibration
from stoker.envs.cluster.spec import GIB, Cluster, Function, Llm

SCHEDULERS = ("sarathi", "vllm", "orca", "request_level", "fastserve", "vtc")
ONE, TWO = "microsoft/phi-2|a40|tp1", "meta-llama/Llama-2-7b-hf|h100|tp2|h100_dgx"
BLOCK = 16
LONGEST = 200


def kv_gib(profile: str, blocks: int, block_size: int = BLOCK) -> float:
    """Memory of so many blocks on all GPUs of an instance: exact, as GIB is a power of two."""
    figures = calibration.profile(profile).figures
    return float(figures["tp"] * figures["kv_token_bytes"] * block_size * blocks / GIB)


@st.composite
def llms(draw: st.DrawFn, gpus: int) -> Llm:
    """Few blocks: some requests never fit, others preempt each other."""
    profile = TWO if gpus == 2 else ONE
    blocks = -(-LONGEST // BLOCK) + draw(st.integers(0, 10))
    return Llm(
        profile, draw(st.sampled_from(SCHEDULERS)), draw(st.sampled_from([48, 512])),
        kv_gib(profile, blocks), BLOCK, draw(st.sampled_from([1, 3, 16])), LONGEST,
        draw(st.sampled_from([1, 4, 64])), draw(st.sampled_from([0.0, 0.1])),
        preset=draw(st.sampled_from(["vidur", "stoker"])),
    )  # fmt: skip


@st.composite
def llm_cases(draw: st.DrawFn) -> Case:
    """A case of parallel GPUs in which the first function, at least, is an LLM."""
    case = draw(cases(("parallel",)))
    most = most_gpus(case.cluster.all_nodes)
    functions = [
        as_llm(f, draw(llms(draw(st.sampled_from([1, 2][:most])))))
        if k == 0 or draw(st.booleans())
        else f
        for k, f in enumerate(case.cluster.functions)
    ]
    n = len(case.workload)
    rng = np.random.default_rng(case.seed)
    prompt, output = rng.integers(-1, 220, n), rng.integers(-1, 90, n)
    workload = replace(
        case.workload,
        arrival_s=np.sort(case.workload.arrival_s / draw(st.sampled_from([1.0, 10.0]))),
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=output.astype(np.int32),
    )
    return replace(case, cluster=Cluster(case.cluster.nodes, tuple(functions)), workload=workload)


def as_llm(f: Function, llm: Llm) -> Function:
    """The same function, with its key-value memory beside 0.5 GiB of weights a GPU."""
    gpus = 2 if llm.profile == TWO else 1
    assert llm.kv_gib is not None
    return replace(
        f, llm=llm, gpus=gpus, weights_gib=0.5 * gpus, device_gib=0.5 * gpus + llm.kv_gib,
        max_batch=1, concurrency=1, overlap_s=0.0, family="", shared_gib=0.0, gpu_fraction=1.0,
    )  # fmt: skip


@st.composite
def faulty_llms(draw: st.DrawFn) -> Case:
    """The same where things go wrong."""
    case = draw(llm_cases())
    return replace(case, faults=draw(faults(len(case.cluster.all_nodes))))
