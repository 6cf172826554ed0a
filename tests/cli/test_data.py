"""`stoker data` as a user meets it, with the source on this machine."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

NAME = "azure_llm_2023_conv"
CONTENT = b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
PLACE = Path("azure_llm_2023/AzureLLMInferenceTrace_conv.csv")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "trace.csv").write_bytes(CONTENT)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def data(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from stoker.cli import main; main()", "data"]
    return subprocess.run([*command, *args], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_list_names_every_trace(tmp_path: Path) -> None:
    result = data(tmp_path, "list")
    assert result.returncode == 0, result.stderr
    assert NAME in result.stdout and "burstgpt_1" in result.stdout


def test_fetch_puts_a_checked_file_in_place_and_prints_its_path(
    tmp_path: Path, address: str
) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    given = (f"url={address}/trace.csv", f"sha256={digest}", "folder=traces")
    result = data(tmp_path, "fetch", NAME, *given)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(Path("traces") / PLACE)
    assert (tmp_path / "traces" / PLACE).read_bytes() == CONTENT


def test_a_wrong_checksum_is_said_and_nothing_is_left(tmp_path: Path, address: str) -> None:
    result = data(tmp_path, "fetch", NAME, f"url={address}/trace.csv", "folder=traces")
    assert result.returncode == 1
    assert "sha256" in result.stderr and "Traceback" not in result.stderr
    assert not [path for path in (tmp_path / "traces").rglob("*") if path.is_file()]


def test_an_unknown_name_lists_the_choices(tmp_path: Path) -> None:
    result = data(tmp_path, "fetch", "azure")
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("stoker data: name = 'azure' is not accepted") and NAME in line
