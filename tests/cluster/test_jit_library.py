"""Helpers are compiled into the entries that call them, and nowhere else."""

from pathlib import Path
from typing import Any

import pytest

from stoker.envs.cluster import jit


@jit.njit
def _doubled(x: float) -> float:
    return 2.0 * x


@jit.njit
def _plus_one(x: float) -> float:
    return _doubled(x) + 1.0


@jit.hot
def _both(x: float) -> float:
    return _plus_one(x) * _doubled(x)


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """An entry that reaches `_doubled` by two ways, and one that reaches it at once."""
    monkeypatch.setattr(jit, "_CACHE", tmp_path)

    @jit.entry
    def nested(x: float) -> float:
        return _both(x) + _doubled(x)

    @jit.entry
    def direct(x: float) -> float:
        return _doubled(x)

    return nested, direct


def test_helpers_are_linked_whole_into_every_entry(entries: tuple[Any, Any]) -> None:
    nested, direct = entries
    assert nested(3.0) == (2.0 * 3.0 + 1.0) * (2.0 * 3.0) + 2.0 * 3.0
    assert direct(3.0) == 6.0


def test_a_helper_has_no_machine_code_of_its_own(entries: tuple[Any, Any]) -> None:
    entries[0](3.0)
    for helper in (_doubled, _plus_one, _both):
        (compiled,) = helper.overloads.values()  # type: ignore[attr-defined]
        assert not compiled.codegen._engine.is_symbol_defined(compiled.fndesc.llvm_func_name)
    (compiled,) = entries[0].overloads.values()
    assert compiled.codegen._engine.is_symbol_defined(compiled.fndesc.llvm_func_name)
