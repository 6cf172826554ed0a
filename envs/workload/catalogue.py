"""Which public traces there are: where each comes from, its checksum, its place on disk.

`locate` finds one that is already here; `stoker.envs.workload.fetch` downloads one. Traces are not
part of this package.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stoker.envs.cluster.errors import SpecError

AZURE_RAW = "https://raw.githubusercontent.com/Azure/AzurePublicDataset/master/data"
AZURE_RELEASE = "https://github.com/Azure/AzurePublicDataset/releases/download"
BURSTGPT_RELEASE = "https://github.com/HPMLL/BurstGPT/releases/download/v1.1"
GITHUB_RAW = "https://raw.githubusercontent.com"
GENAI = f"{GITHUB_RAW}/alibaba/clusterdata/master/cluster-trace-v2026-GenAI"
RESEARCH = "research, cite; no licence file"


@dataclass(frozen=True)
class Trace:
    """A public file."""

    place: str
    """Path under a data folder; there it may also be gzipped, with `.gz` added."""
    url: str = ""
    """Where to download it; empty = a sample that is not published as one file."""
    sha256: str = ""
    """Of the file as published; empty = not known, and then not verified."""
    licence: str = "CC-BY 4.0"


TRACES = {
    "azure_llm_2023_code": Trace(
        "azure_llm_2023/AzureLLMInferenceTrace_code.csv",
        f"{AZURE_RAW}/AzureLLMInferenceTrace_code.csv",
        "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
    ),
    "azure_llm_2023_conv": Trace(
        "azure_llm_2023/AzureLLMInferenceTrace_conv.csv",
        f"{AZURE_RAW}/AzureLLMInferenceTrace_conv.csv",
        "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
    ),
    "azure_llm_2024_code": Trace(
        "azure_llm_2024/AzureLLMInferenceTrace_code_1week.csv",
        f"{AZURE_RELEASE}/dataset-llm-2024/AzureLLMInferenceTrace_code_1week.csv",
    ),
    "azure_llm_2024_conv": Trace(
        "azure_llm_2024/AzureLLMInferenceTrace_conv_1week.csv",
        f"{AZURE_RELEASE}/dataset-llm-2024/AzureLLMInferenceTrace_conv_1week.csv",
    ),
    "azure_functions_2019": Trace(
        "azure_functions_2019/azurefunctions-dataset2019.tar.xz",
        f"{AZURE_RELEASE}/dataset-functions-2019/"
        "azurefunctions_dataset2019_azurefunctions-dataset2019.tar.xz",
    ),
    "azure_functions_2019_sample": Trace(
        "azure_functions_2019/invocations_per_function_md.anon.sampleA_1250.csv"
    ),
    "azure_functions_2019_d07_invocations": Trace(
        "azure_functions_2019/d07_min480-959/invocations.csv"
    ),
    "azure_functions_2019_d07_durations": Trace(
        "azure_functions_2019/d07_min480-959/durations.csv"
    ),
    "azure_functions_2019_d07_memory": Trace("azure_functions_2019/d07_min480-959/memory.csv"),
    "azure_functions_2021": Trace(
        "azure_functions_2021/AzureFunctionsInvocationTraceForTwoWeeksJan2021.rar",
        f"{AZURE_RAW}/AzureFunctionsInvocationTraceForTwoWeeksJan2021.rar",
    ),
    "burstgpt_1": Trace(
        "burstgpt/BurstGPT_1.csv",
        f"{BURSTGPT_RELEASE}/BurstGPT_1.csv",
        "4bb3783693d0a435686fbfc885615d2349bd067239079fa4b749f2e679e12122",
    ),
    "azure_functions_2021_head": Trace(
        "azure_functions_2021/AzureFunctionsInvocationTraceForTwoWeeksJan2021_head.csv"
    ),
    "burstgpt_sample": Trace("burstgpt/burstgpt_sample.csv"),
    "mooncake_conversation": Trace(
        "mooncake/conversation_trace.jsonl",
        f"{GITHUB_RAW}/kvcache-ai/Mooncake/main/FAST25-release/traces/conversation_trace.jsonl",
        "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        "Apache-2.0",
    ),
    "servegen": Trace(
        "servegen/ServeGen.tar.gz",
        "https://github.com/alibaba/ServeGen/archive/refs/heads/main.tar.gz",
        licence="Apache-2.0",
    ),
    "servegen_m_small": Trace("servegen/language_m-small.tar.gz", licence="Apache-2.0"),
    "servegen_m_large": Trace("servegen/language_m-large_traces.tar.gz", licence="Apache-2.0"),
    "servegen_mm_image": Trace("servegen/multimodal_mm-image.tar.gz", licence="Apache-2.0"),
    "alibaba_genai_2026": Trace(
        "alibaba_genai_2026/lora_request_trace.csv",
        f"{GENAI}/lora_request_trace.csv",
        licence=RESEARCH,
    ),
    **{
        f"alibaba_genai_2026_{name}": Trace(f"alibaba_genai_2026/{name}_anon.csv", licence=RESEARCH)
        for name in (
            "basemodel_update_latency",
            "lora_update_latency",
            "controlnet_latency_data",
            "pipeline_update_latency",
            "pipeline_inference_data",
            "model_predict_data",
        )
    },
    "alibaba_gpu_v2023": Trace(
        "alibaba_gpu_v2023/openb_pod_list_default.csv",
        f"{GITHUB_RAW}/alibaba/clusterdata/master/cluster-trace-gpu-v2023/csv/"
        "openb_pod_list_default.csv",
        "1ee7ed79c27a3b0861cda8ddba86a004c6aba904caafa329a76ae93ca63834a8",
        RESEARCH,
    ),
    "twitter": Trace("twitter/workload_days01-14.txt", licence="none stated"),
    "token_lengths_arxiv": Trace(
        "token_lengths/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
        f"{GITHUB_RAW}/microsoft/vidur/main/data/processed_traces/"
        "arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
        "9d3580538d915ca75e4aaaa54590b42dbb17abc6d74c8913310cf07c232adcdc",
        "MIT",
    ),
}


def trace(name: str) -> Trace:
    """Look a public trace up.

    Raises:
        SpecError: no trace has this name.
    """
    if name not in TRACES:
        raise SpecError("trace", name, " | ".join(TRACES))
    return TRACES[name]


def cache_folder() -> Path:
    """Return where downloads go if no folder is named."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "stoker" / "traces"


def data_folders() -> list[Path]:
    """List the folders that `locate` looks in, first to last."""
    folders = [Path(os.environ["STOKER_DATA"])] if os.environ.get("STOKER_DATA") else []
    checkout = Path(__file__).resolve().parents[2]
    return [*folders, checkout.parent / "shared" / "data" / "traces", cache_folder()]


def locate(name: str) -> Path | None:
    """Find a public trace on this machine, gzipped or plain; None where it is absent.

    Looks in the folder that the environment variable STOKER_DATA names, in `shared/data/traces`
    beside the checkout, then in the download cache.
    """
    place = trace(name).place
    for folder in data_folders():
        for candidate in (folder / place, folder / f"{place}.gz"):
            if candidate.is_file():
                return candidate
    return None
