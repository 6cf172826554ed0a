"""What the user got wrong, in one line; what we got wrong stays a traceback.

`explain` decides which it is. `UserMistakes` is the Hydra callback that ends a job so; it is named
by `hydra.callbacks` in `conf/common.yaml`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from stoker.envs.cluster.errors import SpecError

EXIT_MISTAKE = 2
TRACEBACK = "STOKER_TRACEBACK"
"""Environment variable: 1 = show the traceback of the user's mistakes, too."""


def explain(error: BaseException) -> str | None:
    """Return one line for a mistake of the user's, None for a fault of ours."""
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, SpecError):
            return one_line(str(cause))
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return explain(error.__cause__) or _bad_argument(error)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "stoker").startswith("stoker"):
        return f"{error.name} is not installed: pip install 'stoker[all]'"
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    line = one_line(str(error))
    if isinstance(error, OverrideParseException):
        return f"override {error.override!r} cannot be read: {line.split(' See https')[0]}"
    for cause in chain:
        accepted = _accepted_keys(cause)
        if accepted:
            return f"{line.split(' To append to your config')[0]} Accepted here: {accepted}"
    return line


def one_line(message: str) -> str:
    """Join the lines of a message, an indented list by commas, and drop the search path."""
    head = message.split("\nConfig search path")[0]
    out = ""
    for line in filter(str.strip, head.splitlines()):
        item = line.startswith(("\t", "    ")) and out
        joint = ", " if item and not out.endswith(":") else " "
        out += joint * bool(out) + line.strip()
    return out


class UserMistakes(Callback):
    """End a job that failed by the user's mistake with one line and exit code 2."""

    def on_job_end(self, config: Any, job_return: Any, **kwargs: Any) -> None:
        """Exit if the job's exception is the user's mistake; leave any other to Hydra."""
        if job_return.status.name != "FAILED" or os.environ.get(TRACEBACK) == "1":
            return
        # The public property prints the overrides before it raises.
        line = explain(job_return._return_value)
        if line is not None:
            print(f"stoker {config.hydra.job.name}: {line}", file=sys.stderr)
            sys.exit(EXIT_MISTAKE)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _accepted_keys(error: BaseException) -> str:
    """Return the keys of the node in which an unknown key was looked up."""
    node = getattr(error, "parent_node", None)
    if not isinstance(error, ConfigAttributeError | ConfigKeyError) or node is None:
        return ""
    return ", ".join(str(key) for key in node if key != "hydra")


def _bad_argument(error: InstantiationException) -> str | None:
    """Return a line where a config node names an argument that its target does not take."""
    return one_line(str(error)) if isinstance(error.__cause__, TypeError) else None
