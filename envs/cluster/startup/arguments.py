"""Range checks and the page size that the start-up mechanisms share.

Every check raises SpecError with the field, the value and the accepted range.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.errors import require

PAGE_GIB = 4096.0 / 2**30


def amount(field: str, value: float) -> None:
    """Accept a finite number that is not negative: a duration or a size."""
    require(0.0 <= value < math.inf, field, value, "finite, >= 0")


def rate(field: str, value: float) -> None:
    """Accept a positive number; an infinite rate takes no time."""
    require(value > 0.0, field, value, "> 0")


def share(field: str, value: float) -> None:
    """Accept a number in [0, 1]."""
    require(0.0 <= value <= 1.0, field, value, "in [0, 1]")


def count(field: str, value: int, least: int = 1) -> None:
    """Accept an integer from `least` on."""
    require(float(value).is_integer() and value >= least, field, value, f"an integer >= {least}")
