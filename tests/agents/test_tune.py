"""The fair search and `stoker tune`."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from commands import composed, stoker

from stoker.agents import tracks, tune
from stoker.agents.build import build_policy
from stoker.agents.judged import read_tuned
from stoker.baselines import search
from stoker.baselines.registry import POLICIES
from stoker.envs.cluster.errors import SpecError

SMALL = ("workload.functions=20", "workload.hours=1.0", "workload.requests_per_s=0.5")


def away_from(best: float) -> object:
    """Judge a TTL by its distance in log from the best."""
    return lambda node: abs(math.log(node["ttl_s"] / best))


@pytest.mark.parametrize("name", POLICIES)
def test_every_published_setting_is_the_class_s_own_default(name: str) -> None:
    assert (
        vars(build_policy(search.published(name))) == vars(build_policy(name)) or name == "hazard"
    )
    assert build_policy(search.published(name)).rules == build_policy(name).rules


@pytest.mark.parametrize("method", ["tpe", "random", "grid"])
def test_the_search_starts_from_the_published_setting_and_keeps_to_its_trials(method: str) -> None:
    found = search.search("ttl", away_from(90.0), 12, method=method)
    assert len(found.trials) <= 12
    assert found.trials[0].parameters["ttl_s"] == 600.0
    assert found.score == min(trial.score for trial in found.trials)
    assert found.score < found.published_score


def test_the_same_seed_tries_the_same_settings() -> None:
    runs = [search.search("hazard", lambda node: node["slow_decay"], 8, seed=5) for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_policy_with_nothing_to_tune_runs_once() -> None:
    found = search.search("lru", lambda node: 1.0, 30)
    assert len(found.trials) == 1


def test_times_shrink_with_the_trace() -> None:
    assert search.published("ttl", 0.1)["ttl_s"] == pytest.approx(60.0)
    assert search.published("hybrid_histogram", 0.1)["minute_s"] == pytest.approx(6.0)
    found = search.search("ttl", lambda node: node["ttl_s"], 20, scale=0.01)
    assert all(0.01 <= trial.parameters["ttl_s"] <= 144.0 for trial in found.trials)


def test_an_infinite_keep_alive_can_be_found_and_left() -> None:
    longest = search.search("faascache", lambda node: -node["ttl_s"], 12)
    assert longest.node["ttl_s"] == math.inf == search.published("faascache")["ttl_s"]
    shortest = search.search("faascache", lambda node: node["ttl_s"], 12)
    assert shortest.node["ttl_s"] < 28_800.0


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(SpecError, match="policies"):
        search.published("nobody")


def test_every_policy_gets_the_budget_and_the_file_reads_back(tmp_path: Path) -> None:
    cfg = composed("tune", *SMALL, "train_seeds=[0]", "ratios=[0.5]", "policies=[ttl,lru,hazard]")
    cases = tracks.build_cases(cfg, cfg.train_seeds, cfg.ratios)
    requests = sum(len(case.problem.workload) for case in cases)
    cfg.budget_requests = 4 * requests + 1
    found = tune.tune(cfg, cases)
    assert {name: len(result.trials) for name, result in found.items()} == {
        "ttl": 4,
        "lru": 1,
        "hazard": 4,
    }
    assert all(result.score <= result.published_score for result in found.values())
    tune.write(tmp_path, cfg, cases, found)
    assert read_tuned(tmp_path)["ttl"] == found["ttl"].node


def test_a_budget_below_one_pass_is_one_line(tmp_path: Path) -> None:
    done = stoker("tune", *SMALL, "budget_requests=10", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "budget_requests = 10 is not accepted" in line


def test_an_experiment_of_keep_alive_is_tuned_on_its_traffic(tmp_path: Path) -> None:
    words = ("experiment=quickstart", *SMALL, "policies=[lru]", "train_seeds=[1]")
    done = stoker("tune", *words, "budget_requests=20000", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert set(read_tuned(tmp_path)) == {"lru"}
