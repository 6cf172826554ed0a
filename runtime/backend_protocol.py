"""What the controller asks of any backend.

Units: seconds, bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from stoker.envs.cluster.decision import Capabilities
from stoker.runtime.messages import Reply
from stoker.runtime.process import OnToken

Lost = Callable[[int, list[int]], None]
"""Called with a device and the instances that died with it."""


class Listener:
    """Hears the tokens of one order to a decoder, and can take the order back."""

    def __init__(self, on_token: OnToken) -> None:
        self.on_token = on_token
        self.withdraw: Callable[[], None] = lambda: None
        """Take the order back; a model that is no decoder finishes its batch."""


class Backend(Protocol):
    """Carries out effects; every order returns a future that ends with a Reply or an error."""

    capabilities: Capabilities
    on_lost: Lost

    async def start(self) -> None:
        """Make the devices ready."""

    async def close(self) -> None:
        """Stop; nothing is left behind."""

    def load(self, gpu: int, instance: int, fn: int, source: str) -> asyncio.Future[Reply]:
        """Bring an instance up from `disk` or `host`."""

    def drop(self, gpu: int, instance: int, to_host: bool) -> asyncio.Future[Reply]:
        """Take an instance down, its weights kept in host memory or not."""

    def run(
        self,
        gpu: int,
        instance: int,
        payloads: Sequence[Any],
        listener: Listener | None = None,
    ) -> asyncio.Future[Reply]:
        """Serve one batch; the reply's value is the list of answers.

        A decoder serves many such orders at once, tells the listener of every token, and lets it
        withdraw the order, which then fails.
        """

    def fetch_host(self, fn: int) -> asyncio.Future[Reply]:
        """Bring a function's weights from disk into host memory."""

    def drop_host(self, fn: int) -> None:
        """Give its host memory back."""

    def set_token_budget(self, fn: int, token_budget: int) -> None:
        """Change the budget of a decoder's iterations; nothing to other models."""
