"""A function on a thread of its own, waited for no longer than a budget.

While an answer that is overdue is still being computed it is not called again.  Units: seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class _Question:
    """One call, and its answer once `done` is set."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
        self.done = threading.Event()
        self.answer: Any = None
        self.error: BaseException | None = None


class Budgeted:
    """Calls one function; lives until it is closed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.error = ""
        """What it raised last."""
        self._overdue: _Question | None = None
        self._questions: SimpleQueue[_Question | None] = SimpleQueue()
        orders = (function, self._questions)
        threading.Thread(target=_serve, args=orders, daemon=True).start()

    def close(self) -> None:
        """Let the thread end."""
        self._questions.put(None)

    def ask(self, budget_s: float, *arguments: Any) -> tuple[Any, str]:
        """Return the answer, and why there is none: slow or raised."""
        if self._overdue is not None and not self._overdue.done.is_set():
            return None, "slow"
        question = _Question(arguments)
        self._questions.put(question)
        if not question.done.wait(budget_s):
            self._overdue = question
            return None, "slow"
        if question.error is not None:
            self.error = f"{type(question.error).__name__}: {question.error}"
            return None, "raised"
        return question.answer, ""


def _serve(function: Callable[..., Any], questions: SimpleQueue[_Question | None]) -> None:
    while (question := questions.get()) is not None:
        try:
            question.answer = function(*question.arguments)
        except BaseException as error:
            question.error = error
        question.done.set()
