"""Download, verify, put in place: against a server on this machine only."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import TRACES, FetchError, fetch, locate

BODY = b"TIMESTAMP,ContextTokens,GeneratedTokens\n" * 60_000
SHA = hashlib.sha256(BODY).hexdigest()
NAME = "azure_llm_2023_code"
PLACE = TRACES[NAME].place


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:1000] if self.path == "/short" else BODY)

    def log_message(self, *args: object) -> None:
        """Keep the test output quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def left_behind(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


def test_a_download_lands_under_its_place_with_every_byte(server: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(
        NAME, tmp_path, f"{server}/ok", sha256=SHA, progress=lambda d, t: seen.append((d, t))
    )
    assert path == tmp_path / PLACE
    assert path.read_bytes() == BODY
    assert left_behind(tmp_path) == [path]
    assert seen[-1] == (len(BODY), len(BODY))
    assert [d for d, _ in seen] == sorted(d for d, _ in seen) and len(seen) > 1


def test_what_is_there_and_right_is_not_downloaded_again(server: str, tmp_path: Path) -> None:
    first = fetch(NAME, tmp_path, f"{server}/ok", sha256=SHA)
    again = fetch(NAME, tmp_path, f"{server}/missing", sha256=SHA)
    assert again == first


def test_a_damaged_file_is_replaced(server: str, tmp_path: Path) -> None:
    path = tmp_path / PLACE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a fi")
    fetch(NAME, tmp_path, f"{server}/ok", sha256=SHA)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("page", "said"),
    [("ok", "sha256 is"), ("missing", "HTTP 404"), ("short", "short|bytes came|Incomplete")],
)
def test_a_failed_download_says_why_and_leaves_nothing(
    server: str, tmp_path: Path, page: str, said: str
) -> None:
    # The published checksum of the real trace does not fit the body of this server.
    with pytest.raises(FetchError, match=said):
        fetch(NAME, tmp_path, f"{server}/{page}")
    assert left_behind(tmp_path) == []


def test_a_server_that_does_not_answer_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"127\.0\.0\.1"):
        fetch(NAME, tmp_path, "http://127.0.0.1:9/x", timeout_s=2.0)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="azure_llm_2023_code"):
        fetch("azure_llm_1999", tmp_path)
    with pytest.raises(SpecError, match="public address"):
        fetch("azure_functions_2019_sample", tmp_path)
    with pytest.raises(SpecError):
        locate("azure_llm_1999")


def test_locate_prefers_the_data_folder_and_falls_back_to_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("STOKER_DATA", raising=False)
    name = "burstgpt_1"
    assert locate(name) is None
    cached = fetch(name, url=f"{server}/ok", sha256=SHA)
    assert locate(name) == cached
    monkeypatch.setenv("STOKER_DATA", str(tmp_path / "data"))
    zipped = tmp_path / "data" / f"{TRACES[name].place}.gz"
    zipped.parent.mkdir(parents=True)
    zipped.write_bytes(gzip.compress(b"x"))
    assert locate(name) == zipped


@pytest.mark.parametrize("name", ["azure_llm_2023_code", "azure_llm_2023_conv"])
def test_the_traces_at_hand_have_the_published_checksum(
    real: Callable[[str], Path], name: str
) -> None:
    path = real(name)
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == TRACES[name].sha256
