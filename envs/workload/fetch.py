"""Download a public trace, verify it, and put it in place in one step.

Nothing appears under the final name until every byte is there and the checksum agrees.

Units: bytes, seconds.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload.catalogue import cache_folder, trace

CHUNK = 1 << 20
Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and the total, None if the server does not say."""


class FetchError(RuntimeError):
    """A download failed, or what came is not what was published."""


def fetch(
    name: str,
    folder: str | Path | None = None,
    url: str | None = None,
    *,
    sha256: str | None = None,
    progress: Progress | None = None,
    timeout_s: float = 60.0,
) -> Path:
    """Download a trace unless it is there already, and return its path.

    Args:
        name: a public trace, see `stoker.envs.workload.TRACES`.
        folder: data folder; the download cache, where `locate` looks too, if not given.
        url: a mirror; the published address if not given.
        sha256: expected checksum; the published one, where known, if not given.
        progress: told how far the download is.
        timeout_s: longest silence of the server.

    Raises:
        SpecError: unknown name, or one that is not published as one file.
        FetchError: the server failed, or the checksum differs.
    """
    entry = trace(name)
    address = url or entry.url
    if not address:
        raise SpecError("trace", name, "one that has a public address; pass url=")
    expected = sha256 or entry.sha256
    target = (Path(folder) if folder is not None else cache_folder()) / entry.place
    if target.is_file() and (not expected or _digest(target) == expected):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as sink:
            found = _download(address, sink, progress, timeout_s)
        if expected and found != expected:
            raise FetchError(f"{name} from {address}: sha256 is {found}, expected {expected}")
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)
    return target


def _download(url: str, sink: IO[bytes], progress: Progress | None, timeout_s: float) -> str:
    # Imported late: `import stoker` has to be quick and most processes never download.
    from http.client import HTTPException, HTTPResponse
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    digest = hashlib.sha256()
    done = 0
    try:
        response: HTTPResponse
        with urlopen(url, timeout=timeout_s) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            while chunk := response.read(CHUNK):
                sink.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    except HTTPError as error:
        raise FetchError(f"{url}: HTTP {error.code} {error.reason}") from error
    except (URLError, HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        raise FetchError(f"{url}: {error}") from error
    if total is not None and done != total:
        raise FetchError(f"{url}: {done} of {total} bytes came")
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
