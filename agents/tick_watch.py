"""What TensorBoard shows of a training on the ids with ticks: costs, episodes, pictures.

At every evaluation the policy runs one seeded validation problem, the best opponent once at the
end; their timelines go to TensorBoard as pictures (`timeline/learned`, `timeline/NAME`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image

from stoker.agents.function_rows import FunctionRows
from stoker.agents.tick_problems import Problem
from stoker.baselines.base import Policy
from stoker.envs.cluster.engine import NOTICED
from stoker.envs.cluster.idle import TERMS
from stoker.envs.cluster.simulation import run_under, simulation_for
from stoker.envs.cluster.telemetry import Telemetry
from stoker.envs.cluster.tick_observer import by_function
from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.render import Timeline

FIGURES = ("total_usd", "cold_ratio", "p95_s", "slo_attainment")
Act = Callable[[NDArray[np.float32]], NDArray[np.int64]]


class Watch(BaseCallback):
    """Log every cost a row and tick, and the figures of finished episodes; show progress.

    Args:
        advance: told the steps done.
        picture: draws the timeline of the present policy.
        every: steps between two pictures.
    """

    def __init__(
        self,
        advance: Callable[[int], object],
        picture: Callable[[BaseAlgorithm], NDArray[np.uint8]],
        every: int,
    ) -> None:
        super().__init__()
        self._advance, self._picture, self._every = advance, picture, every
        self._terms: list[NDArray[np.float64]] = []
        self._ended: list[dict[str, float]] = []
        self._due = 0

    def _on_step(self) -> bool:
        rows: FunctionRows = self.training_env  # type: ignore[assignment]
        self._terms.append(rows.terms)
        self._ended += [figures for figures in rows.told.get("summary", ()) if figures]
        if self.num_timesteps >= self._due:
            self._due += self._every
            self._draw()
        return True

    def _draw(self) -> None:
        add_picture(self.model, "learned", self._picture(self.model))

    def _on_rollout_end(self) -> None:
        for name, cost in zip(TERMS, np.mean(self._terms, axis=0), strict=True):
            self.logger.record(f"reward/{name}", -float(cost))
        for name in FIGURES if self._ended else ():
            mean = float(np.mean([figures[name] for figures in self._ended]))
            self.logger.record(f"episode/{name}", mean)
        self._terms, self._ended = [], []
        self._advance(self.num_timesteps)


def picture_of_rows(core: ClusterVectorEnv, act: Act, seed: int) -> NDArray[np.uint8]:
    """Draw the episode of a cluster view of one row under a policy. Shape: (H, W, 3)"""
    seen, _ = core.reset(seed=seed)
    line, over = Timeline(core.sim), np.zeros(1, np.bool_)
    while not over.any():
        line.note()
        joint = act(by_function(seen))
        heads = np.stack(np.unravel_index(joint, core.levers.choices), axis=-1)
        seen, _, _, over, _ = core.step(heads.reshape(1, -1))
    return line.picture()


def picture_of_policy(policy: Policy, problem: Problem, tick_s: float) -> NDArray[np.uint8]:
    """Draw an episode under a heuristic, a column every `tick_s` at most. Shape: (H, W, 3)"""
    cluster, workload, faults = problem
    sim = simulation_for(policy, [cluster], [workload], warmup_s=0.0, threads=1, faults=[faults])
    telemetry, line = Telemetry([faults]), Timeline(sim)
    step_s, now_s, asked_s = min(tick_s, policy.tick_s), 0.0, 0.0
    noticed = False
    while not sim.over.all():
        line.note()
        if noticed or now_s >= asked_s:
            sim.apply(policy.decide(telemetry.see(sim.snapshot())))
            asked_s += 0.0 if noticed else policy.tick_s
        now_s += 0.0 if noticed else step_s
        noticed = bool(run_under(policy, sim, np.full(1, now_s))[0] == NOTICED)
    return line.picture()


def add_picture(model: BaseAlgorithm, name: str, picture: NDArray[np.uint8]) -> None:
    """Put a timeline into TensorBoard."""
    drawn = Image(picture, dataformats="HWC")
    model.logger.record(f"timeline/{name}", drawn, exclude=("stdout", "log", "json", "csv"))
    model.logger.dump(model.num_timesteps)
