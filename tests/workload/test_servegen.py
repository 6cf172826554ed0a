"""ServeGen: a hand-made archive in the original format, draws from it, and mistakes in it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import servegen


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def archive(folder: Path, members: dict[str, str]) -> Path:
    path = folder / "t.tar.gz"
    with tarfile.open(path, "w:gz") as out:
        for name, text in members.items():
            info = tarfile.TarInfo(f"ServeGen-main/data/language/m/{name}")
            info.size = len(text.encode())
            out.addfile(info, io.BytesIO(text.encode()))
    return path


CLIENTS = {
    # Client 3: Gamma gaps of shape 4 (cv 1/2) at 2/s, then nothing. Client 12: Poisson at 1/s.
    "chunk-3-trace.csv": "0,2,0.5,Gamma,4,0.125\n600,0,0,,0,0\n",
    "chunk-3-dataset.json": json.dumps(
        {
            "0": {"input_tokens": "{7: 1.0}", "output_tokens": "{3: 0.25, 5: 0.75}"},
            "21600": {"input_tokens": "{}", "output_tokens": "{}"},
        }
    ),
    "chunk-12-trace.csv": "0,1,1,,0,0\n600,1,1,,0,0\n",
}


def test_servegen_draws_clients_of_the_rate_and_the_shape_they_have(tmp_path: Path) -> None:
    path = archive(tmp_path, CLIENTS)
    w = servegen.load(path, rng=rng(), model="language/m", hours=1 / 3)
    assert w.names == ("client-3", "client-12") and w.horizon_s == 1200.0
    first = w.arrival_s[w.function == 0]
    assert len(first) == pytest.approx(1200, abs=90)  # sd 17.3, half that of Poisson
    assert first.max() < 600.0
    gaps = np.diff(first)
    assert gaps.std() / gaps.mean() == pytest.approx(0.5, abs=0.05)
    assert (w.function == 1).sum() == pytest.approx(1200, abs=180)
    assert w.prompt_tokens is not None and set(w.prompt_tokens.tolist()) == {7}
    assert w.output_tokens is not None
    assert (w.output_tokens == 5).mean() == pytest.approx(0.75, abs=0.05)
    tenth = servegen.load(path, rng=rng(), model="language/m", hours=1 / 3, rate_factor=0.1)
    assert len(tenth) == pytest.approx(240, abs=60)
    busy = servegen.load(path, rng=rng(), model="language/m", start_s=600.0, hours=1 / 6, clients=1)
    assert busy.names == ("client-12",) and busy.prompt_tokens is None


def test_prompts_of_several_media_add_up(tmp_path: Path) -> None:
    fields = {
        "text_tokens": "{100: 1}", "image_tokens": "{20: 1}", "image_count": "{3: 1}",
        "audio_tokens": "{0: 1}", "audio_count": "{1: 1}", "output_tokens": "{9: 1}",
    }  # fmt: skip
    members = {"chunk-0-trace.csv": "0,1,1,,0,0\n"}
    members["chunk-0-dataset.json"] = json.dumps({"0": fields})
    w = servegen.load(archive(tmp_path, members), rng=rng(), model="language/m", hours=1 / 6)
    assert w.prompt_tokens is not None and set(w.prompt_tokens.tolist()) == {160}
    assert w.output_tokens is not None and set(w.output_tokens.tolist()) == {9}


@pytest.mark.parametrize("pattern", ["Gamma", "Weibull"])
@pytest.mark.parametrize("shape", [0.4, 1.0, 3.0])
def test_a_window_begins_in_the_middle_of_things(pattern: str, shape: float) -> None:
    # A renewal process in its long-run state has rate x length requests, however bursty.
    draws = rng()
    counts = [len(servegen._renewal(draws, 0.5, 20.0, pattern, shape)) for _ in range(4000)]
    assert np.mean(counts) == pytest.approx(10.0, rel=0.05)


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ("0,2,0.5,Gamma,4\n", "chunk-3-trace.csv:1 columns = 5.*6"),
        ("0,nan,0.5,Gamma,4,1\n", "chunk-3-trace.csv:1 rate = 'nan'.*>= 0"),
        ("-600,2,0.5,Gamma,4,1\n", "chunk-3-trace.csv:1 window_start_s = '-600'"),
        ("600,2,0.5,,4,1\n0,2,0.5,,4,1\n", "chunk-3-trace.csv:2 window_start_s = 0.*> 600"),
        ("0,2,0.5,Pareto,4,1\n", "pattern = 'Pareto'.*Gamma"),
        ("0,2,0.5,Gamma,0,1\n", "p1 = '0'.*> 0"),
    ],
)
def test_a_bad_client_is_named_by_member_and_line(tmp_path: Path, trace: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        servegen.read(archive(tmp_path, {"chunk-3-trace.csv": trace}), "language/m")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "language/n"}, "model = 'language/n'.*language/m"),
        ({"start_s": 100.0}, "start_s = 100.0.*multiple of 600"),
        ({"hours": 1.0}, r"hours = 1.0.*<= 0.333333 \(to the end"),
        ({"rate_factor": 0.0}, "rate_factor = 0.0"),
        ({"clients": 3}, r"clients = 3.*1\.\.2"),
    ],
)
def test_servegen_names_the_option(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    given = {"model": "language/m", "hours": 1 / 6, **options}
    with pytest.raises(SpecError, match=said):
        servegen.load(archive(tmp_path, CLIENTS), rng=rng(), **given)


def test_half_an_archive_is_refused(tmp_path: Path) -> None:
    windows = "".join(f"{d},1,1,,0,0\n" for d in rng().integers(1, 10**9, 3000))
    path = archive(tmp_path, {**CLIENTS, "chunk-4-trace.csv": windows})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SpecError, match="a whole tar archive"):
        servegen.read(path, "language/m")
