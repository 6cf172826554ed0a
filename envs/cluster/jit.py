"""The one place where engine code is compiled, with a cache that notices every edit.

numba keys a cached entry on the entry's own file: an edited rule in another file would silently
keep running in its old form. Entries are therefore cached in a folder named after a digest of all
engine sources, so any edit starts a fresh cache. Engine code holds no references and allocates
nothing, hence `_nrt=False`: no reference counting in the hot path. Divisions are numpy's, without a
test for zero that keeps loops from becoming vectors.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

from stoker.envs.cluster.jit_library import EntryCompiler, HelperCompiler

config: Any = numba.config

_numba_njit: Any = numba.njit
_numba_cfunc: Any = numba.cfunc
F = TypeVar("F", bound=Callable[..., Any])
HERE = Path(__file__).resolve().parent


def source_digest(folder: Path = HERE) -> str:
    """Digest of every engine source, numba's version and its settings."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    for name in sorted(k for k in os.environ if k.startswith("NUMBA_")):
        digest.update(f"{name}={os.environ[name]}".encode())
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    """First writable of STOKER_CACHE, the user's cache folder and the temporary folder."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    temporary = Path(tempfile.gettempdir()) / f"stoker-{os.getuid()}"
    asked = os.environ.get("STOKER_CACHE")
    for root in ([Path(asked)] if asked else []) + [Path(home) / "stoker", temporary]:
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(root, os.W_OK):
            return root
    raise OSError("no writable folder for compiled code: set STOKER_CACHE to one")


ALIKE = {"_nrt": False, "error_model": "numpy"}
"""How all engine code is compiled."""
_KEPT: list[Any] = []
"""Compiled functions that only addresses refer to."""
_CACHE = cache_root() / "engine" / source_digest()


def njit(function: F, **options: Any) -> F:
    """Compile a rule or a helper: called only from compiled code, cached with its entry."""
    wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    compile_: Any = _numba_njit(pipeline_class=HelperCompiler, **wrappers, **options, **ALIKE)
    compiled: F = compile_(function)
    return compiled


def hot(function: F) -> F:
    """Compile a helper that most requests run: always inlined, however large its callers are."""
    return njit(function, forceinline=True)


def entry(function: F) -> F:
    """Compile a function called from Python, cached on disk, run without the GIL."""
    before = config.CACHE_DIR
    config.CACHE_DIR = str(_CACHE)
    try:
        compile_: Any = _numba_njit(cache=True, nogil=True, pipeline_class=EntryCompiler, **ALIKE)
        compiled: F = compile_(function)
    finally:
        config.CACHE_DIR = before
    return compiled


def address_of(function: Callable[..., Any], signature: str) -> int:
    """Compile a function that compiled code calls through its address; cached as an entry is.

    It becomes a unit of its own: who does not call it does not compile it.
    """
    before = config.CACHE_DIR
    config.CACHE_DIR = str(_CACHE)
    try:
        compile_ = _numba_cfunc(signature, cache=True, pipeline_class=EntryCompiler, **ALIKE)
        compiled = compile_(function)
    finally:
        config.CACHE_DIR = before
    _KEPT.append(compiled)
    return int(compiled.address)
