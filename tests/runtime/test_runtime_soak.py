"""Load on real models while things go wrong: a short soak, and each mishap once."""

from __future__ import annotations

import pytest
from small_models import CNN, GPT, MakeModel
from test_runtime_replay import made_for

from stoker.baselines.ttl import FixedTtl
from stoker.envs.cluster.errors import SpecError
from stoker.runtime.catalog import deploy
from stoker.runtime.mishaps import MISHAPS
from stoker.runtime.soak import SoakReport, SoakSettings, soak


def brief(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> SoakReport:
    """A soak of some seconds in which these mishaps alone happen."""
    for name in set(MISHAPS) - set(names):
        monkeypatch.delitem(MISHAPS, name)
    served = deploy([make_model("gpt", GPT, 1), make_model("cnn", CNN, 2)], 4)
    largest = max(d.device_bytes for d in served)
    cluster = made_for(served, 2 * largest, 2 * largest)
    settings = SoakSettings(minutes=0.08, rate_hz=60.0, mishap_every_s=0.7)
    return soak(cluster, served, [lambda: FixedTtl(0.2), lambda: FixedTtl(2.0)], settings)


GROUPS = (
    ("worker killed",),
    ("weights cut short", "weights gone"),
    ("half of the clients gone", "payloads that are no payloads"),
    ("200 requests at once", "loop stalled"),
    ("policy misbehaves", "policy replaced", "broken policy offered"),
)


def test_every_mishap_is_in_a_group() -> None:
    assert sorted(name for group in GROUPS for name in group) == sorted(MISHAPS)


@pytest.mark.parametrize(
    "names",
    [GROUPS[0], *(pytest.param(group, marks=pytest.mark.slow) for group in GROUPS[1:])],
    ids=lambda names: names[0],
)
def test_every_request_is_accounted_for(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    report = brief(make_model, monkeypatch, names)
    assert report.accounted and report.sent > 100
    assert set(report.mishaps) <= set(names) and report.mishaps.total() > 0
    assert report.ends["served"] > 0 and report.wrong == 0
    assert report.left == []
    assert report.counts["served"] == report.ends["served"]


def test_bad_settings_are_refused() -> None:
    for name in ("minutes", "rate_hz", "mishap_every_s"):
        with pytest.raises(SpecError, match=f"soak.{name}"):
            SoakSettings(**{name: 0.0})
