"""The one error that a user's bad value raises: field, value, accepted range."""

from __future__ import annotations


class SpecError(ValueError):
    """A value from outside is not acceptable.

    Args:
        field: dotted name of the field, as the user wrote it.
        value: the value found.
        accepted: the accepted range or choices, in words.
    """

    def __init__(self, field: str, value: object, accepted: str) -> None:
        super().__init__(f"{field} = {value!r} is not accepted: expected {accepted}")
        self.field = field
        self.value = value
        self.accepted = accepted


def require(condition: bool, field: str, value: object, accepted: str) -> None:
    """Refuse the value unless the condition holds."""
    if not condition:
        raise SpecError(field, value, accepted)
