"""Learn a residual on the hazard index, watch it, choose on unseen traffic, export it.

The default policy starts as the tuned hazard index exactly. A forecast head is fitted by likelihood
(seconds), a residual by PPO on events or by the cross-entropy method; what is deployed is chosen on
validation traffic among the candidates, the heuristic included, so that a residual which does not
help is shrunk to nothing rather than shipped.

Units: dollars; scores are cost ratios to the base heuristic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from stoker.agents import cem, forecast
from stoker.agents.event_ppo import EventPPO, Shell
from stoker.agents.export import OBSERVATIONS, write_bundle
from stoker.agents.networks import Greedy
from stoker.agents.settings import Settings
from stoker.baselines.base import IdlePolicy
from stoker.baselines.hazard import HazardIndex
from stoker.envs.cluster.decision import IdlePlan
from stoker.envs.cluster.simulation import simulate
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.function_view import FunctionVectorEnv
from stoker.envs.problems import Problems
from stoker.envs.workload import Workload

Problem = tuple[Cluster, Workload]
Progress = Callable[[str, int, int], None]
SHRINKS = (1.0, 0.5, 0.25)
"""Factors on the learned log-multiplier that validation chooses among."""
PRIOR_ONLY = 2
"""Expert that knows nothing of the function: what `policy=scratch` starts from."""


@dataclass
class Trained:
    """What a training run leaves."""

    bundle: Path
    chosen: str
    """Candidate that validation preferred; `heuristic` if none was better."""
    scores: dict[str, float] = field(default_factory=dict)
    """Validation cost of every candidate over the base heuristic's."""
    simulated_requests: int = 0
    """By the learner; validation, which chooses, is not counted."""


class ModulePolicy(IdlePolicy):
    """A torch module as a policy, for validation during training."""

    def __init__(self, module: nn.Module, rules: Rules) -> None:
        self.module, self.rules = module, rules

    def act(self, observation: NDArray[np.float32]) -> IdlePlan:
        """Run the module."""
        with torch.no_grad():
            mix, multiplier, variant = self.module(torch.from_numpy(observation))
        return IdlePlan(mix.double().numpy(), multiplier.double().numpy(), variant.numpy())


class Logits(nn.Module):
    """The action logits of a stable-baselines3 policy."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.body, self.head = policy.mlp_extractor.policy_net, policy.action_net

    def forward(self, observation: Tensor) -> Tensor:
        """Return logits. Shapes: (N, K) -> (N, A)"""
        logits: Tensor = self.head(self.body(observation))
        return logits


class _Watch(BaseCallback):
    """Report progress, keep checkpoints, draw the opponents as reference lines."""

    def __init__(
        self, folder: Path, total: int, progress: Progress, lines: dict[str, float]
    ) -> None:
        super().__init__()
        self.folder, self.total, self.report, self.lines = folder, total, progress, lines

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        for name, value in self.lines.items():
            self.logger.record(f"opponents/{name}", value)
        state = {"policy": self.model.policy.state_dict(), "steps": self.num_timesteps}
        torch.save(state, self.folder / "checkpoint.pt")
        self.report("residual", min(self.num_timesteps, self.total), self.total)


def train(
    problems: Problems,
    validation: Sequence[Problem],
    rules: Rules,
    folder: Path,
    settings: Settings,
    *,
    warmup_s: float = 0.0,
    card: dict[str, Any] | None = None,
    opponents: dict[str, float] | None = None,
    progress: Progress | None = None,
    resume: Path | None = None,
) -> Trained:
    """Learn, validate, export.

    Args:
        problems: training episodes.
        validation: unseen problems that choose what is deployed.
        rules: the base heuristic (tuned hazard rules); the policy starts there.
        folder: gets `tensorboard/`, `checkpoint.pt`, `validation.json` and `bundle/`.
        settings: of the learner.
        warmup_s: start of every problem left out of scores.
        card: entries for the manifest's training card.
        opponents: scores to draw as reference lines in TensorBoard.
        progress: called with stage, done, total.
        resume: checkpoint of an earlier PPO run to go on from.
    """
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    report = progress or (lambda stage, done, total: None)
    writer = SummaryWriter(str(folder / "tensorboard"))
    env = FunctionVectorEnv(settings.rows, problems, rules=rules, warmup_s=warmup_s)
    done = 0

    def collected(n: int) -> None:
        nonlocal done
        done += n
        report("collect", min(done, settings.collect), settings.collect)

    data = forecast.collect(env, settings.collect, settings.seed, collected)
    report("collect", settings.collect, settings.collect)
    simulated = env.simulated
    candidates: dict[str, nn.Module] = {"heuristic": Greedy(None, None, 0.0)}
    head = None
    if settings.forecast:
        rng = np.random.default_rng(settings.seed)
        head = forecast.fit(
            data, rng, log=lambda epoch, loss: writer.add_scalar("forecast/nll", loss, epoch)
        )
        candidates["forecast"] = Greedy(head, None, 0.0)
    if settings.algorithm == "cem":
        theta, searched = _search(
            problems, data.observation, rules, settings, warmup_s, writer, report
        )
        simulated += searched
        candidates |= {f"residual x {s:g}": cem.LinearResidual(theta, s) for s in SHRINKS}
    else:
        logits = _ppo(env, folder, settings, report, opponents or {}, resume)
        simulated += env.simulated
        candidates |= {f"residual x {s:g}": Greedy(None, logits, s) for s in SHRINKS}
        if head is not None:
            candidates["forecast + residual"] = Greedy(head, logits, 1.0)
    scores = validate(candidates, validation, rules, warmup_s, report)
    chosen = min(scores, key=lambda name: (scores[name], name != "heuristic"))
    for step, (name, value) in enumerate(scores.items()):
        writer.add_scalar("validation/cost_over_heuristic", value, step)
        writer.add_text("validation/candidates", f"{step}: {name} = {value:.4f}", step)
    writer.close()
    (folder / "validation.json").write_text(
        json.dumps({"chosen": chosen, "scores": scores}, indent=2)
    )
    np.save(folder / OBSERVATIONS, data.observation[:10_000])
    full_card = {
        **(card or {}), "settings": asdict(settings), "chosen": chosen, "validation": scores,
        "simulated_requests": simulated,
    }  # fmt: skip
    bundle = write_bundle(
        folder / "bundle", candidates[chosen], data.observation[:10_000], rules,
        validation[0][0].first_bin_s, full_card,
    )  # fmt: skip
    return Trained(bundle, chosen, scores, simulated)


def _ppo(
    env: FunctionVectorEnv,
    folder: Path,
    settings: Settings,
    report: Progress,
    opponents: dict[str, float],
    resume: Path | None,
) -> Logits:
    """Train the residual by PPO; return its logits."""
    if settings.policy == "scratch":
        mix = np.eye(6)[PRIOR_ONLY]
        env.mix = lambda observation: np.tile(mix, (len(observation), 1))
    model = EventPPO(
        Shell(env), keep=settings.keep, seed=settings.seed, n_steps=settings.n_steps,
        batch_size=settings.batch_size, n_epochs=settings.n_epochs,
        learning_rate=settings.learning_rate, ent_coef=settings.ent_coef,
        policy_kwargs={"net_arch": list(settings.hidden)},
    )  # fmt: skip
    if resume is not None:
        state = torch.load(resume, weights_only=True)
        model.policy.load_state_dict(state["policy"])
        model.num_timesteps = int(state["steps"])
    model.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))
    watch = _Watch(folder, settings.total_steps, report, opponents)
    model.learn(settings.total_steps, callback=watch, reset_num_timesteps=resume is None)
    return Logits(model.policy)


def _search(
    problems: Problems,
    observations: NDArray[np.float32],
    rules: Rules,
    settings: Settings,
    warmup_s: float,
    writer: SummaryWriter,
    report: Progress,
) -> tuple[NDArray[np.float64], int]:
    """Train a linear residual by the cross-entropy method; also count the requests simulated."""

    def log(generation: int, best: float, center: float) -> None:
        writer.add_scalar("cem/best_log_cost", best, generation)
        writer.add_scalar("cem/center_log_cost", center, generation)
        report("residual", generation + 1, settings.generations)

    return cem.search(
        problems.sample, observations, rules, np.random.default_rng(settings.seed),
        generations=settings.generations, population=settings.population, elites=settings.elites,
        sigma=settings.sigma, warmup_s=warmup_s, log=log,
    )  # fmt: skip


def validate(
    candidates: dict[str, nn.Module],
    validation: Sequence[Problem],
    rules: Rules,
    warmup_s: float,
    report: Progress,
) -> dict[str, float]:
    """Geometric mean cost of every candidate over the base heuristic's on unseen problems."""
    clusters, workloads = [c for c, _ in validation], [w for _, w in validation]

    def dollars(policy: Any) -> NDArray[np.float64]:
        results = simulate(clusters, workloads, policy, warmup_s=warmup_s, threads=2)
        return np.maximum([r.bill.total_usd for r in results], 1e-12)

    base = HazardIndex()
    base.rules = rules
    reference = dollars(base)
    scores = {}
    for n, (name, module) in enumerate(candidates.items()):
        usd = reference if name == "heuristic" else dollars(ModulePolicy(module, rules))
        scores[name] = float(np.exp(np.log(usd / reference).mean()))
        report("validate", n + 1, len(candidates))
    return scores
