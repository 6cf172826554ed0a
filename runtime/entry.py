"""Where a worker process enters: importable without torch, so that the parent stays light."""

from __future__ import annotations

from multiprocessing.connection import Connection

from stoker.runtime.messages import WorkerSpec


def worker(spec: WorkerSpec, pipe: Connection) -> None:
    """Run one worker until its pipe closes."""
    from stoker.runtime.worker import main

    main(spec, pipe)
