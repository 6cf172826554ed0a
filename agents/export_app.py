"""`stoker export`: hand a trained policy on as a bundle of its own, checked again.

Training has already compared the graph with the torch policy it came from. The copy must carry the
same checksum, fit this version's features, and give a legal answer to every stored observation.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from omegaconf import DictConfig

from stoker.agents.export import CHECKED, OBSERVATIONS
from stoker.agents.learned import bundle_of
from stoker.baselines.base import Policy
from stoker.baselines.batch_bundle import BatchBundle
from stoker.baselines.batched import Batched
from stoker.baselines.bundle import GRAPH, MANIFEST, BundlePolicy, read_manifest
from stoker.baselines.bundles import load_bundle
from stoker.baselines.tick_bundle import TickBundle
from stoker.envs.cluster.errors import SpecError
from stoker.runtime.event_guard import fault


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="export")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    run(cfg, Path(HydraConfig.get().runtime.output_dir))


def run(cfg: DictConfig, folder: Path) -> None:
    """Copy, check and say what the bundle is."""
    trained = Path(cfg.run)
    source = bundle_of(trained, "run")
    observations = stored(trained, int(cfg.observations))
    target = Path(cfg.output) if cfg.output is not None else folder / "bundle"
    if target.exists() and any(path.name not in (GRAPH, MANIFEST) for path in target.iterdir()):
        raise SpecError("output", str(target), "a new folder, or one with a bundle to replace")
    target.mkdir(parents=True, exist_ok=True)
    if target.resolve() != source.resolve():
        for name in (GRAPH, MANIFEST):
            shutil.copyfile(source / name, target / name)
    check(load_bundle(target), observations)
    card = read_manifest(target)["card"]
    chosen = card.get("chosen", card.get("env", "unknown"))
    print(f"{target}: {chosen}, checked on {len(observations):,} observations")
    for name in ("trace", "train", "compression", "profile"):
        if name in card:
            print(f"  {name}: {card[name]}")


def check(policy: Policy, observations: NDArray[np.float32]) -> None:
    """Ask the policy about every observation. Shape: (N, K)"""
    if isinstance(policy, BundlePolicy):
        wrong = fault(policy.act(observations), len(observations))
        if wrong:
            raise SpecError("bundle", wrong, f"a legal plan on {len(observations)} observations")
        return
    asked = policy.batches if isinstance(policy, Batched) else policy
    assert isinstance(asked, TickBundle | BatchBundle)
    asked.prefer(observations)


def stored(run: Path, least: int) -> np.ndarray:
    """Load the observations that training kept. Shape: (N, K)."""
    path = run / OBSERVATIONS
    if not path.is_file():
        raise SpecError("run", str(run), f"a train run's folder, with {OBSERVATIONS} in it")
    try:
        found = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise SpecError("run", str(path), f"an array of observations ({error})") from error
    if least < CHECKED or len(found) < least:
        accepted = f">= {CHECKED}, <= {len(found)} (stored)"
        raise SpecError("observations", least, accepted)
    return np.asarray(found, np.float32)


if __name__ == "__main__":
    main()
