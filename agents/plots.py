"""The charts of the report, as inline SVG that follows the page's colours.

Text and axes are drawn in a mark colour that becomes `currentColor`, so that one picture serves a
light and a dark page.

Units: cost relative to the best published policy in percent, dollars, seconds, shares of GPU time.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stoker.agents import tables
from stoker.agents.scores import Group, Score, frontier
from stoker.agents.stats import lower_hull

INK = "#010203"
"""Stands for the page's text colour."""
STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#8888884d",
    "legend.frameon": False,
    "legend.fontsize": 9,
}
HUES = {
    "learned": ["#e4572e", "#f0a202", "#c2185b"],
    "hazard": ["#159a6f", "#6aa84f"],
    "yours": ["#9b5de5", "#d16ba5"],
    "published": ["#2a7fd0", "#63a9e6", "#5566c9", "#3fb6c9", "#8aa0c8", "#7d8fb3"],
    "oracle": ["#8a8a8a", "#a5a5a5"],
    "bound": ["#6f6f6f", "#949494"],
}
GPU_HUES = {"busy": "#159a6f", "loading": "#f0a202", "idle": "#8fb8de", "off": "#88888855"}
MARKERS = "osD^vPX*"
WIDTH = 9.2
"""Inches."""
TOP_RATIO = 1.6
"""Costs above this multiple of the best published policy's lie off the chart."""
Groups = Mapping[tuple[str, float], Group]


def colours(scores: Sequence[Score]) -> dict[str, str]:
    """Give every policy a colour of its kind."""
    used: dict[str, int] = {}
    out = {}
    for score in sorted(scores, key=lambda s: s.policy):
        hues = HUES[score.kind]
        out[score.policy] = hues[used.get(score.kind, 0) % len(hues)]
        used[score.kind] = used.get(score.kind, 0) + 1
    return out


def cost_by_ratio(groups: Groups, scores: Sequence[Score]) -> str:
    """Draw cost relative to the best published policy at each ratio, a panel a scenario."""
    scenarios = list(dict.fromkeys(scenario for scenario, _ in groups))
    hues = colours(scores)
    with _figure("ratio", 3.9, len(scenarios)) as (figure, axes, out):
        for axis, scenario in zip(axes, scenarios, strict=True):
            here = {ratio: group for (name, ratio), group in groups.items() if name == scenario}
            _ratio_panel(axis, here, scores, hues)
            axis.set_title(scenario, loc="left")
        axes[0].set_ylabel("cost against the best published")
        _legend_right(figure, axes[-1])
    return out[0]


def cost_against_slo(rows: Sequence[tables.Row], scores: Sequence[Score]) -> str:
    """Draw dollars against SLO attainment: every setting, and the hull of each policy."""
    hues = colours(scores)
    with _figure("slo", 3.9) as (figure, (axis,), out):
        for at, score in enumerate(scores):
            attained, usd = frontier(rows, score.policy)
            if not np.isfinite(attained).any():
                continue
            hue = hues[score.policy]
            line = "--" if score.kind == "oracle" else "-"
            axis.plot(*_percent_first(lower_hull(attained, usd)), line, color=hue, lw=1.6)
            marker = MARKERS[at % len(MARKERS)]
            axis.plot(100.0 * attained, usd, marker, color=hue, ms=4, alpha=0.55)
            main = tables.points(rows, score.policy).index(0)
            x, y = 100.0 * attained[main], usd[main]
            axis.plot(x, y, marker, color=hue, ms=8, label=score.policy)
        axis.set_xlabel("requests within their SLO, %")
        axis.set_ylabel("mean dollars a cell")
        axis.grid(True)
        _legend_right(figure, axis)
    return out[0]


def latency(scores: Sequence[Score]) -> str:
    """Draw P50, P95 and P99 of each policy on a logarithmic axis."""
    shown = [score for score in scores if np.isfinite(score.p50_s)][::-1]
    hues = colours(scores)
    with _figure("latency", 0.9 + 0.32 * len(shown)) as (_, (axis,), out):
        for at, score in enumerate(shown):
            hue = hues[score.policy]
            marks = [score.p50_s, score.p95_s, score.p99_s]
            axis.plot(marks, [at] * 3, "-", color=hue, lw=2, alpha=0.5)
            for value, marker in zip(marks, "|os", strict=True):
                axis.plot(value, at, marker, color=hue, ms=11 if marker == "|" else 6, mew=2)
        axis.set_yticks(range(len(shown)), [score.policy for score in shown])
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xlabel("latency, s:  | P50   \u25cf P95   \u25a0 P99")
        axis.grid(True, axis="x")
        axis.margins(y=0.08)
    return out[0]


def gpu_seconds(scores: Sequence[Score]) -> str:
    """Draw what the GPUs did under each policy, as shares of all GPU-seconds."""
    shown = [score for score in scores if np.isfinite(list(score.gpu_s.values())).all()][::-1]
    with _figure("gpu", 1.1 + 0.32 * len(shown)) as (_, (axis,), out):
        left = np.zeros(len(shown))
        total = np.array([max(sum(score.gpu_s.values()), 1e-12) for score in shown])
        for key, (label, hue) in zip(tables.GPU_KINDS, GPU_HUES.items(), strict=True):
            share = 100.0 * np.array([score.gpu_s[key] for score in shown]) / total
            axis.barh(range(len(shown)), share, 0.66, left, color=hue, label=label)
            left += share
        axis.set_yticks(range(len(shown)), [score.policy for score in shown])
        axis.set_xlabel("share of all GPU-seconds, %")
        axis.set_xlim(0.0, 100.0)
        axis.margins(y=0.04)
        axis.legend(ncols=4, loc="lower left", bbox_to_anchor=(-0.01, 1.0), borderaxespad=0.2)
    return out[0]


def _ratio_panel(
    axis: Axes,
    groups: Mapping[float, Group],
    scores: Sequence[Score],
    hues: Mapping[str, str],
) -> None:
    ratios = list(groups)
    spread = np.linspace(-0.28, 0.28, max(len(scores), 2))
    for at, score in enumerate(scores):
        costs = [groups[ratio].vs_published.get(score.policy) for ratio in ratios]
        found = [(i, c) for i, c in enumerate(costs) if c is not None and c.value <= TOP_RATIO]
        if not found:
            continue
        x = [i + spread[at] for i, _ in found]
        ends = np.array([[c.value, c.low, c.high] for _, c in found]).T
        value, low, high = 100.0 * (ends - 1.0)
        error = np.nan_to_num(np.maximum([value - low, high - value], 0.0))
        marker = MARKERS[at % len(MARKERS)]
        axis.errorbar(
            x, value, error, fmt=marker, color=hues[score.policy], ms=5, lw=1.5, label=score.policy
        )
    axis.axhline(0.0, color=INK, lw=0.8)
    axis.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
    axis.set_xlabel("memory ratio (device memory / working set)")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:+.0f} %" if value else "0")
    axis.set_xlim(-0.5, len(ratios) - 0.5)
    axis.grid(True, axis="y")


@contextmanager
def _figure(
    name: str, height: float, panels: int = 1
) -> Iterator[tuple[Figure, list[Axes], list[str]]]:
    """Open a figure; on leaving, its SVG is the one entry of the list."""
    out: list[str] = []
    # The salt keeps the ids of the charts of one page apart.
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(1, panels, sharey=True, squeeze=False)
        yield figure, list(axes[0]), out
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        out.append(_inline(buffer.getvalue()))


def _inline(svg: str) -> str:
    """Drop prologue and metadata, and let the ink follow the page."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return svg.replace(INK, "currentColor")


def _legend_right(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper")


def _percent_first(
    hull: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    return 100.0 * hull[0], hull[1]
