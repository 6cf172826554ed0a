"""Time of one iteration outside of an engine: of one prompt chunk beside decodes of equal length.

The formula is that of iteration.py.  Units: seconds, tokens.
"""

from __future__ import annotations

from stoker.envs.cluster.llm.calibration import STEP, STEPS, Profile


def iteration_s(
    known: Profile, chunk: int, decodes: int, context: float, form: str = "roofline"
) -> float:
    """How long an iteration takes.

    Args:
        known: the profile.
        chunk: tokens of a prompt that has just begun; 0 = none.
        decodes: requests that put out a token each.
        context: tokens that each of them has behind it.
        form: of the linear layers.
    """
    linear_ms, steps = known.token_ms(form), -(-max(chunk + decodes, 1) // STEP)
    beyond = max(steps - STEPS, 0) * STEP * known.beyond_ms
    layer_ms = 0.0
    if chunk > 0:
        p0, p1, p2, p3, _ = known.figures["prefill_layer_ms"]
        layer_ms += max(p0, p1 + p2 * chunk + p3 * chunk * chunk / 2.0)
    if decodes > 0:
        d0, d1, e0, e1, e2 = known.figures["decode_layer_ms"]
        several = 1.0 + (known.figures["batch_overhead"] if decodes > 1 else 0.0)
        floor, rising = d0 + d1 * decodes, e0 + e1 * decodes + e2 * decodes * context
        layer_ms += several * max(floor, rising)
    linear = float(linear_ms[min(steps, STEPS) - 1]) + beyond
    return (linear + known.layers * layer_ms) / 1e3
