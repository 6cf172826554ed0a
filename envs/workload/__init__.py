"""Workloads: traces and generators, all turned into one `Workload` type."""

from stoker.envs.workload.workload import Workload

__all__ = ["Workload"]
