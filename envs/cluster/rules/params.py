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
    "order_max_wait_s": 60.0,
    "order_required_requests": 4.0,
}
"""See rules/hazard.py, hybrid_histogram.py, collation.py, required_request_count.py."""
(
    SLOW_DECAY, FAST_DECAY, PRIOR_WEIGHT, COST_EXPONENT, SIZE_EXPONENT, USE_PREWARM, PRICE_FACTOR,
    HYBRID_HEAD, HYBRID_TAIL, HYBRID_MARGIN, HYBRID_CV, HYBRID_MINUTE, HYBRID_PREWARM,
    ORDER_MAX_WAIT, ORDER_REQUIRED_REQUESTS,
) = range(len(DEFAULTS))  # fmt: skip
