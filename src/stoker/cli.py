"""The console script: `stoker COMMAND [key=value ...]`, one Hydra application a command.

The overview needs no application; an application is imported when its command is named. What the
user got wrong ends in one line on stderr and exit code 2; what we got wrong keeps its traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable
from importlib import resources

COMMANDS = {
    "simulate": "run one policy on one workload in the simulated cluster",
    "tune": "search the parameters of the heuristics on training traces",
    "train": "train a policy (stable-baselines3, cross-entropy or forecast only)",
    "evaluate": "judge policies on held-out traffic: table, Parquet, HTML report",
    "export": "write a trained policy as an ONNX bundle with a manifest",
    "calibrate": "measure load and service times on this machine into a profile",
    "replay": "send a slice of a trace to real models under a policy",
    "soak": "load real models for minutes while things go wrong, and account for every request",
    "bench": "measure the speed budgets, with peers in the same run",
    "data": "fetch or list public traces (`stoker data fetch NAME`)",
    "demo": "calibrate, train, judge, export and replay, end to end",
}
LOADS = {name: f"stoker.agents.{name}" for name in COMMANDS}
LOADS["export"] = "stoker.agents.export_app"
EXAMPLES = (
    "stoker simulate policy=hazard workload=synthetic",
    "stoker simulate policy=path/to/my_policy.py:MyPolicy",
    "stoker simulate policy=runs/train/RUN/bundle",
    "stoker train experiment=quickstart",
    "stoker evaluate --help",
)
EXIT_MISTAKE = 2
TRACEBACK = "STOKER_TRACEBACK"
POLICY_FILE = re.compile(r"^policy=(?P<target>[^,]+\.py:[A-Za-z_]\w*|[^,]*/[^,:]*)$")
"""A class in a file, or the folder of an exported policy."""
GROUPS_HEAD, SETTINGS_HEAD = "Groups (group=option)", "Settings (a.b=value)"
"""Of the help page in `conf/common.yaml`."""
GROUP_TAKEN = re.compile(r"^  - (\w+)(?:@[\w.]+)?:", re.MULTILINE)
GATHERS = ("evaluate",)
"""Commands that judge several policies at once: a policy given by path joins them."""


def overview() -> str:
    """Return the help text of `stoker` itself."""
    lines = ["usage: stoker COMMAND [key=value ...]", ""]
    lines += [f"  {name:<10} {what}" for name, what in COMMANDS.items()]
    lines += ["", "examples:", *(f"  {example}" for example in EXAMPLES), ""]
    lines += ["stoker COMMAND --help shows its settings; -m sweeps; --cfg job prints the config"]
    return "\n".join(lines)


def main() -> None:
    """Run the command named first on the command line."""
    args = sys.argv[1:]
    if not args or args[0] in ("-h", "--help", "help"):
        print(overview())
        return
    if args[0] in ("-V", "--version"):
        from stoker import __version__

        print(f"stoker {__version__}")
        return
    sys.exit(run(args[0], args[1:]))


def run(command: str, args: list[str]) -> int:
    """Run one command.

    Args:
        command: a key of `COMMANDS`.
        args: what followed it on the command line.

    Returns:
        The exit code.
    """
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return _complain("", f"command = {command!r} is not accepted{hint}: {_any_of(COMMANDS)}")
    sys.argv = [f"stoker {command}", *rewrite(command, args)]
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        os.environ[TRACEBACK] = "1"
    # Otherwise Hydra itself prints what goes wrong, over several lines, and exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        application = importlib.import_module(LOADS[command]).main
        if {"-h", "--help"} & set(args):
            return _help(command, application)
        application()
    except KeyboardInterrupt:
        return _complain(command, "interrupted", code=130)
    except Exception as error:
        from stoker.agents.mistakes import explain

        line = None if os.environ.get(TRACEBACK) == "1" else explain(error)
        if line is None:
            raise
        return _complain(command, line)
    return 0


def own_groups(command: str, page: str) -> str:
    """Leave the groups that a command takes on its help page; Hydra lists those of all.

    Args:
        command: a key of `COMMANDS`.
        page: as Hydra made it.
    """
    head, groups, rest = page.partition(GROUPS_HEAD)
    listed, settings, rest = rest.partition(SETTINGS_HEAD)
    if not groups or not settings:
        return page
    config = (resources.files("stoker.conf") / f"{command}.yaml").read_text(encoding="utf-8")
    taken = set(GROUP_TAKEN.findall(config))
    lines = [line for line in listed.splitlines() if line.split(":")[0] in taken]
    shown = f"{GROUPS_HEAD}\n\n" + "\n".join(lines) + "\n\n" if lines else ""
    return f"{head}{shown}{settings}{rest}".rstrip()


def rewrite(command: str, args: list[str]) -> list[str]:
    """Turn the few plain words that we accept into Hydra overrides.

    `data fetch NAME` becomes `action=fetch name=NAME`, and a policy given by path (a class in
    a file, or the folder of a bundle) becomes the `file` option of its group with that target.
    """
    if command == "data" and args and args[0] in ("fetch", "list"):
        action, rest = args[0], args[1:]
        names = [f"name={word}" if "=" not in word and word[0] != "-" else word for word in rest]
        return [f"action={action}", *names]
    out: list[str] = []
    for arg in args:
        match = POLICY_FILE.match(arg)
        if match is None or match["target"].endswith(".py"):
            out.append(arg)
            continue
        group, node = ("policy", "policy")
        if command in GATHERS:
            group, node = "+policy@policies.yours", "policies.yours"
        target = match["target"].replace("'", r"\'")
        out += [f"{group}=file", f"{node}._target_='{target}'"]
    return out


def _help(command: str, application: Callable[[], None]) -> int:
    code = 0
    with contextlib.redirect_stdout(io.StringIO()) as page:
        try:
            application()
        except SystemExit as ended:
            code = int(ended.code or 0)
    print(own_groups(command, page.getvalue()))
    return code


def _complain(command: str, line: str, code: int = EXIT_MISTAKE) -> int:
    print(f"{' '.join(['stoker', command]).strip()}: {line}", file=sys.stderr)
    return code


def _any_of(names: Iterable[str]) -> str:
    return f"expected one of {', '.join(names)}"
