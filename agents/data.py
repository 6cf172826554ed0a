"""`stoker data fetch NAME`, `stoker data list`: public traces from their own sources."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from stoker.envs.cluster.errors import SpecError


@hydra.main(version_base="1.3", config_path="pkg://stoker.conf", config_name="data")
def main(cfg: DictConfig) -> None:
    """Run the command."""
    if cfg.action not in ("list", "fetch"):
        raise SpecError("action", cfg.action, "list | fetch")


if __name__ == "__main__":
    main()
