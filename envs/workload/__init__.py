"""Workloads: traces and generators, all turned into one `Workload` type.

Loaders are modules with a `load`: `azure_functions`, `azure_llm`, `plain_csv`; generators are in
`synthetic`; `to_gpu` maps functions to models on GPUs.
"""

from stoker.envs.workload import azure_functions, azure_llm, plain_csv, synthetic, to_gpu
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
    "azure_functions",
    "azure_llm",
    "cache_folder",
    "fetch",
    "footprint_gib",
    "generate",
    "locate",
    "memory_ratio",
    "mmpp2",
    "plain_csv",
    "resident_s",
    "split",
    "synthetic",
    "thin",
    "to_gpu",
    "utilisation",
]
