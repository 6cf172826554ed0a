"""How batches on fractions of one GPU slow each other (`Gpu.interference`), and batches a load.

- `linear`, gpulet (USENIX ATC 2022; form as in its public code, casys-kaist/glet): a regression on
  the utilisation of the L2 cache and of the DRAM bandwidth, own and the other's, and a constant. It
  was fitted on pairs; of several others the sum counts here.
- `excess`, after USHER (OSDI 2024): batches slow each other where together they ask for more than
  all of the compute or of the memory bandwidth. That it is by as much as they ask too much is ours:
  the least slowdown at which the resource suffices.

Nothing runs faster than alone: a factor below 1 counts as 1.
"""

from __future__ import annotations

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.tables import NONE, gpu_at


@njit
def linear_slowdown(gpu, fn, compute, memory):
    """Gpulet's factor for a batch of `fn`; compute and memory: sums over all batches that run."""
    c = gpu["coefficients"]
    own = c[0] * fn["compute_util"] + c[2] * fn["memory_util"]
    others = c[1] * (compute - fn["compute_util"]) + c[3] * (memory - fn["memory_util"])
    return max(own + others + c[4], 1.0)


@njit
def excess_slowdown(compute, memory):
    """The same factor for all: what they ask for in all of the scarcer resource."""
    return max(1.0, max(compute, memory))


@njit
def load_slowdown(r, inst):
    """How many times as long a load takes for batches that run on its GPU, if it goes to one."""
    if inst["gpu"] == NONE:
        return 1.0
    gpu = gpu_at(r["gpu"], inst["gpu"])
    return 1.0 if gpu["slowed_head"] == NONE else gpu["load_beside_batch"]
