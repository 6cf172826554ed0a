"""Result rows, scores, tables and the report, on synthetic results with known answers."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from stoker.agents import report, scores, tables, terminal, wording
from stoker.agents.stats import Interval
from stoker.envs.cluster.errors import SpecError

COSTS = {
    "ttl": ("published", 1.5),
    "faascache": ("published", 1.0),
    "hazard": ("hazard", 0.9),
    "residual": ("learned", 0.85),
    "hazard_oracle": ("oracle", 0.8),
    "clairvoyant": ("bound", 0.5),
}
FRONTIER = [(1.0, 0.95), (0.8, 0.90), (0.9, 0.93), (1.2, 0.97), (1.6, 0.99)]
"""Cost factor and SLO attainment of each setting; the first is the headline."""


def make_rows(frontier: bool = True) -> list[dict[str, Any]]:
    rows = []
    for ratio, trace, seed in [(r, t, s) for r in (0.5, 0.7) for t in ("a", "b") for s in (0, 1)]:
        base = 10.0 * (1 + seed) / ratio
        for policy, (kind, cost) in COSTS.items():
            row: dict[str, Any] = {
                "policy": policy,
                "kind": kind,
                "scenario": "fifo_links",
                "ratio": ratio,
                "trace": trace,
                "seed": seed,
            }
            if kind == "bound":
                rows.append({**row, "total_usd": cost * base})
                continue
            for point, (factor, slo) in enumerate(FRONTIER if frontier else FRONTIER[:1]):
                figures = dict.fromkeys(tables.METRICS, 1.0)
                figures |= {"total_usd": cost * base * factor, "slo_attainment": slo}
                figures |= {"requests": 1000.0, "p50_s": 0.1, "p95_s": 1.0, "p99_s": 5.0}
                rows.append({**row, **figures, "point": point})
    return rows


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def by_name(lines: list[scores.Score]) -> dict[str, scores.Score]:
    return {line.policy: line for line in lines}


def test_rows_survive_parquet(tmp_path: Path) -> None:
    rows = [{**row, "budget": 7} for row in make_rows()]
    back = tables.read_rows(tables.write_rows(rows, tmp_path / "sub" / "results.parquet"))
    assert len(back) == len(rows)
    assert back[0] == {**tables.check_rows(rows)[0]}
    assert np.isnan(back[-1]["p50_s"]), "the bound has a cost only"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "best"}, r"results\[0\].kind = 'best'.*published \| hazard"),
        ({"total_usd": None}, r"results\[0\].total_usd"),
        ({"trace": None}, r"results\[0\].trace"),
    ],
)
def test_bad_rows_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        tables.check_rows([{**make_rows()[0], **change}])


def test_a_cell_given_twice_is_refused() -> None:
    with pytest.raises(SpecError, match="one row a policy, point and cell"):
        tables.check_rows([make_rows()[0]] * 2)


def test_a_policy_that_misses_a_cell_cannot_be_paired(rng: np.random.Generator) -> None:
    rows = [r for r in make_rows() if not (r["policy"] == "ttl" and r["ratio"] == 0.7)]
    with pytest.raises(SpecError, match=r"ttl without scenario fifo_links, ratio 0\.7"):
        scores.score(rows, rng)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(SpecError, match=r"x\.parquet"):
        tables.read_rows(tmp_path / "x.parquet")


def test_references_are_the_cheapest_of_their_kind() -> None:
    known = scores.references(tables.headline(make_rows()))
    assert known == scores.References("faascache", "hazard", "hazard_oracle", "clairvoyant")


def test_scores_by_hand(rng: np.random.Generator) -> None:
    lines = scores.score(make_rows(), rng)
    assert [line.policy for line in lines][:3] == ["clairvoyant", "hazard_oracle", "residual"]
    residual = by_name(lines)["residual"]
    assert residual.cost_usd.value == pytest.approx(0.85 * 15.0 * (2 + 10 / 7) / 2)
    assert residual.vs_published.value == pytest.approx(0.85)
    assert residual.vs_hazard.high == pytest.approx(0.85 / 0.9)
    assert residual.gap_closed.value == pytest.approx(0.75)
    assert residual.regret.value == pytest.approx(0.7)
    assert residual.slo_attainment == pytest.approx(0.95)
    assert residual.gpu_s == dict.fromkeys(tables.GPU_KINDS, 1.0)


def test_dollars_at_matched_slo_come_from_each_policys_frontier(rng: np.random.Generator) -> None:
    line = by_name(scores.score(make_rows(), rng, slo_target=0.96))["faascache"]
    assert line.matched is not None and line.matched.status == "matched"
    assert line.matched.usd.value == pytest.approx(1.1 * line.cost_usd.value)
    far = by_name(scores.score(make_rows(), rng, slo_target=0.999))["faascache"]
    assert wording.matched(far) == "not reached"
    assert by_name(scores.score(make_rows(frontier=False), rng))["faascache"].matched is None


def test_by_ratio_compares_with_the_best_published_there(rng: np.random.Generator) -> None:
    rows = make_rows()
    for row in rows:
        if row["policy"] == "ttl" and row["ratio"] == 0.7:
            row["total_usd"] *= 0.5
    groups = scores.by_ratio(rows, rng)
    assert groups["fifo_links", 0.5].known.published == "faascache"
    group = groups["fifo_links", 0.7]
    assert group.known.published == "ttl"
    assert group.vs_published["residual"].value == pytest.approx(0.85 / 0.75)
    assert group.vs_hazard["residual"].value == pytest.approx(0.85 / 0.9)
    (line,) = [r for r in wording.ratio_rows(groups, ["residual"]) if r[1] == "0.7"]
    assert line[3].startswith("+13.3 %") and line[3].endswith("(ttl)")
    assert line[4].startswith("\u22125.6 %")


def test_scores_become_json_without_nan(rng: np.random.Generator) -> None:
    text = json.dumps(scores.as_records(scores.score(make_rows(), rng)), allow_nan=False)
    assert json.loads(text)[0]["p50_s"] is None


def test_verdicts_say_what_is_sure() -> None:
    less = wording.verdict("x", Interval(0.88, 0.85, 0.91), "y")
    assert less == "x costs 12.0 % less than y (95 % interval 9.0 to 15.0 %)."
    more = wording.verdict("x", Interval(1.1, 1.05, 1.15), "y")
    assert more == "x costs 10.0 % more than y (95 % interval 5.0 to 15.0 %)."
    assert "not surely different" in wording.verdict("x", Interval(0.98, 0.9, 1.06), "y")


def test_findings_state_a_loss_as_it_is(rng: np.random.Generator) -> None:
    rows = make_rows(frontier=False)
    for row in rows:
        row["total_usd"] *= 1.4 if row["policy"] == "residual" else 1.0
    said = wording.findings(scores.score(rows, rng), scores.references(rows))
    assert said[0].startswith("hazard has the lowest cost of the 4 policies")
    assert "residual ranks 3 of 4." in said
    assert any(line.startswith("residual costs 19.0 % more than the best pub") for line in said)


def test_a_lead_that_may_be_chance_is_called_so(rng: np.random.Generator) -> None:
    rows = make_rows(frontier=False)
    for row in rows:
        if row["policy"] == "residual":
            row["total_usd"] *= 1.2 if row["seed"] else 0.8
    said = wording.findings(scores.score(rows, rng), scores.references(rows))
    assert said[0].startswith("hazard") and "surely" not in said[0]
    for row in rows:
        row["total_usd"] *= 0.92 if row["policy"] == "residual" else 1.0
    said = wording.findings(scores.score(rows, rng), scores.references(rows))
    assert said[0].startswith("residual") and "not surely lower than hazard" in said[0]


def test_a_policy_below_the_bound_raises_a_warning(rng: np.random.Generator) -> None:
    rows = make_rows(frontier=False)
    for row in rows:
        row["total_usd"] *= 3.0 if row["kind"] == "bound" else 1.0
    said = wording.findings(scores.score(rows, rng), scores.references(rows))
    assert any("Warning: hazard lies below the bound" in line for line in said)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.6, "1,235"), (0.01234, "0.0123"), (-2.5, "\u22122.50"), (np.nan, "\u2013")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert wording.number(value) == text


def test_terminal_shows_every_policy_and_the_intervals(rng: np.random.Generator) -> None:
    out = io.StringIO()
    lines, known = scores.score(make_rows(), rng), scores.references(tables.headline(make_rows()))
    groups = scores.by_ratio(make_rows(), rng)
    terminal.print_scores(lines, known, 0.95, Console(file=out), groups)
    text = out.getvalue()
    assert all(name in text for name in COSTS)
    assert "At each memory ratio" in text
    assert "\u221215.0 % [\u221215.0, \u221215.0]" in text and "$ at SLO 95.0 %" in text


@pytest.mark.parametrize("width", [80, 100, 180])
def test_no_figure_is_cut_or_broken_on_a_terminal(rng: np.random.Generator, width: int) -> None:
    lines, known = scores.score(make_rows(), rng), scores.references(tables.headline(make_rows()))
    shown = terminal.score_tables(lines, known, 0.95, width)
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True)
    for table in shown:
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\u2026" not in text
    assert all(column.text(lines[1]) in text for column in wording.cost_columns(known, 0.95))
    assert all(column.text(lines[1]) in text for column in wording.service_columns())
    assert (len(shown) == 2) == (width == 180)


def test_large_regrets_have_no_decimals_and_no_kind_is_named_twice(
    rng: np.random.Generator,
) -> None:
    rows = make_rows(frontier=False)
    for row in rows:
        row["total_usd"] /= 9.0 if row["kind"] == "bound" else 1.0
        row["policy"] = "learned" if row["kind"] == "learned" else row["policy"]
    known = scores.references(rows)
    lines = scores.score(rows, rng)
    regret = next(c for c in wording.cost_columns(known, 0.95) if c.head == "regret")
    assert all("." not in regret.text(line) for line in lines)
    first = wording.findings(lines, known)[0]
    assert first.startswith("learned has the lowest cost")


class Links(HTMLParser):
    """Collects what a browser would load, and unbalanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.figures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.figures += tag == "svg"
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#"):
                self.loads.append(f"{tag} {name}={value}")


def test_report_is_one_file_with_four_charts_that_loads_nothing(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    given = {"trace source": "a <synthetic> one", "profile": "gpu-map-1/lognormal"}
    path = tmp_path / "out" / "report.html"
    report.write_report(path, make_rows(), rng, provenance=given, config="seed: 0\n")
    text = path.read_text()
    page = Links()
    page.feed(text)
    assert page.loads == [] and page.figures == 4
    assert "url(http" not in text and "@import" not in text and "<script" not in text
    assert "a &lt;synthetic&gt; one" in text and "seed: 0" in text
    assert "residual costs 15.0 % less than the best published policy, faascache" in text


def test_report_manages_with_one_policy_and_no_yardstick(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    rows = [row for row in make_rows(frontier=False) if row["policy"] == "residual"]
    text = report.write_report(tmp_path / "r.html", rows, rng).read_text()
    assert "residual (learned) has the lowest cost of the 1 policies" in text


def test_same_rows_and_seed_give_the_same_report(tmp_path: Path) -> None:
    first, second = (
        report.write_report(tmp_path / name, make_rows(), np.random.default_rng(0)).read_bytes()
        for name in ("a.html", "b.html")
    )
    assert first == second
