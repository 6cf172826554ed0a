"""`stoker replay`: a slice of a trace on real models under a policy, the prediction beside it.

With `against=[...]` heuristics live through the same requests, one after the other. Without a
profile the machine is measured before and after each run, for its pace may change meanwhile; the
prediction is the mean of both. Time is compressed so that the trace's gaps stand to this machine's
loads as they do to a GPU's; a bundle of idle events brings its own clock. Writes `summary.json`,
`requests.parquet` and the profiles that it has measured into the run folder.

Units: seconds; minutes of this machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from stoker.agents import judged
from stoker.agents.build import build_policy, build_workload, shape_traffic
from stoker.agents.deployed import Deployed, on_clock
from stoker.agents.learned import load_learned
from stoker.agents.nodes import plain
from stoker.agents.real_run import (
    Compared,
    MakePolicy,
    compare,
    device_of,
    find_models,
    find_profile,
    live,
    maker,
    print_comparison,
    write_requests,
)
from stoker.agents.serving import ask_log, serving_of
from stoker.agents.stages import bars
from stoker.baselines import search
from stoker.baselines.base import Policy
from stoker.baselines.bundle import BundlePolicy
from stoker.baselines.registry import POLICIES
from stoker.baselines.search import TRACED_BIN_S
from stoker.envs.cluster.errors import SpecError
from stoker.envs.workload import Workload
from stoker.runtime.catalog import Model
from stoker.runtime.profile import write_profile

DENSITY = 2.0
"""Factor between two densities of requests from which one tells little of the other."""


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="replay")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    # What the user may have got wrong comes before what takes a minute.
    bundle = load_learned(cfg.bundle, "bundle") if cfg.bundle is not None else None
    policy = bundle or build_policy(cfg.policy)
    if cfg.ask is not None:
        _finish(ask_log(cfg.ask, policy))
        return
    others = opponents(cfg)
    serving_of(cfg).make_fallback()
    if not cfg.minutes > 0.0:
        raise SpecError("minutes", cfg.minutes, "a time > 0")
    device = device_of(cfg.runtime)
    with bars() as progress:
        models = find_models(cfg.runtime.models, progress)
    folder = Path(HydraConfig.get().runtime.output_dir)
    profile = _profile(cfg, models, folder / "profile-0.yaml")
    deployed = Deployed(profile, models, _factor(cfg, bundle))
    work = slice_of(cfg, deployed.compression)
    served = deployed.draw(work.names, np.random.default_rng([cfg.seed, 5]))
    cluster = deployed.cluster(served, work, float(cfg.scenario.ratio))
    print(
        f"{work.source}: {len(work):,} requests of {len(work.names)} functions, "
        f"{work.horizon_s:.0f} s; {1024.0 * cluster.device_gib:.0f} MiB of device memory"
    )
    say_density(work, profile)
    name = "learned" if bundle else type(policy).__name__
    makers = {name: _maker(cfg, deployed)}
    makers |= {n: maker(on_clock(node, deployed.compression)) for n, node in others.items()}
    serving = serving_of(cfg, deployed.compression)
    before, rows = deployed, []
    for who, make in makers.items():
        with bars() as progress:
            lived = live(
                make, cluster, work, served, serving=serving if who == name else None,
                device=device, seed=cfg.seed, progress=progress,
            )  # fmt: skip
        noise, after = deployed.noise(cfg.seed, before), before
        if cfg.profile is None:
            path = folder / f"profile-{len(rows) + 1}.yaml"
            after = replace(deployed, profile=_profile(cfg, models, path))
            noise += deployed.noise(cfg.seed, after)
        slower = after.batch_s / before.batch_s - 1.0
        rows.append(compare(who, make, cluster, lived, work, noise, slower))
        before = after
    row, *rest = rows
    facts: dict[str, Any] = {
        "policy": name,
        "source": work.source,
        "profile": cluster.profile,
        "compression": deployed.compression,
        "mode": cfg.guard.mode,
        **row.as_record(),
        "against": {other.policy: other.as_record() for other in rest},
    }
    write_requests(row, work.names, folder / "requests.parquet")
    print_comparison(rows)
    if len(rest) > 1:
        facts["kendall_tau"] = agreement(rows)
        print(f"order of the policies by dollars, real and predicted: Kendall's tau "
              f"{facts['kendall_tau']:.2f}")  # fmt: skip
    _finish(facts)


def _profile(cfg: DictConfig, models: tuple[Model, ...], path: Path) -> dict[str, Any]:
    """Read the profile that was given, or measure the machine and leave what is found at `path`."""
    with bars() as progress:
        tell = lambda what, done: progress("calibrate", done)  # noqa: E731
        profile = find_profile(cfg.profile, models, cfg.runtime, tell)
    if cfg.profile is None:
        write_profile(profile, path)
    return profile


def say_density(work: Workload, profile: Mapping[str, Any]) -> None:
    """Tell where the profile was measured at another density of requests, if it says at which."""
    rest_s, every_s = float(profile.get("rest_s", 0.0)), work.horizon_s / max(len(work), 1)
    if rest_s and not rest_s / DENSITY <= every_s <= rest_s * DENSITY:
        print(
            f"the profile holds for a request every {1000.0 * rest_s:.0f} ms, these come every "
            f"{1000.0 * every_s:.0f}: `stoker calibrate rest_s={every_s:.2g}` predicts them better"
        )


def opponents(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """Nodes of the heuristics that live through the same requests: as tuned, else as published."""
    for name in cfg.against:
        if name not in search.SPACES or name not in POLICIES:
            raise SpecError("against", name, " | ".join(n for n in POLICIES if n in search.SPACES))
    tuned = judged.read_tuned(cfg.tuned)
    return {name: {**search.published(name), **tuned.get(name, {})} for name in cfg.against}


def agreement(rows: Sequence[Compared]) -> float:
    """Kendall's tau between the policies' dollars as lived and as predicted."""
    from scipy.stats import kendalltau

    lived, foretold = ([side["total_usd"] for side in sides] for sides in
                       zip(*((row.real, row.predicted) for row in rows), strict=True))  # fmt: skip
    return float(kendalltau(lived, foretold).statistic)


def _finish(facts: dict[str, Any]) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / "summary.json").write_text(json.dumps(facts, indent=2, default=float) + "\n")
    print(f"figures in {folder}")


def slice_of(cfg: DictConfig, compression: float) -> Workload:
    """Cut the minutes out of the workload, compressed, over functions that are called in them."""
    whole, _ = build_workload(cfg.workload, cfg.seed)
    whole = shape_traffic(whole, {**plain(cfg.scenario), "compress": 1.0}, cfg.seed)
    # The models here take their own time, not that of the trace's programs.
    whole = replace(whole, service_s=None)
    length_s = 60.0 * cfg.minutes * compression
    start_s = float(cfg.start_s)
    if not 0.0 <= start_s < whole.horizon_s:
        accepted = f">= 0, < {whole.horizon_s:g} s (the workload's length)"
        raise SpecError("start_s", start_s, accepted)
    part = whole.window(start_s, min(start_s + length_s, whole.horizon_s))
    called = np.flatnonzero(np.bincount(part.function, minlength=len(part.names)))
    if not 1 <= cfg.functions <= len(called):
        raise SpecError("functions", cfg.functions, f"1..{len(called)} (called in the slice)")
    rng = np.random.default_rng([cfg.seed, 4])
    chosen = np.sort(rng.choice(called, cfg.functions, replace=False))
    return part.select(chosen).compress(compression)


def _factor(cfg: DictConfig, bundle: Policy | None) -> float | None:
    """Return the factor asked for, the bundle's, or None for this machine's."""
    if cfg.compress is not None:
        return float(cfg.compress)
    # Those of ticks and batches adapt to the cluster's clock.
    if not isinstance(bundle, BundlePolicy):
        return None
    return TRACED_BIN_S / float(bundle.manifest["first_bin_s"])


def _maker(cfg: DictConfig, deployed: Deployed) -> MakePolicy:
    if cfg.bundle is not None:
        return lambda: load_learned(cfg.bundle)
    return maker(on_clock(plain(cfg.policy), deployed.compression))


if __name__ == "__main__":
    main()
