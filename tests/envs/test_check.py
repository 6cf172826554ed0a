"""The vector checker finds what it is there to find."""

import numpy as np
import pytest

from stoker.envs.check import CheckError, check_vector_env
from stoker.envs.cluster_view import ClusterVectorEnv
from stoker.envs.problems import SyntheticProblems

TINY = SyntheticProblems(functions=3, hours=0.25, requests_per_s=0.05)


class RowsDepend(ClusterVectorEnv):
    """Row streams that depend on the number of rows."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None if seed is None else seed + self.num_envs, options=options)


class ForgetsClips(ClusterVectorEnv):
    """Masked actions are not counted."""

    def step(self, actions):
        out = super().step(actions)
        out[4]["clipped"] = np.zeros_like(out[4]["clipped"])
        return out


class LeavesBounds(ClusterVectorEnv):
    """An observation outside the space."""

    def step(self, actions):
        out = super().step(actions)
        out[0][0, 0] = 99.0
        return out


class HidesTheEnd(ClusterVectorEnv):
    """final_obs marks no row."""

    def step(self, actions):
        out = super().step(actions)
        if "_final_obs" in out[4]:
            out[4]["_final_obs"] = ~out[4]["_final_obs"]
        return out


def check(kind, **options):
    check_vector_env(lambda rows: kind(rows, TINY, **options), rows=(1, 4), steps=6)


def test_a_sound_environment_passes():
    check(ClusterVectorEnv, max_functions=5)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (RowsDepend, {}, "rows differ"),
        (ForgetsClips, {"max_functions": 5}, "clipped"),
        (LeavesBounds, {}, "outside its space"),
        (HidesTheEnd, {}, "_final_obs"),
        (ClusterVectorEnv, {"copy": False}, "later step changes"),
    ],
)
def test_a_broken_environment_is_named(kind, options, message):
    with pytest.raises(CheckError, match=message):
        check(kind, **options)
