"""ServeGen: clients of Alibaba Model Studio, each with its rate, burstiness and lengths over time.

A tar.gz (Apache-2.0) with `data/FAMILY/MODEL/chunk-i-trace.csv` for client i, a line every 600 s
without a header: window_start_s, rate (requests a second), cv, pattern (Gamma, Weibull or empty),
two parameters of which the first is the shape; and perhaps `chunk-i-dataset.json` with the
distributions of its lengths in windows of six hours. These are statistics, not requests: each
window of a client is drawn as a renewal process of its pattern, shape and rate (Poisson where the
pattern is empty), lengths independently of each other. A function is a client.

A prompt has input_tokens; or text_tokens and, for each of image, audio and video, as many as its
count says times its tokens. A client without lengths (five of m-small) borrows those of another,
drawn; where no client has any, the workload has none.

Shapes: W windows, N requests.  Units: seconds, requests per second, tokens.
"""

from __future__ import annotations

import csv
import io
import math
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.workload.servegen_lengths import Lengths, draw_tokens, read_lengths
from stoker.envs.workload.workload import Workload

WINDOW_S = 600.0
PATTERNS = ("", "Gamma", "Weibull")
Floats = NDArray[np.float64]


@dataclass
class Client:
    """What is known of a client."""

    number: int
    start_s: Floats = field(default_factory=lambda: np.zeros(0))
    """Beginning of each window. Shape: (W,)"""
    rate: Floats = field(default_factory=lambda: np.zeros(0))
    """Requests a second. Shape: (W,)"""
    cv: Floats = field(default_factory=lambda: np.zeros(0))
    """Coefficient of variation of the gaps. Shape: (W,)"""
    pattern: list[str] = field(default_factory=list)
    shape: Floats = field(default_factory=lambda: np.zeros(0))
    """Of the pattern's distribution. Shape: (W,)"""
    lengths: list[Lengths] = field(default_factory=list)
    """Distributions, in order of their windows; empty = not known."""


def read(path: str | Path, model: str) -> list[Client]:
    """Read the clients of a model ("language/m-small"), in order of their numbers.

    Raises:
        SpecError: names the member of the archive, its line and column.
    """
    path = Path(path)
    clients: dict[int, Client] = {}
    wanted = re.compile(rf"(?:.*/)?data/{re.escape(model)}/chunk-(\d+)-(trace\.csv|dataset\.json)")
    found: set[str] = set()
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                found |= set(re.findall(r"data/(.+)/chunk-\d+-trace\.csv", member.name))
                match = wanted.fullmatch(member.name)
                stream = archive.extractfile(member) if match else None
                if match and stream:
                    client = clients.setdefault(int(match[1]), Client(int(match[1])))
                    text = stream.read().decode()
                    if match[2] == "trace.csv":
                        _read_windows(member.name, text, client)
                    else:
                        client.lengths = read_lengths(member.name, text)
    except (OSError, EOFError, tarfile.TarError, UnicodeDecodeError) as error:
        raise SpecError("path", str(path), f"a whole tar archive ({error})") from error
    made = [clients[number] for number in sorted(clients) if len(clients[number].rate)]
    if not made:
        raise SpecError("model", model, " | ".join(sorted(found)) or "an archive with clients")
    return made


def load(
    path: str | Path,
    *,
    rng: np.random.Generator,
    model: str = "language/m-small",
    start_s: float = 0.0,
    hours: float = 1.0,
    rate_factor: float = 1.0,
    clients: int | None = None,
) -> Workload:
    """Draw the requests of a model's clients.

    Args:
        path: the archive.
        rng: draws arrivals and lengths.
        model: the folder below `data` in the archive.
        start_s: where in the statistics the workload begins, a multiple of 600 s.
        hours: length of the workload.
        rate_factor: on every rate; burstiness stays. m-small has 1,174 requests a second in all.
        clients: keep those of the highest rate in the window; None = all.

    Raises:
        SpecError: names the member of the archive, its line and column, or the option.
    """
    known = read(path, model)
    end_s = start_s + hours * 3600.0
    span_s = max(float(c.start_s[-1]) for c in known) + WINDOW_S
    good = start_s >= 0.0 and start_s % WINDOW_S == 0.0 and start_s < span_s
    require(good, "start_s", start_s, f"a multiple of {WINDOW_S:g} in 0..{span_s:g}")
    most = (span_s - start_s) / 3600.0
    require(0.0 < hours <= most, "hours", hours, f"> 0, <= {most:g} (to the end of the statistics)")
    require(0.0 < rate_factor < math.inf, "rate_factor", rate_factor, "finite, > 0")
    if clients is not None:
        require(1 <= clients <= len(known), "clients", clients, f"1..{len(known)}")
        heavy = sorted(known, key=lambda c: -_expected(c, start_s, end_s))[:clients]
        known = sorted(heavy, key=lambda c: c.number)
    drawn = [_arrivals(rng, c, start_s, end_s, rate_factor) for c in known]
    prompts, outputs = draw_tokens(rng, [c.lengths for c in known], drawn)
    arrival_s = np.concatenate(drawn) - start_s
    order = arrival_s.argsort(kind="stable")
    function = np.arange(len(known), dtype=np.int32).repeat([len(times) for times in drawn])
    return Workload(
        arrival_s[order],
        function[order],
        tuple(f"client-{c.number}" for c in known),
        hours * 3600.0,
        prompt_tokens=None if prompts is None else prompts[order],
        output_tokens=None if outputs is None else outputs[order],
        source=f"servegen {model}; {len(known)} clients, from {start_s:g} s, rate x{rate_factor:g}",
    )


def _expected(client: Client, start_s: float, end_s: float) -> float:
    """Sum a client's rates over the windows of an interval."""
    return float(client.rate[(client.start_s >= start_s) & (client.start_s < end_s)].sum())


def _read_windows(name: str, text: str, client: Client) -> None:
    """Fill in the windows of a client."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if not rows:
        raise SpecError(f"{name}: rows", 0, "at least one window")
    numbers = np.array([_numbers(name, at, row) for at, row in enumerate(rows, 1)])
    early = np.flatnonzero(np.diff(numbers[:, 0]) <= 0.0)
    if len(early):
        at = int(early[0]) + 1
        before, value = numbers[at - 1, 0], float(numbers[at, 0])
        raise SpecError(f"{name}:{at + 1} window_start_s", value, f"> {before} before it")
    client.start_s, client.rate, client.cv, client.shape = numbers.T
    client.pattern = [row[3] for row in rows]


def _numbers(name: str, at: int, row: list[str]) -> list[float]:
    """Return start, rate, cv and shape of a window."""
    if len(row) != 6:
        raise SpecError(f"{name}:{at} columns", len(row), "6 columns")
    if row[3] not in PATTERNS:
        raise SpecError(f"{name}:{at} pattern", row[3], "Gamma | Weibull | (empty)")
    out = []
    for column, cell in zip(
        ("window_start_s", "rate", "cv", "p1"), (*row[:3], row[4]), strict=True
    ):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not 0.0 <= value < math.inf:
            raise SpecError(f"{name}:{at} {column}", cell, "a finite number >= 0")
        out.append(value)
    if row[3] and out[1] > 0.0 and out[3] == 0.0:
        raise SpecError(f"{name}:{at} p1", row[4], "> 0 (the shape of the pattern)")
    return out


def _arrivals(
    rng: np.random.Generator, client: Client, start_s: float, end_s: float, factor: float
) -> Floats:
    """Draw the requests of a client, window by window. Shape: (N,)."""
    times = [np.zeros(0)]
    for w in np.flatnonzero((client.start_s >= start_s) & (client.start_s < end_s)).tolist():
        rate = float(client.rate[w]) * factor
        until_s = min(float(client.start_s[w]) + WINDOW_S, end_s) - float(client.start_s[w])
        if rate > 0.0:
            gaps = _renewal(rng, rate, until_s, client.pattern[w], float(client.shape[w]))
            times.append(client.start_s[w] + gaps)
    return np.concatenate(times)


def _renewal(
    rng: np.random.Generator, rate: float, until_s: float, pattern: str, shape: float
) -> Floats:
    """Draw a renewal process in its long-run state on [0, until_s). Shape: (N,)."""
    if not pattern:
        return np.sort(rng.random(rng.poisson(rate * until_s)) * until_s)
    unit = 1.0 / (rate * (shape if pattern == "Gamma" else math.gamma(1.0 + 1.0 / shape)))
    # The gap that contains time 0 is drawn in proportion to its length, time 0 uniform within it.
    if pattern == "Gamma":
        around = rng.gamma(shape + 1.0) * unit
    else:
        around = rng.gamma(1.0 + 1.0 / shape) ** (1.0 / shape) * unit
    reached = around * rng.random()
    blocks = [np.array([reached])]
    while reached < until_s:
        n = int((until_s - reached) * rate * 1.1) + 16
        gaps = rng.gamma(shape, size=n) if pattern == "Gamma" else rng.weibull(shape, n)
        blocks.append(reached + (gaps * unit).cumsum())
        reached = float(blocks[-1][-1])
    times = np.concatenate(blocks)
    return times[times < until_s]
