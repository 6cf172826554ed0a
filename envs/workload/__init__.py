"""Workloads: traces and generators, all turned into one `Workload` type.

Loaders are modules with a `load`, one a family of traces (`docs/workloads.md` lists them);
generators are modules with a `generate`, of which `synthetic` is the one that others build on;
`to_gpu` maps functions to models on GPUs.
"""

from stoker.envs.workload import (
    alibaba_genai_2026,
    alibaba_gpu_v2023,
    azure_functions,
    azure_functions_2021,
    azure_llm,
    burstgpt,
    diffusion,
    drift,
    families,
    flash_crowd,
    llm_tokens,
    mooncake,
    plain_csv,
    rare_tail,
    servegen,
    synthetic,
    to_gpu,
    token_lengths,
    twitter,
)
from stoker.envs.workload.catalogue import TRACES, cache_folder, locate
from stoker.envs.workload.fetch import FetchError, fetch
from stoker.envs.workload.scale import (
    footprint_gib,
    memory_ratio,
    resident_s,
    thin,
    utilisation,
)
from stoker.envs.workload.split import Split, split
from stoker.envs.workload.synthetic import generate, mmpp2
from stoker.envs.workload.to_gpu import MAPPING_VERSION
from stoker.envs.workload.workload import Workload

__all__ = [
    "MAPPING_VERSION",
    "TRACES",
    "FetchError",
    "Split",
    "Workload",
    "alibaba_genai_2026",
    "alibaba_gpu_v2023",
    "azure_functions",
    "azure_functions_2021",
    "azure_llm",
    "burstgpt",
    "cache_folder",
    "diffusion",
    "drift",
    "families",
    "fetch",
    "flash_crowd",
    "footprint_gib",
    "generate",
    "llm_tokens",
    "locate",
    "memory_ratio",
    "mmpp2",
    "mooncake",
    "plain_csv",
    "rare_tail",
    "resident_s",
    "servegen",
    "split",
    "synthetic",
    "thin",
    "to_gpu",
    "token_lengths",
    "twitter",
    "utilisation",
]
