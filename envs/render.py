"""Pictures of one row: a board as text, and which model was where over time.

Shapes: F functions, T steps noted, G GPUs.  Units: seconds, GiB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import GIB

STATES = ("on disk", "in host memory", "starting", "idle on a GPU", "busy")
MARKS = ".hs-#"
COLOURS = ("#ffffff", "#f2e3a0", "#e8833a", "#a9cbe8", "#1f5f99")
LONGEST = 480
"""Steps that a picture shows at most: the latest ones."""
LABELLED = 40
"""Functions whose names a picture still shows."""


def states_of(sim: Simulation, k: int) -> NDArray[np.int8]:
    """Where each function of row k stands, see STATES. Shape: (F,)"""
    fn = sim.state.fn[k, : int(sim.state.rows[k]["fns"])]
    conditions = [fn["busy"] > 0, fn["loading"] > 0, fn["idle"] > 0, fn["hosts"] > 0]
    return np.select(conditions, [4, 2, 3, 1], 0).astype(np.int8)


def board(sim: Simulation, k: int) -> str:
    """Row k now, as text: memory, then a line a function."""
    state, row, cluster = sim.state, sim.state.rows[k], sim.clusters[k]
    fn = state.fn[k, : len(cluster.functions)]
    lines = [f"t = {float(row['now']):,.0f} s of {float(row['horizon']):,.0f}"]
    for g, gpu in enumerate(cluster.gpus):
        used = float(state.gpu[k, g]["used"]) / GIB
        bar = "#" * round(20 * used / gpu.memory_gib) if gpu.memory_gib < np.inf else ""
        lines.append(f"GPU {g} {gpu.kind:<8} [{bar:<20}] {used:.1f} / {gpu.memory_gib:.1f} GiB")
    lines.append(
        f"loading {int(row['loads_now'])}, waiting {int(row['queued'])}, served "
        f"{int(row['served'])}, late {int(row['late'])}, dropped {int(row['drops'])}"
    )
    width = max(len(f.name) for f in cluster.functions)
    for f, mark in zip(range(len(fn)), states_of(sim, k).tolist(), strict=True):
        each = fn[f]
        lines.append(
            f"{MARKS[mark]} {cluster.functions[f].name:<{width}}  busy {int(each['busy'])}  idle "
            f"{int(each['idle'])}  starting {int(each['loading'])}  waiting {int(each['queued'])}"
        )
    legend = ", ".join(f"{mark} {name}" for mark, name in zip(MARKS, STATES, strict=True))
    return "\n".join([*lines, legend])


class Timeline:
    """What row k looked like at every step.

    Args:
        sim: the simulation.
        k: its row.
    """

    def __init__(self, sim: Simulation, k: int = 0) -> None:
        self.sim, self.k = sim, k
        self._forget()

    def _forget(self) -> None:
        self._times: list[float] = []
        self._states: list[NDArray[np.int8]] = []
        self._waiting: list[NDArray[np.int64]] = []
        self._used: list[float] = []

    def note(self) -> None:
        """Take down the present; a new episode starts a new picture."""
        row = self.sim.state.rows[self.k]
        now = float(row["now"])
        if self._times and now < self._times[-1]:
            self._forget()
        fn = self.sim.state.fn[self.k, : int(row["fns"])]
        self._times.append(now)
        self._states.append(states_of(self.sim, self.k))
        self._waiting.append(fn["queued"].copy())
        self._used.append(float(row["used"]) / max(float(row["cap"]), 1.0))
        noted: tuple[list[Any], ...] = (self._times, self._states, self._waiting, self._used)
        for each in noted:
            del each[:-LONGEST]

    def picture(self) -> NDArray[np.uint8]:
        """Functions over time by where they are, red where requests wait. Shape: (H, W, 3)"""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        states, waiting = np.array(self._states).T, np.array(self._waiting).T
        count = len(states)
        figure = Figure(figsize=(9.0, 2.2 + 0.16 * min(count, LABELLED)), dpi=100)
        canvas = FigureCanvasAgg(figure)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 3])
        above.step(self._times, self._used, where="mid", color=COLOURS[4])
        above.set_ylim(0.0, 1.05)
        above.set_ylabel("memory")
        last_s = self._times[-1] - self._times[-2] if len(self._times) > 1 else 1.0
        edges = np.append(self._times, self._times[-1] + last_s)
        colours: Any = ListedColormap(COLOURS)
        below.pcolormesh(edges, np.arange(count + 1), states, cmap=colours, vmin=0, vmax=4)
        f, at = np.nonzero(waiting)
        below.scatter(np.array(self._times)[at], f + 0.5, s=8, color="#c0281c", zorder=2)
        below.invert_yaxis()
        below.set_xlabel("seconds")
        if count <= LABELLED:
            names = [function.name for function in self.sim.clusters[self.k].functions]
            below.set_yticks(np.arange(count) + 0.5, names, fontsize=7)
        keys = [
            Patch(facecolor=colour, edgecolor="#888888", label=name)
            for colour, name in zip(COLOURS, STATES, strict=True)
        ]
        keys.append(Patch(color="#c0281c", label="requests wait"))
        figure.legend(handles=keys, ncols=6, loc="upper center", fontsize=7, frameon=False)
        figure.subplots_adjust(left=0.11, right=0.98, top=0.9, bottom=0.16)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
