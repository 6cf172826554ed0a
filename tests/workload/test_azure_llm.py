"""Azure LLM traces: time stamps with 100 ns ticks, token counts, one function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import azure_llm

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
START = "2023-11-16 18:17:03.9799600"


def write(folder: Path, text: str) -> Path:
    path = folder / "llm.csv"
    path.write_text(text)
    return path


def test_time_starts_at_the_first_request(tmp_path: Path) -> None:
    text = HEADER + f"{START},4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
    w = azure_llm.load(write(tmp_path, text), name="code")
    assert w.arrival_s.tolist() == [0.0, 0.052]
    assert w.prompt_tokens is not None and w.prompt_tokens.tolist() == [4808, 3180]
    assert w.output_tokens is not None and w.output_tokens.tolist() == [10, 8]
    assert w.names == ("code",)
    assert w.horizon_s == 0.052


def test_time_stamps_with_a_zone_read_the_same(tmp_path: Path) -> None:
    text = HEADER + "2024-05-10 00:00:00.009930+00:00,1,2\n2024-05-10 00:00:01.009930+00:00,3,4\n"
    assert azure_llm.load(write(tmp_path, text)).arrival_s.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (HEADER + f"{START},1,1\n2023-11-16 18:17:02,1,1\n", "llm.csv:3 TIMESTAMP"),
        (HEADER + f"{START},-1,1\n", "llm.csv:2 ContextTokens"),
        (HEADER + f"{START},1,nan\n", "llm.csv:2 GeneratedTokens"),
        (HEADER + "noon,1,1\n", "llm.csv: TIMESTAMP"),
        (HEADER, "llm.csv: rows"),
        ("TIMESTAMP,ContextTokens\n" + f"{START},1\n", "llm.csv: column"),
        (HEADER.replace("Context", "Prompt") + f"{START},1,1\n", "llm.csv: column"),
    ],
)
def test_a_bad_file_is_named_by_line_and_column(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        azure_llm.load(write(tmp_path, text))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("name", "requests", "span_s", "prompt_mean"),
    [
        ("azure_llm_2023_code", 8819, 3435.9481, 2047.8483),
        ("azure_llm_2023_conv", 19366, 3501.7219, 1154.6974),
    ],
)
def test_the_public_traces_have_their_published_size(
    real: Callable[[str], Path], name: str, requests: int, span_s: float, prompt_mean: float
) -> None:
    w = azure_llm.load(real(name))
    assert len(w) == requests
    assert w.horizon_s == pytest.approx(span_s, abs=1e-3)
    assert w.prompt_tokens is not None
    assert w.prompt_tokens.mean() == pytest.approx(prompt_mean, abs=1e-3)
