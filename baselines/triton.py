"""Fixed timeout: a batch starts when it is large enough or its head has waited long enough.

Source: the dynamic batcher of NVIDIA's Triton Inference Server (preferred batch size, maximum queue
delay), as its documentation describes it; with no delay it runs whatever waits as soon as it can.

Units: seconds.
"""

from __future__ import annotations

import numpy as np

from stoker.baselines.batch_policy import WAIT, BatchPolicy, Due, Ints, run_up_to
from stoker.envs.cluster.errors import require


class Triton(BatchPolicy):
    """Preferred size and maximum delay.

    Args:
        preferred: size at which a batch starts at once; the largest is the function's own.
        delay: longest wait of the head for it, in latency targets.
    """

    def __init__(self, preferred: int = 32, delay: float = 0.0) -> None:
        require(preferred >= 1, "policy.preferred", preferred, "an integer >= 1")
        require(delay >= 0.0, "policy.delay", delay, ">= 0")
        self.preferred, self.delay = preferred, delay

    def act(self, due: Due) -> Ints:
        """Run all that fits, or wait for more."""
        enough = due.queued >= np.minimum(self.preferred, due.max_batch)
        runs = enough | (due.head_waited_s >= self.delay * due.slo_s)
        return np.where(runs, run_up_to(due, due.max_batch), WAIT)
