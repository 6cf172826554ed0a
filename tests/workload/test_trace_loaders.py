"""Loaders of the public traces: hand-made files in the original formats, exact values, mistakes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import (
    Workload,
    alibaba_genai_2026,
    alibaba_gpu_v2023,
    azure_functions_2021,
    azure_llm,
    burstgpt,
    mooncake,
    servegen,
    token_lengths,
    twitter,
)

AZURE = "app,func,end_timestamp,duration\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
IMAGES = ",".join(alibaba_genai_2026.COLUMNS) + "\n"
PODS = ",".join(alibaba_gpu_v2023.COLUMNS) + "\n"
LENGTHS = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n"
LLM = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def seeded(load: Callable[..., Workload]) -> Callable[[Path], Workload]:
    return lambda path: load(path, rng=rng())


def write(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_azure_2021_arrives_when_the_invocation_starts(tmp_path: Path) -> None:
    # Ends at 10, 9.5 and 12, after 4, 3 and 5 s: starts at 6, 6.5 and 7.
    path = write(tmp_path, AZURE + "a,f,10,4\na,g,9.5,3\nb,f,12,5\n")
    w = azure_functions_2021.load(path)
    assert w.arrival_s.tolist() == [0.0, 0.5, 1.0]
    assert [w.names[f] for f in w.function] == ["f", "g", "f"]
    assert w.service_s is not None and w.service_s.tolist() == [4.0, 3.0, 5.0]


def test_burstgpt_leaves_failed_calls_out(tmp_path: Path) -> None:
    rows = "5,ChatGPT,472,18,490,API log\n45,GPT-4,7,0,7,API log\n118,GPT-4,417,276,693,API log\n"
    w = burstgpt.load(write(tmp_path, BURST + rows))
    assert w.arrival_s.tolist() == [5.0, 118.0] and w.horizon_s == 118.0
    assert w.names == ("ChatGPT", "GPT-4") and w.function.tolist() == [0, 1]
    assert w.prompt_tokens is not None and w.prompt_tokens.tolist() == [472, 417]
    assert w.output_tokens is not None and w.output_tokens.tolist() == [18, 276]
    assert "1 of 3 failed" in w.source


def test_mooncake_reads_milliseconds_and_lengths(tmp_path: Path) -> None:
    row = {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}
    path = tmp_path / "t.jsonl.gz"
    later = {**row, "timestamp": 3500, "output_length": 7}
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, (row, later))).encode()))
    w = mooncake.load(path)
    assert w.arrival_s.tolist() == [0.0, 3.5]
    assert w.prompt_tokens is not None and w.prompt_tokens.tolist() == [6758, 6758]
    assert w.output_tokens is not None and w.output_tokens.tolist() == [500, 7]


def test_image_requests_are_those_of_their_base_model(tmp_path: Path) -> None:
    rows = (
        "2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,G0,63.0,26.0,1.0,30.0,M7,0\n"
        "2024-11-15 16:58:00,TXT_2_IMG,PENDING,0.0,G0,,,,,,0\n"
        "2024-11-15 17:57:50,TXT_2_IMG,FAILED,4.5,G1,63.0,,1.0,30.0,M2,1\n"
    )
    w = alibaba_genai_2026.load(write(tmp_path, IMAGES + rows))
    assert w.arrival_s.tolist() == [0.0, 3600.0]
    assert w.names == ("M7", "M2") and w.function.tolist() == [0, 1]
    assert w.service_s is not None and w.service_s.tolist() == [32.0, 4.5]
    assert "1 of 3 requests without" in w.source


def test_latencies_come_in_seconds(tmp_path: Path) -> None:
    path = write(tmp_path, "timestamp_anon,value,container_ip\n1662859290.0,2639.0,08\n")
    assert alibaba_genai_2026.latencies_s(path).tolist() == [2.639]


def test_pods_without_a_gpu_are_left_out(tmp_path: Path) -> None:
    rows = (
        "p0,12000,16384,1,1000,,LS,Running,0,100,10\n"
        "p1,6000,12288,0,0,,LS,Running,5,100,6\n"
        "p2,6000,12288,1,460,V100M32,BE,Failed,7,50,\n"
    )
    w = alibaba_gpu_v2023.load(write(tmp_path, PODS + rows))
    assert w.arrival_s.tolist() == [0.0, 7.0] and w.horizon_s == 100.0
    assert w.names == ("LS 1x1000", "BE 1x460")
    assert w.service_s is not None and w.service_s.tolist() == [90.0, 43.0]


def test_every_tweet_falls_into_its_second(tmp_path: Path) -> None:
    path = write(tmp_path, "2 0 3 1")
    w = twitter.load(path, rng=rng())
    assert np.floor(w.arrival_s).tolist() == [0, 0, 2, 2, 2, 3] and w.horizon_s == 4.0
    late = twitter.load(path, rng=rng(), start_s=2, end_s=3)
    assert len(late) == 3 and late.horizon_s == 1.0
    thinned = twitter.load(write(tmp_path, "1000 " * 100), rng=rng(), keep_probability=0.1)
    assert len(thinned) == pytest.approx(10_000, abs=500)  # five standard deviations


def test_both_lengths_of_a_request_are_of_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, LENGTHS + "10,1,11,10\n20,2,22,10\n")
    assert token_lengths.read(path).tolist() == [[10, 1], [20, 2]]
    w = token_lengths.load(path, rng=rng(), requests_per_s=1.0, hours=1.0)
    assert len(w) == pytest.approx(3600, abs=300)
    assert w.prompt_tokens is not None and w.output_tokens is not None
    assert (w.prompt_tokens == 10 * w.output_tokens).all()
    assert (w.output_tokens == 1).mean() == pytest.approx(0.5, abs=0.05)


POD = "p0,1,1,1,1000,,LS,Running,{},{},{}\n"
BAD: list[tuple[Callable[[Path], Workload], str, str]] = [
    (azure_functions_2021.load, "app,func,end_timestamp\na,f,1\n", "column.*'duration'"),
    (azure_functions_2021.load, AZURE + "a,f,nan,1\n", "t.csv:2 end_timestamp = .empty or NaN"),
    (azure_functions_2021.load, AZURE + "a,f,3,-1\n", r"t.csv:2 duration = -1.*>= 0"),
    (azure_functions_2021.load, AZURE + "a,f,9,1\na,f,8,1\n", r"t.csv:3 end_.* = 7.*>= 8"),
    (azure_functions_2021.load, AZURE, "rows = 0"),
    (burstgpt.load, "Timestamp,Model\n1,m\n", "column = 'Request tokens'"),
    (burstgpt.load, BURST + "nan,m,1,1,2,API log\n", "t.csv:2 Timestamp = .empty or NaN"),
    (burstgpt.load, BURST + "-1,m,1,1,2,API log\n", "t.csv:2 Timestamp = -1"),
    (burstgpt.load, BURST + "9,m,1,1,2,x\n8,m,1,1,2,x\n", "t.csv:3 Timestamp = 8.*>= 9"),
    (burstgpt.load, BURST + "9,m,1,1,2\n", "t.csv:2 columns = 5.*6 columns"),
    (mooncake.load, '{"timestamp": 0, "input_length": 1}\n', "t.csv:1 field = 'output_length'"),
    (mooncake.load, '{"timestamp": NaN, "input_length": 1, "output_length": 1}', "timestamp = nan"),
    (mooncake.load, '{"timestamp": -1, "input_length": 1, "output_length": 1}', "timestamp = -1"),
    (mooncake.load, '{"timestamp": 0, "input_le', "t.csv:1 = .*a JSON object"),
    (
        mooncake.load,
        '{"timestamp": 5, "input_length": 1, "output_length": 1}\n'
        '{"timestamp": 4, "input_length": 1, "output_length": 1}',
        "t.csv:2 timestamp = 4.*>= 5",
    ),
    (alibaba_genai_2026.load, "gmt_create\n2024-11-15 16:57:50\n", "column = 'checkpoint_model"),
    (
        alibaba_genai_2026.load,
        IMAGES + "2024-11-15 16:57:50,T,S,nan,G,,,,,M,0\n",
        "t.csv:2 exec_time_seconds",
    ),
    (
        alibaba_genai_2026.load,
        IMAGES + "2024-11-15 16:57:50,T,S,1,G,,,,,M,0\n2024-11-15 16:57:40,T,S,1,G,,,,,M,0\n",
        "t.csv:3 gmt_create",
    ),
    (alibaba_gpu_v2023.load, "name,num_gpu\np,1\n", "column = 'gpu_milli'"),
    (alibaba_gpu_v2023.load, PODS + POD.format(-1, 2, 3), "t.csv:2 creation_time = -1"),
    (alibaba_gpu_v2023.load, PODS + POD.format("nan", 2, 3), "t.csv:2 creation_time"),
    (alibaba_gpu_v2023.load, PODS + POD.format(1, 2, "soon"), "t.csv:2 scheduled_time = 'soon'"),
    (alibaba_gpu_v2023.load, PODS + POD.format(1, 2, 3), "t.csv:2 deletion_time = 2.*scheduled"),
    (
        alibaba_gpu_v2023.load,
        PODS + POD.format(5, 9, 5) + POD.format(4, 9, 4),
        "t.csv:3 creation_time = 4.*>= 5",
    ),
    (seeded(twitter.load), "1 2 x 3", "second 2 = 'x'.*whole number"),
    (seeded(twitter.load), "1 -2", "second 1 = '-2'"),
    (seeded(twitter.load), "1 nan", "second 1 = 'nan'"),
    (seeded(twitter.load), "", "rows = 0"),
    (seeded(token_lengths.load), "num_prefill_tokens\n1\n", "column = 'num_decode_tokens'"),
    (seeded(token_lengths.load), LENGTHS + "1,-1,0,0\n", "t.csv:2 num_decode_tokens = -1"),
    (seeded(token_lengths.load), LENGTHS + "1,nan,0,0\n", "t.csv:2 num_decode_tokens"),
]


@pytest.mark.parametrize(("load", "text", "said"), BAD)
def test_a_bad_file_is_named_by_line_and_column(
    tmp_path: Path, load: Callable[[Path], Workload], text: str, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        load(write(tmp_path, text))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start_s": 4}, r"start_s = 4.*0\.\.3"),
        ({"end_s": 5}, r"end_s = 5.*1\.\.4"),
        ({"keep_probability": 0.0}, "keep_probability = 0.0"),
    ],
)
def test_twitter_has_no_seconds_beyond_its_end(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        twitter.load(write(tmp_path, "2 0 3 1"), rng=rng(), **options)


def random_lines(make: Callable[[int], str], count: int = 3000) -> str:
    digits = rng().integers(1, 10**9, count)  # hard to compress, so that half of it is not whole
    return "".join(make(int(d)) for d in digits)


TRUNCATED: list[tuple[Callable[[Path], Workload], str]] = [
    (
        azure_llm.load,
        LLM
        + "2023-11-16 18:17:02,1,1\n"
        + random_lines(lambda d: f"2023-11-16 18:17:03,{d},{d}\n"),
    ),
    (azure_functions_2021.load, AZURE + random_lines(lambda d: f"a,f{d},1,1\n")),
    (burstgpt.load, BURST + random_lines(lambda d: f"1,m,{d},1,1,x\n")),
    (
        mooncake.load,
        random_lines(lambda d: f'{{"timestamp": 0, "input_length": {d}, "output_length": 1}}\n'),
    ),
    (
        alibaba_genai_2026.load,
        IMAGES + random_lines(lambda d: f"2024-11-15 16:57:50,T,S,1,G{d},,,,,M,0\n"),
    ),
    (alibaba_gpu_v2023.load, PODS + random_lines(lambda d: POD.format(0, d, 0))),
    (seeded(twitter.load), random_lines(lambda d: f"{d % 100} ")),
    (seeded(token_lengths.load), LENGTHS + random_lines(lambda d: f"{d},1,1,1\n")),
]


@pytest.mark.parametrize(("load", "text"), TRUNCATED)
def test_half_a_download_is_refused(
    tmp_path: Path, load: Callable[[Path], Workload], text: str
) -> None:
    whole = gzip.compress(text.encode())
    path = tmp_path / "t.csv.gz"
    path.write_bytes(whole)
    assert len(load(path))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SpecError, match=r"a whole .* file"):
        load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for load in (mooncake.load, burstgpt.load, seeded(twitter.load), seeded(servegen.load)):
        with pytest.raises(SpecError, match=r"path = .*none\.csv"):
            load(tmp_path / "none.csv")
