"""What the user got wrong, in one line; what we got wrong stays a traceback.

`explain` decides which it is. `UserMistakes` is the Hydra callback that ends a job so; it is named
by `hydra.callbacks` in `conf/common.yaml`.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

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
        if "=" not in error.override:
            return f"override {error.override!r} cannot be read: expected {error.override}=VALUE"
        return f"override {error.override!r} cannot be read: {line.split(' See https')[0]}"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is not given: expected {error.full_key}=VALUE"
    unknown = _unknown_option(error)
    if unknown:
        return unknown
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
        error = job_return._return_value
        line = explain(error)
        if line is None and isinstance(error, TypeError | ValueError | AssertionError):
            line = _word_for_number(config)
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


def _unknown_option(error: BaseException) -> str | None:
    """Return a line where a group has no such option."""
    missing = getattr(error, "missing_cfg_file", None)
    options = list(getattr(error, "options", None) or ())
    if missing is None or not options:
        return None
    group, _, option = str(missing).partition("/")
    near = difflib.get_close_matches(option, options, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{group} = {option!r} is not accepted{hint}: expected one of {', '.join(options)}"


def _word_for_number(config: DictConfig) -> str | None:
    """Return a line where a setting of the command line is a word and its default a number."""
    choices = config.hydra.runtime.choices
    groups, values = [], []
    for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
        key = override.key_or_group + (f"@{override.package}" if override.package else "")
        (groups if key in choices else values).append(override)
    usual = compose(config.hydra.job.config_name, [str(made.input_line) for made in groups])
    for override in values:
        found = OmegaConf.select(config, override.key_or_group)
        default = OmegaConf.select(usual, override.key_or_group, throw_on_missing=False)
        number = isinstance(default, int | float) and not isinstance(default, bool)
        if number and isinstance(found, str):
            return f"{override.key_or_group} = {found!r} is not accepted: expected a number"
    return None


def _bad_argument(error: InstantiationException) -> str | None:
    """Return a line where a config node names an argument that its target does not take."""
    return one_line(str(error)) if isinstance(error.__cause__, TypeError) else None
