"""Text to tokens and back, by the `tokenizer.json` of a model's folder.

Needs the package `tokenizers` (extra `llm`); without it, or without the file, a decoder takes and
gives token numbers alone.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from stoker.envs.cluster.errors import SpecError
from stoker.runtime.weights import ModelError

FILE = "tokenizer.json"
UNFINISHED = "\ufffd"
"""Stands for bytes that are no whole character yet."""


class Text:
    """The tokenizer of one model, read when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._tokenizer: Any = None

    @property
    def known(self) -> bool:
        """Whether texts can be read."""
        return self.path.exists() and importlib.util.find_spec("tokenizers") is not None

    def _get(self) -> Any:
        if self._tokenizer is None:
            if not self.known:
                accepted = f"token numbers, as there is no {FILE} or no package `tokenizers`"
                raise SpecError("request.prompt", "a text", accepted)
            from tokenizers import Tokenizer

            try:
                self._tokenizer = Tokenizer.from_file(str(self.path))
            except Exception as error:  # the library raises nothing narrower
                raise ModelError(str(self.path), str(error), "a tokenizer") from None
        return self._tokenizer

    def warm(self) -> None:
        """Read the file now, if texts can be read at all."""
        if self.known:
            self._get()

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, with those that the model wants around it."""
        return list(self._get().encode(text).ids)

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, special ones left out."""
        return str(self._get().decode(tokens, skip_special_tokens=True))


class Writer:
    """Turns tokens into text as they come, a character when all of its bytes are there."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._tokens: list[int] = []
        self._from = 0
        """First token of the last whole piece: tokens are read together with it, as a tokenizer
        may treat the beginning of a text differently."""
        self._written = 0
        """First token whose text is not out yet."""

    def write(self, token: int) -> str:
        """Take one token and return what can be read now."""
        self._tokens.append(token)
        before = self._text.decode(self._tokens[self._from : self._written])
        whole = self._text.decode(self._tokens[self._from :])
        if whole.endswith(UNFINISHED) or len(whole) <= len(before):
            return ""
        self._from, self._written = self._written, len(self._tokens)
        return whole[len(before) :]
