"""Policies by name, by class and by path."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from stoker.baselines.base import Policy
from stoker.baselines.registry import POLICIES, load_policy
from stoker.envs.cluster.errors import SpecError

MINE = """
import numpy as np
from stoker.baselines.base import Policy
from stoker.envs.cluster.decision import Decision

class Mine(Policy):
    def __init__(self, ttl_s=300.0):
        if ttl_s < 0:
            raise TypeError("inside the constructor")
        self.ttl_s = ttl_s

    def decide(self, snapshot):
        return Decision(keep_alive_s=np.full(snapshot.idle.shape, self.ttl_s))

class NotOne:
    pass
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "my_policy.py").write_text(MINE)
    return f"{tmp_path / 'my_policy.py'}:Mine"


def test_a_class_in_a_file_becomes_a_policy_with_its_arguments(mine: str) -> None:
    assert isinstance(load_policy(mine), Policy)
    assert load_policy(mine, ttl_s=5.0).ttl_s == 5.0  # type: ignore[attr-defined]
    assert load_policy({"_target_": mine, "ttl_s": 7.0}).ttl_s == 7.0  # type: ignore[attr-defined]


def test_a_policy_from_a_file_can_be_pickled_and_is_loaded_once(mine: str) -> None:
    policy = load_policy(mine, ttl_s=5.0)
    assert type(load_policy(mine)) is type(policy)
    assert np.isclose(pickle.loads(pickle.dumps(policy)).ttl_s, 5.0)


def test_an_edited_file_is_loaded_anew(mine: str) -> None:
    before = type(load_policy(mine))
    path = Path(mine.rsplit(":", 1)[0])
    path.write_text(MINE.replace("300.0", "60.0"))
    assert type(load_policy(mine)) is not before
    assert load_policy(mine).ttl_s == 60.0  # type: ignore[attr-defined]


def test_a_dotted_class_is_found(mine: str) -> None:
    assert type(load_policy("stoker.baselines.base.Policy")) is Policy


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("hazrd", "policy = 'hazrd' is not accepted: expected ttl | lru"),
        ("stoker.baselines.nothing.Here", "hazard"),
        ("/nowhere/p.py:Mine", "an existing file"),
    ],
)
def test_what_does_not_exist_lists_the_choices(spec: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_policy(spec)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["NotOne", "Missing"])
def test_a_class_that_is_no_policy_names_those_that_are(mine: str, name: str) -> None:
    with pytest.raises(SpecError, match="here: Mine"):
        load_policy(mine.replace("Mine", name))


def test_an_unknown_argument_is_the_users_mistake(mine: str) -> None:
    with pytest.raises(SpecError, match="tll_s"):
        load_policy(mine, tll_s=5.0)


def test_an_error_inside_the_constructor_stays_as_it_is(mine: str) -> None:
    with pytest.raises(TypeError, match="inside the constructor"):
        load_policy(mine, ttl_s=-1.0)


def test_a_mapping_without_target_is_refused() -> None:
    with pytest.raises(SpecError, match="_target_"):
        load_policy({"ttl_s": 3.0})


def test_registered_names_are_classes_of_this_package() -> None:
    assert all(target.startswith("stoker.baselines.") for target in POLICIES.values())
