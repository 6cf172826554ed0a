"""What a decoder is asked, checked, and what it answers.

A payload is a text, a list of token numbers, or an object with `prompt` (either of them) and any of
max_tokens, temperature, seed, ignore_end.

Units: tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stoker.envs.cluster.errors import SpecError

MAX_TOKENS = 16
"""Generated where a request does not say how many."""
FIELDS = ("prompt", "max_tokens", "temperature", "seed", "ignore_end")


@dataclass(frozen=True)
class Prompt:
    """A checked request."""

    text: str | None
    """None = it came as tokens."""
    tokens: tuple[int, ...]
    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    """0 = the most likely token."""
    seed: int = 0
    """Of the drawn tokens: the same request gives the same answer, whatever runs beside it."""
    ignore_end: bool = False
    """Generate `max_tokens` whatever comes."""


def read_prompt(payload: Any) -> Prompt:
    """Check a payload.

    Raises:
        SpecError: a field is wrong.
    """
    asked = payload if isinstance(payload, dict) else {"prompt": payload}
    for name in asked:
        if name not in FIELDS:
            raise SpecError(f"request.{name}", asked[name], f"one of {' | '.join(FIELDS)}")
    given = asked.get("prompt")
    text = given if isinstance(given, str) else None
    tokens = _tokens(given) if text is None else ()
    most, seed = asked.get("max_tokens", MAX_TOKENS), asked.get("seed", 0)
    for name, value, least in (("max_tokens", most, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise SpecError(f"request.{name}", value, f"an integer >= {least}")
    heat = asked.get("temperature", 0.0)
    if isinstance(heat, bool) or not isinstance(heat, int | float) or not 0.0 <= heat <= 100.0:
        raise SpecError("request.temperature", heat, "0..100")
    ignore_end = asked.get("ignore_end", False)
    if not isinstance(ignore_end, bool):
        raise SpecError("request.ignore_end", ignore_end, "true | false")
    return Prompt(text, tokens, most, float(heat), seed, ignore_end)


def _tokens(value: Any) -> tuple[int, ...]:
    numbers = list(value) if isinstance(value, list | tuple) else None
    if numbers is None or not all(type(t) is int for t in numbers):
        raise SpecError("request.prompt", value, "a text or a list of token numbers")
    return tuple(numbers)


def check_length(prompt: Prompt, tokens: list[int], vocabulary: int, context: int) -> None:
    """Refuse a prompt that the model cannot read, or that leaves no room for its answer."""
    if not tokens:
        raise SpecError("request.prompt", prompt.text or [], "at least one token")
    strange = next((t for t in tokens if not 0 <= t < vocabulary), None)
    if strange is not None:
        raise SpecError("request.prompt", strange, f"token numbers 0..{vocabulary - 1}")
    if len(tokens) + prompt.max_tokens > context:
        raise SpecError(
            "request.prompt",
            f"{len(tokens)} tokens and {prompt.max_tokens} to come",
            f"at most {context} tokens in all",
        )
