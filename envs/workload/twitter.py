"""Twitter: tweets in each second of two weeks, as InfAdapter and others use them as requests.

The file is one line of integers, separated by spaces: requests in each second, gzipped or plain (no
licence is stated: fetch it yourself, pass nothing on). A count says how many came in a second, not
when: each is put uniformly in its second. The counts rise and fall by turns every half hour and two
hours, which comes of how the archive was resampled, not of the traffic.

Shapes: S seconds, N requests.  Units: seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster.errors import SpecError, require
from stoker.envs.workload import tables
from stoker.envs.workload.workload import Workload


def read_counts(path: str | Path) -> NDArray[np.int64]:
    """Read the requests of every second. Shape: (S,).

    Raises:
        SpecError: names the second (from 0) that holds no whole number >= 0.
    """
    path = Path(path)
    words = tables.text(path).split()
    tables.some(path, len(words))
    bad = next((at for at, word in enumerate(words) if not word.isdecimal()), None)
    if bad is not None:
        raise SpecError(f"{path.name}: second {bad}", words[bad], "a whole number >= 0")
    return np.array(words, np.int64)


def load(
    path: str | Path,
    *,
    rng: np.random.Generator,
    start_s: int = 0,
    end_s: int | None = None,
    keep_probability: float = 1.0,
    name: str = "twitter",
) -> Workload:
    """Turn counts into the requests of one function.

    Args:
        path: the counts.
        rng: places the requests in their seconds, and thins them.
        start_s: first second kept; the workload's time 0.
        end_s: first second left out; None = the end of the file.
        keep_probability: of each request. The whole file has 76.9 million.
        name: the function's name.

    Raises:
        SpecError: names the second, or the option.
    """
    counts = read_counts(path)
    end_s = len(counts) if end_s is None else end_s
    require(0 <= start_s < len(counts), "start_s", start_s, f"0..{len(counts) - 1}")
    require(start_s < end_s <= len(counts), "end_s", end_s, f"{start_s + 1}..{len(counts)}")
    require(0.0 < keep_probability <= 1.0, "keep_probability", keep_probability, "> 0, <= 1")
    kept = counts[start_s:end_s]
    if keep_probability < 1.0:
        kept = rng.binomial(kept, keep_probability)
    arrival_s = rng.random(int(kept.sum()))
    arrival_s += np.arange(len(kept)).repeat(kept)
    arrival_s.sort()
    return Workload(
        arrival_s,
        np.zeros(len(arrival_s), np.int32),
        (name,),
        float(len(kept)),
        source=f"twitter {Path(path).name}; seconds {start_s}-{end_s}, thinned to "
        f"{keep_probability:g}",
    )
