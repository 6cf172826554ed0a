"""What is left behind when a backend closes or its controller is killed: nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from running import backend
from small_models import MakeModel


def children(pid: int) -> set[int]:
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.add(int(status.parent.name))
    return found


def test_close_leaves_no_process_and_no_shared_memory(make_model: MakeModel) -> None:
    model = make_model("m")
    before = set(os.listdir("/dev/shm"))

    async def once() -> int:
        async with backend([model]) as real:
            await real.fetch_host(0)
            await real.load(0, 1, 0, "host")
            return real.workers[0].pid or 0

    open_files = len(os.listdir("/proc/self/fd"))
    pid = asyncio.run(once())
    assert not Path(f"/proc/{pid}").exists()
    again = asyncio.run(once())
    assert not Path(f"/proc/{again}").exists()
    assert set(os.listdir("/dev/shm")) == before
    assert len(os.listdir("/proc/self/fd")) <= open_files + 4


CONTROLLER = """
import asyncio, sys
from stoker.runtime.backend import TorchBackend
from stoker.runtime.catalog import Model, deploy

async def main():
    real = TorchBackend(deploy([Model.read(sys.argv[1])], 1), [2**22], 2**22)
    await real.start()
    await real.fetch_host(0)
    await real.load(0, 1, 0, "host")
    print(real.workers[0].pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_killed_controller_leaves_no_orphan(make_model: MakeModel) -> None:
    model = make_model("m")
    before = set(os.listdir("/dev/shm"))
    command = [sys.executable, "-c", CONTROLLER, str(model.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as controller:
        assert controller.stdout is not None
        worker = int(controller.stdout.readline())
        family = {worker} | children(controller.pid)
        controller.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5.0
    while any(Path(f"/proc/{p}").exists() for p in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [p for p in family if Path(f"/proc/{p}").exists()]
    assert set(os.listdir("/dev/shm")) == before
