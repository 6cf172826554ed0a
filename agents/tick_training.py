"""The stages of learning on the ids with ticks; the one that validates best is deployed.

They are the heuristic (the neutral choice of every lever), a first policy from single deviations
from it (deviations.py), and what the learner of `agent` makes of that.

Shapes: B clusters, S slots, N = B * S rows, K columns, A joint choices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from stoker.agents import build, deviations, judged
from stoker.agents.function_rows import FunctionRows
from stoker.agents.progress import bar
from stoker.agents.tick_learners import TickSettings, build_learner, preference, read_settings
from stoker.agents.tick_memory import RecurrentPreference
from stoker.agents.tick_problems import build_core, check_opponents
from stoker.agents.tick_watch import Act, Watch, picture_of_rows
from stoker.baselines import search
from stoker.baselines.base import Policy
from stoker.envs.cluster.observe_all import SLOT, C
from stoker.envs.cluster.spec import Rules
from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.levers import Levers

JUDGED_ROWS = 32
"""Problems that every policy is judged on."""
SAMPLED = 64, 32
"""Clusters from which deviations are learned, and how many of them share a problem."""
MARGINS = (0.0, 0.05, 0.1, 0.2)
"""What a deviation must save, in mean cold starts: that which does best is chosen."""
SHARPNESS = 10.0
"""Logits a mean cold start, where a learner goes on from a policy of deviations."""
PICTURES = 5
"""Of the learned policy, over the training."""


@dataclass(frozen=True)
class Setting:
    """What a run is about, read and checked."""

    cfg: DictConfig
    agent: TickSettings
    rules: Rules | None
    nodes: dict[str, search.Node]
    """Of the opponents, tuned where a tune run is."""
    opponents: dict[str, Policy]

    @classmethod
    def of(cls, cfg: DictConfig) -> Setting:
        """Read a config; opponents and the plan's parameters are tuned where a tune run is.

        Those of `combined` come first: they were tuned with a host copy kept, as the levers begin.
        """
        nodes = {name: search.published(name) for name in check_opponents(cfg.env.opponents)}
        known = judged.read_tuned(cfg.tuned)
        nodes |= {name: node for name, node in known.items() if name in nodes}
        tuned = [known[name] for name in ("combined", "hazard") if name in known]
        rules = build.build_policy(tuned[0]).rules if tuned else None
        opponents = {name: build.build_policy(node) for name, node in nodes.items()}
        return cls(cfg, read_settings(cfg.agent), rules, nodes, opponents)

    def core(self, rows: int, groups: int = 1) -> ClusterVectorEnv:
        """Build clusters side by side."""
        faults = build.fault_rates(self.cfg.get("faults"))
        return build_core(self.cfg.env, rows, groups=groups, rules=self.rules, faults=faults)


def first_policy(
    setting: Setting, core: ClusterVectorEnv, report: Callable[[int], None]
) -> tuple[str, nn.Sequential, dict[str, float]]:
    """Learn what deviations cost, and choose the margin.

    Returns:
        The policy's name, its network, and what every margin costs on the validation problems.
    """
    agent, (clusters, groups), seed = setting.agent, SAMPLED, int(setting.cfg.seed)
    rows = FunctionRows(setting.core(clusters, groups))
    rows.seed(seed)
    samples = deviations.collect(rows, groups, agent.deviations, seed, report)
    levers = rows.core.levers
    network = deviations.fit(samples, levers, agent.hidden, seed)
    made = {
        f"deviations, margin {m:g}": deviations.preference(network, levers, m, SHARPNESS)
        for m in MARGINS
    }
    costs = {name: cost(setting, core, acting(module, core)) for name, module in made.items()}
    best = min(costs, key=lambda name: costs[name])
    return best, made[best], costs


def acting(module: nn.Module, core: ClusterVectorEnv) -> Act:
    """A policy, an episode long, that takes the legal choice that a network prefers.

    Shapes: (N, K) -> (N,)
    """
    memory: torch.Tensor | None = None

    def act(seen: NDArray[np.float32]) -> NDArray[np.int64]:
        nonlocal memory
        with torch.no_grad():
            if isinstance(module, RecurrentPreference):
                before = torch.zeros(len(seen), module.memory) if memory is None else memory
                liked, memory = module(torch.as_tensor(seen), before)
            else:
                liked = module(torch.as_tensor(seen))
        legal = core.levers.joint(core.masks.reshape(len(seen), -1))
        chosen: NDArray[np.int64] = np.where(legal, liked.numpy(), -np.inf).argmax(axis=1)
        return chosen

    return act


def cost(setting: Setting, core: ClusterVectorEnv, act: Act) -> float:
    """Mean log of the dollars of a policy on the first validation seed's problems."""
    rows = FunctionRows(core)
    rows.seed(int(setting.cfg.validation_seeds[0]))
    seen, done = rows.reset(), np.zeros(1, np.bool_)
    while not done.any():  # all episodes are equally long
        seen, _, done, _ = rows.step(act(seen))
    return float(np.mean(np.log([figures["total_usd"] for figures in rows.told["summary"]])))


def start_from(model: BaseAlgorithm, module: nn.Sequential) -> None:
    """Give a learner the weights of a policy."""
    policy: Any = model.policy
    if isinstance(model, DQN):
        for network in (policy.q_net.q_net, policy.q_net_target.q_net):
            network.load_state_dict(module.state_dict())
            with torch.no_grad():  # values are in mean cold starts, not in logits
                network[-1].weight /= SHARPNESS
                network[-1].bias /= SHARPNESS
        return
    policy.mlp_extractor.policy_net.load_state_dict(module[:-1].state_dict())
    policy.action_net.load_state_dict(module[-1].state_dict())


@dataclass
class Learned:
    """What a training has found."""

    model: BaseAlgorithm
    rows: FunctionRows
    costs: dict[str, float]
    """Mean log cost of every stage on the validation problems."""
    chosen: str
    module: nn.Module
    """What is deployed: observations to preferences, with a memory if it is recurrent."""


def train(setting: Setting, folder: Path) -> Learned:
    """Learn on problems of the training seed."""
    torch.set_num_threads(1)
    cfg, agent = setting.cfg, setting.agent
    core = setting.core(JUDGED_ROWS)
    modules: dict[str, nn.Module] = {"heuristic": heuristic(core.levers)}
    costs = {"heuristic": cost(setting, core, acting(modules["heuristic"], core))}
    rows = FunctionRows(setting.core(agent.rows, agent.groups), agent.team, agent.groups)
    rows.seed(int(cfg.seed))
    model = build_learner(rows, agent, int(cfg.seed), folder)
    with bar() as progress:
        task = progress.add_task("deviations", total=agent.deviations)
        if agent.deviations > 0:
            name, first, told = first_policy(
                setting, core, lambda done: progress.update(task, completed=done)
            )
            modules[name], costs = first, {**costs, **told}
            start_from(model, first)
        task = progress.add_task(agent.algorithm, total=agent.total_steps)
        watch = Watch(
            lambda done: progress.update(task, completed=done),
            painter(setting), max(agent.total_steps // PICTURES, 1),
        )  # fmt: skip
        model.learn(agent.total_steps, callback=watch)
    name = agent.algorithm
    modules[name] = preference(model)
    costs[name] = cost(setting, core, acting(modules[name], core))
    chosen = min(modules, key=lambda stage: costs[stage])
    return Learned(model, rows, costs, chosen, modules[chosen])


def heuristic(levers: Levers) -> nn.Linear:
    """A network that prefers the neutral choice whatever it sees."""
    network = nn.Linear(SLOT + C, int(np.prod(levers.choices)))
    with torch.no_grad():
        network.weight.zero_()
        network.bias.zero_()
        network.bias[levers.neutral] = 1.0
    return network


def painter(setting: Setting) -> Callable[[BaseAlgorithm], NDArray[np.uint8]]:
    """Draw a learner's episode on the first problem of the first validation seed."""
    core = setting.core(1)
    seed = int(setting.cfg.validation_seeds[0])
    return lambda model: picture_of_rows(core, acting(preference(model), core), seed)
