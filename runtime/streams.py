"""One request to a decoder as an asynchronous iterator of its tokens.

Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from stoker.runtime.controller import Controller
from stoker.runtime.requests import Answer


@dataclass(frozen=True)
class Piece:
    """One token."""

    token: int
    text: str
    """What it completes of the text; may be empty."""


class TokenStream:
    """Iterate over it for the tokens; `answer` is the whole, and fails as any request may.

    A consumer that leaves closes it (`async with`): the request is then taken back and its pages
    are free.
    """

    def __init__(self, controller: Controller, function: str | int, payload: Any) -> None:
        self._pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
        self.answer: asyncio.Future[Answer] = controller.request(
            function, payload, on_token=lambda t, text: self._pieces.put_nowait(Piece(t, text))
        )
        self.answer.add_done_callback(lambda _: self._pieces.put_nowait(None))

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Yield each token; raise RequestFailed if the request fails on the way."""
        while (piece := await self._pieces.get()) is not None:
            yield piece
        if not self.answer.cancelled():
            self.answer.result()

    async def __aenter__(self) -> TokenStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.answer.cancel()
