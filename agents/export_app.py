"""`stoker export`: hand a trained policy on as a bundle of its own, checked again.

Training has already compared the graph with the torch policy it came from. The copy must carry the
same checksum, fit this version's features, and give a legal plan on every stored observation.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from stoker.agents.export import CHECKED, OBSERVATIONS
from stoker.agents.learned import load_learned
from stoker.baselines.bundle import GRAPH, MANIFEST, BundlePolicy
from stoker.envs.cluster.errors import SpecError
from stoker.runtime.event_guard import fault


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="export")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    run = Path(cfg.run)
    source = load_learned(run, "run").folder
    observations = stored(run, int(cfg.observations))
    folder = Path(HydraConfig.get().runtime.output_dir)
    target = Path(cfg.output) if cfg.output is not None else folder / "bundle"
    if target.exists() and any(path.name not in (GRAPH, MANIFEST) for path in target.iterdir()):
        raise SpecError("output", str(target), "a new folder, or one with a bundle to replace")
    target.mkdir(parents=True, exist_ok=True)
    if target.resolve() != source.resolve():
        for name in (GRAPH, MANIFEST):
            shutil.copyfile(source / name, target / name)
    policy = BundlePolicy(target)
    wrong = fault(policy.act(observations), len(observations))
    if wrong:
        raise SpecError("bundle", wrong, f"a legal plan on {len(observations)} observations")
    card = policy.manifest["card"]
    chosen = card.get("chosen", "unknown")
    print(f"{target}: {chosen}, checked on {len(observations):,} observations")
    for name in ("trace", "train", "compression", "profile"):
        if name in card:
            print(f"  {name}: {card[name]}")


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
