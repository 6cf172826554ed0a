"""Text as it comes: whole characters, and nothing lost between the pieces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_llamas import write_llama

from stoker.envs.cluster.errors import SpecError
from stoker.runtime.text import Text, Writer


class Bytes(Text):
    """Every byte is a token."""

    def decode(self, tokens: list[int]) -> str:
        return bytes(tokens).decode("utf-8", "replace")


def test_pieces_are_whole_characters_and_join_to_the_text(tmp_path: Path) -> None:
    text = "naïve café 😀, 北京!"
    writer = Writer(Bytes(tmp_path))
    pieces = [writer.write(token) for token in text.encode()]
    assert "".join(pieces) == text and all("\ufffd" not in piece for piece in pieces)
    assert pieces[:4] == ["n", "a", "", "ï"]


def test_a_model_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m")
    text = Text(model.folder)
    text.warm()
    with pytest.raises(SpecError, match=r"no tokenizer\.json or no package `tokenizers`"):
        text.encode("hello")


def test_a_tokenizer_file_is_read_and_a_broken_one_is_named(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    text = Text(tmp_path)
    assert text.encode("b a b") == [1, 0, 1] and text.decode([1, 0]) == "b a"
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 3}))
    with pytest.raises(SpecError, match=r"tokenizer\.json"):
        Text(tmp_path).encode("b")
