"""A function on a thread of its own, waited for no longer than a budget, or not at all.

While an answer that is overdue is still being computed it is not called again.  Units: seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Question:
    """One call, and its answer once `done` is set."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
        self.done = threading.Event()
        self.answer: Any = None
        self.error = ""
        """What was raised instead."""
        self.seconds = 0.0
        """Time that it took, its wait for its turn excluded."""


class Budgeted:
    """Calls one function; lives until it is closed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._overdue: Question | None = None
        self._questions: SimpleQueue[Question | None] = SimpleQueue()
        orders = (function, self._questions)
        self._thread = threading.Thread(target=_serve, args=orders, daemon=True)
        self._thread.start()

    def close(self, wait_s: float = 0.0) -> None:
        """Let the thread end once it has answered, and wait so long for that."""
        self._questions.put(None)
        self._thread.join(wait_s)

    def put(self, *arguments: Any) -> Question:
        """Ask, and do not wait."""
        question = Question(arguments)
        self._questions.put(question)
        return question

    def ask(self, budget_s: float, *arguments: Any) -> tuple[Question | None, str]:
        """Return the answered question, or why there is no answer: slow or raised."""
        if self._overdue is not None and not self._overdue.done.is_set():
            return None, "slow"
        question = self.put(*arguments)
        if not question.done.wait(budget_s):
            self._overdue = question
            return None, "slow"
        return question, "raised" if question.error else ""


def _serve(function: Callable[..., Any], questions: SimpleQueue[Question | None]) -> None:
    while (question := questions.get()) is not None:
        began = time.perf_counter()
        try:
            question.answer = function(*question.arguments)
        except BaseException as error:
            question.error = f"{type(error).__name__}: {error}"
        question.seconds = time.perf_counter() - began
        question.done.set()
