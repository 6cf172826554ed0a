"""How engine code is linked: helpers are optimised once, inside the entries that call them.

numba optimises every function together with all that it calls and emits machine code for each, so
code that lies deep in the tree of calls is compiled once for each of its ancestors. A helper of the
engine runs only within an entry: here it stays an unoptimised module, and the entry links the
modules of all helpers below it, each once. On the engine that takes a third of the time.

numba lets a compiler class choose the library; what a library does when it is finished is numba's
own affair, hence the bound on numba's version in pyproject.toml.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder


class EntryLibrary(JITCodeLibrary):
    """Code of an entry, which links what its helpers link."""

    def add_linking_library(self, library: Any) -> None:
        """Link a library, and before it those that a helper has left to its callers."""
        below = library._linking_libraries if isinstance(library, HelperLibrary) else []
        for each in [*below, library]:
            if each not in self._linking_libraries:
                super().add_linking_library(each)

    def finalize(self) -> None:
        """Link callers before what they call: LLVM drops what nothing has asked for yet."""
        self._linking_libraries.reverse()
        super().finalize()


class HelperLibrary(EntryLibrary):
    """Code of a helper, which cannot be run: it waits to be linked into an entry."""

    class _NoEnvironment:
        @staticmethod
        def set_env(name: str, env: Any) -> None:
            """Nothing was emitted whose environment could be set."""

    @property
    def codegen(self) -> Any:
        """What numba hands the environment of emitted code to."""
        return self._NoEnvironment

    def finalize(self) -> None:
        """Leave the module as it is."""
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Null, numba's sign that the library holds no machine code of that name."""
        return 0


class EntryCompiler(CompilerBase):
    """numba's own compiler, writing into the library of an entry."""

    def define_pipelines(self) -> list[Any]:
        """Passes of nopython mode."""
        library = _opened(EntryLibrary, self.state)
        library.enable_object_caching()
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


class HelperCompiler(CompilerBase):
    """numba's own compiler, writing into the library of a helper."""

    def define_pipelines(self) -> list[Any]:
        """Passes of nopython mode."""
        _opened(HelperLibrary, self.state)
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


def _opened(kind: type[EntryLibrary], state: Any) -> EntryLibrary:
    """Give a function that is being compiled the library that its code goes to."""
    state["library"] = library = kind(state.targetctx.codegen(), state.func_id.unique_name)
    return library
