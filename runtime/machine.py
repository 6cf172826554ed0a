"""This machine: what it is, and how fast it copies.

Units: bytes, GiB, GiB/s.
"""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

from stoker.envs.cluster.spec import GIB

COPY_BYTES = 64 * 2**20


def copy_bandwidth() -> float:
    """Rate of a plain copy between two buffers that were touched before: the yardstick of loads."""
    source, target = np.ones(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - began)
    return COPY_BYTES / GIB / float(np.median(seconds))


def machine(device: str) -> dict[str, Any]:
    """Describe the machine that the figures belong to."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB,
        "device": device,
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
