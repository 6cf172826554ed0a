"""Models that come as Python packages: all-MiniLM-L6-v2, where the extra `minilm` is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import zipfile
from pathlib import Path

from stoker.runtime.catalog import CONFIG, WEIGHTS, Model

_PACKAGE = "all_minilm_l6_v2"
_FILES = (CONFIG, WEIGHTS, "tokenizer.json")


def minilm(folder: str | Path) -> Model | None:
    """Unpack the sentence encoder into `folder`/minilm and return it; None if not installed.

    The package itself is not imported: only three files of its archive are taken.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    archive = Path(spec.origin).parent / "model.zip"
    if not archive.exists():
        return None
    target = Path(folder) / "minilm"
    if not all((target / name).exists() for name in _FILES):
        _unpack(archive, target)
    return Model.read(target)


def _unpack(archive: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as files:
        for name in _FILES:
            draft = target / f".{name}.draft"
            with files.open(name) as source, draft.open("wb") as sink:
                shutil.copyfileobj(source, sink)
                sink.flush()
                os.fsync(sink.fileno())
            draft.rename(target / name)
