"""Alibaba GenAI 2026 (GenTD26): image requests to diffusion models on serverless GPUs.

`lora_request_trace.csv` (research use with citation, no licence file: pass nothing on), gzipped or
plain. A request arrives at gmt_create (to the second); its function is the base model,
checkpoint_model_version_id, its service time exec_time_seconds, measured there. Requests without a
base model (pending ones) are left out, and `source` says how many. There are no tokens: the
lengths of prompts are in characters. The other files of the trace hold a latency a line
(timestamp_anon, value in milliseconds, container_ip), on a time base of their own: `latencies_s`.

Shapes: N requests, K samples.  Units: seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import tables
from stoker.envs.workload.workload import Workload

STAMP, MODEL, SERVICE = "gmt_create", "checkpoint_model_version_id", "exec_time_seconds"
COLUMNS = (
    STAMP, "predict_type", "predict_status", SERVICE, "groupId", "prompt_length",
    "negative_prompt_length", "num_images_per_prompt", "num_inference_steps", MODEL, "num_lora",
)  # fmt: skip


def load(path: str | Path) -> Workload:
    """Read the requests as those of one function a base model; time 0 is the first request.

    Raises:
        SpecError: names the line and the column.
    """
    path = Path(path)
    tables.known(path, COLUMNS)
    data = tables.read(path, {STAMP: "time", MODEL: "text", SERVICE: "float"})
    stamps = data[STAMP]
    tables.some(path, len(stamps))
    if not str(stamps.type).startswith("timestamp"):
        raise SpecError(f"{path.name}: {STAMP}", stamps[0].as_py(), "YYYY-MM-DD HH:MM:SS")
    since_s = stamps.to_numpy().astype("datetime64[s]").astype(np.float64)
    arrival_s = tables.ascending(path, STAMP, since_s) - since_s[0]
    service_s = tables.times(path, SERVICE, data[SERVICE])
    named = np.asarray(data[MODEL].combine_chunks().to_numpy(zero_copy_only=False) != "")
    function, names = tables.labels(data[MODEL].filter(named))
    return Workload(
        arrival_s[named],
        function,
        names,
        max(float(arrival_s[-1]), 1.0),
        service_s[named],
        source=f"alibaba_genai_2026 {path.name}; {int((~named).sum())} of {len(named)} requests "
        "without a base model left out",
    )


def latencies_s(path: str | Path) -> NDArray[np.float64]:
    """Read the latencies of one of the other files. Shape: (K,)."""
    path = Path(path)
    return tables.times(path, "value", tables.read(path, {"value": "float"})["value"]) / 1000.0
