"""Time of one iteration: linear layers on all new tokens, attention of prompts, of decodes, host.

With n new tokens rounded up to 8, prompt chunks of c tokens after a prefix of k, B decodes over a
summed context of K, L layers and the batching overhead g where chunks or decodes are several:

    T(n) + L (1 + g) sum max(p0, p1 + p2 c + p3 c (k + c/2) + p4 k)
         + L (1 + g) max(d0 + d1 B, e0 + e1 B + e2 K) + host

The row holds T as a table, and the coefficients in seconds times L.

Sources: coefficients as latency.yaml names them; the rounding and the overhead g are Vidur's
(Agrawal et al., MLSys 2024).  Units: seconds, tokens.
"""

from __future__ import annotations

import math

import numpy as np

from stoker.envs.cluster.jit import njit
from stoker.envs.cluster.llm.calibration import STEP, STEPS


@njit
def token_s(r, n):
    """Linear layers on n >= 1 tokens; beyond the table by the slope of its end."""
    k = (n + STEP - 1) // STEP
    if k <= STEPS:
        return r["token_s"][k - 1]
    return r["token_s"][STEPS - 1] + r["beyond_s"] * (STEP * (k - STEPS))


@njit
def chunk_s(r, c, k):
    """Attention of c prompt tokens after a prefix of k, without batching overhead."""
    p = r["p"]
    return max(p[0], p[1] + p[2] * c + p[3] * c * (k + 0.5 * c) + p[4] * k)


@njit
def decode_parts(r, b):
    """Attention of b decodes over a context K is max(floor, base + slope K)."""
    if b == 0:
        return 0.0, 0.0, 0.0
    d = r["d"]
    scale = 1.0 + r["overhead"] if b > 1 else 1.0
    return scale * (d[0] + d[1] * b), scale * (d[2] + d[3] * b), scale * d[4]


@njit
def alone_s(r, n):
    """Iteration of one prompt of n tokens alone."""
    return token_s(r, n) + chunk_s(r, n, 0) + r["host_s"]


@njit
def batch_s(r):
    """Iteration of the batch that was formed."""
    floor, base, slope = decode_parts(r, r["decodes"])
    scale = 1.0 + r["overhead"] if r["chunks"] > 1 else 1.0
    decode_s = max(floor, base + slope * r["context"])
    return token_s(r, r["tokens"]) + scale * r["chunk_s"] + decode_s + r["host_s"]


@njit
def span_s(fixed_s, floor, start, rise, m):
    """Sum over j < m of fixed_s + max(floor, start + rise j): constant, then an arithmetic series.

    The context of B decodes grows by B an iteration: rise = slope B.
    """
    flat = np.int64(0)
    if start < floor:
        flat = np.int64(m)
        if rise > 0.0:
            flat = min(flat, np.int64(math.ceil((floor - start) / rise)))
    k = m - flat
    rest = (fixed_s + start + rise * flat) * k + 0.5 * rise * (k * (k - 1.0))
    return flat * (fixed_s + floor) + rest


@njit
def steps_until(fixed_s, floor, start, rise, span, most):
    """Fewest iterations, 1 .. most, that take at least `span`; `most` where none do."""
    if most == 1:
        return most
    least_s = fixed_s + max(floor, start)
    if least_s * most < span:
        return _search(fixed_s, floor, start, rise, span, np.int64(1), np.int64(most))
    # Iterations never get shorter: no more are needed than at the pace of the first.
    high = min(np.int64(most), np.int64(math.ceil(span / least_s)) + 1)
    last_s = fixed_s + max(floor, start + rise * high)
    low = max(np.int64(1), np.int64(span / last_s) - 1)
    return _search(fixed_s, floor, start, rise, span, low, max(low, high))


@njit
def _search(fixed_s, floor, start, rise, span, low, high):
    while low < high:
        middle = (low + high) // 2
        if span_s(fixed_s, floor, start, rise, middle) >= span:
            high = middle
        else:
            low = middle + 1
    return low
