"""Numbers of the compiled rules: names, defaults, positions in the parameter table."""

from __future__ import annotations

DEFAULTS = {
    "slow_decay": 0.97,
    "fast_decay": 0.7,
    "prior_weight": 0.1,
    "cost_exponent": 1.0,
    "size_exponent": 1.0,
    "prewarm": 1.0,
    "price_factor": 1.0,
    "hybrid_head": 0.05,
    "hybrid_tail": 0.99,
    "hybrid_margin": 0.1,
    "hybrid_cv": 2.0,
    "hybrid_minute_s": 60.0,
    "hybrid_prewarm": 1.0,
}
"""See rules/hazard.py and rules/hybrid_histogram.py for their meaning."""
(
    SLOW_DECAY, FAST_DECAY, PRIOR_WEIGHT, COST_EXPONENT, SIZE_EXPONENT, USE_PREWARM, PRICE_FACTOR,
    HYBRID_HEAD, HYBRID_TAIL, HYBRID_MARGIN, HYBRID_CV, HYBRID_MINUTE, HYBRID_PREWARM,
) = range(len(DEFAULTS))  # fmt: skip
