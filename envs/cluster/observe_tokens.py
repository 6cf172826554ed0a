"""What a policy sees of LLM functions whose token budget it sets, and what they have cost.

One row of the observation is flat: for each of S slots an `active` flag and the K features, then
those of the whole cluster. All are free of the size of model, GPU and cluster: times are over the
function's targets of the first token (TTFT) and between tokens (TBT).

Shapes: B rows, S slots, K features, C features of the cluster.  Units: seconds, tokens; costs in
requests.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.features import RATE_WINDOWS_S
from stoker.envs.cluster.jit import entry, njit
from stoker.envs.cluster.llm.iteration import chunk_s, decode_parts, token_s
from stoker.envs.cluster.llm.lane_table import lane_at
from stoker.envs.cluster.llm_books import book_row
from stoker.envs.cluster.observe import log_count
from stoker.envs.cluster.tables import fn_at
from stoker.envs.cluster.token_scan import scan_replicas, scan_requests

BOUND = 10.0
"""Observations are clipped at plus and minus this."""
BUDGETS = (128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 0)
"""Choices of a token budget; 0 = whole prompts first."""
SIZES = len(BUDGETS) - 1
RECENT_S = 10.0, 60.0
"""Over which shares of late tokens and of late first tokens are taken (exponential weights)."""
FEATURES = (
    ("decoding", "requests that put out tokens: ln(1 + n) / 8"),
    ("begun", "prompts that are partly computed: ln(1 + n) / 4"),
    ("waiting", "requests without a first token: ln(1 + n) / 8"),
    ("backlog", "time of their prompts at a budget of 2,048 over the TTFT target: ln(1 + x) / 4"),
    ("slack", "time left to the oldest of them, over the TTFT target; 1 = there is none"),
    ("overdue", "those of them whose target has passed: ln(1 + n) / 8"),
    ("places", "share of the places for running requests that are taken"),
    ("free", "free share of the blocks of key-value memory"),
    ("gap", "mean time between tokens in the last tick, over the TBT target"),
    ("gap_worst", "the longest of them, likewise"),
    ("late", "share of the last tick's tokens that came late"),
    ("late_10s", "the same, decayed over 10 s"),
    ("late_first_60s", "late first tokens over requests, decayed over 60 s"),
    ("prompts", "share of prompt tokens in the last tick's tokens"),
    ("busy", "time of the iterations that ended in the last tick, over its length"),
    ("budget", "the budget that stands, over 512: ln, / 4; 0 for whole prompts"),
    ("whole", "1 = whole prompts first"),
    ("iteration_0", "an iteration of the present decodes alone, over the TBT target"),
    *(
        (f"iteration_{n}", f"one that prompts fill up to {n:,} tokens, likewise")
        for n in BUDGETS[:SIZES]
    ),
    ("targets", "TTFT target over TBT target: ln, / 8"),
    ("prompt", "mean prompt of the requests so far over 2,048 tokens: ln, / 4"),
    ("rate_10s", "arrivals in a TTFT target at the rate of the last 10 s: ln(1 + x) / 4"),
    ("rate_60s", "the same over 60 s"),
    ("rate_600s", "the same over 600 s"),
    ("rate_3600s", "the same over an hour"),
    ("load_10s", "share of the time that their prompts take at 2,048, at the rate of 10 s"),
    ("load_60s", "the same over 60 s"),
    ("load_600s", "the same over 600 s"),
    ("load_3600s", "the same over an hour"),
    ("since", "time since the last arrival over the TTFT target: ln(1 + x) / 4"),
)  # fmt: skip
"""Name and meaning of each column."""
K = len(FEATURES)
CLUSTER_FEATURES = (
    ("all_waiting", "requests of all functions without a first token: ln(1 + n) / 8"),
    ("all_decoding", "requests of all functions that put out tokens: ln(1 + n) / 8"),
)
C = len(CLUSTER_FEATURES)
SLOT = 1 + K
TERMS = ("wait", "first", "between", "drop")
"""Costs in requests; `wait` in targets of the first token, `between` in shares of the output."""
SPENT = (*TERMS, "requests", "tokens", "late_tokens")
"""What is read at a tick: costs, and counts of what came, was put out and was late."""
_GAP, _BUDGET, _TIMES, _RATES = 8, 15, 17, 18 + SIZES


@njit
def _iteration_s(lane, budget, decodes, context):
    """Time of an iteration that a new prompt fills up to a budget beside the decodes."""
    chunk = max(budget - decodes, 0)
    floor, base, slope = decode_parts(lane, decodes)
    prompt_s = chunk_s(lane, chunk, 0) if chunk > 0 else 0.0
    linear_s = token_s(lane, max(chunk + decodes, 1)) + lane["host_s"]
    return linear_s + prompt_s + max(floor, base + slope * context)


@njit
def _read(r, m, p, own):
    """Charge what has been added since the last tick. Shape of own: (7,)"""
    wait = max(m["past_wait"] + m["now_wait"], m["wait"])
    first = max(m["past_first"] + m["now_first"], m["first"])
    drop = max(m["past_drop"] + m["now_drop"], m["drop"])
    own[0], own[1], own[3] = wait - m["wait"], first - m["first"], drop - m["drop"]
    own[2] = p["late_share"] - m["share"]
    own[4] = m["requests"]
    own[5], own[6] = p["gaps"] - m["gaps"], p["late"] - m["late"]
    m["wait"], m["first"], m["drop"], m["share"] = wait, first, drop, p["late_share"]
    m["requests"], m["gaps"], m["late"] = 0, p["gaps"], p["late"]


@njit
def _fade(m, own, dt):
    """Decay the recent counts and add what a tick has brought."""
    kept, kept_first = math.exp(-dt / RECENT_S[0]), math.exp(-dt / RECENT_S[1])
    m["recent_gaps"] = m["recent_gaps"] * kept + own[5]
    m["recent_late"] = m["recent_late"] * kept + own[6]
    m["recent_came"] = m["recent_came"] * kept_first + own[4]
    m["recent_first"] = m["recent_first"] * kept_first + own[1]


@njit
def _share(part, whole):
    return part / whole if whole > 0.0 else 0.0


@njit
def _standing(r, m, p, full_s, row):
    """Fill what waits and runs now."""
    ttft = p["ttft_s"]
    row[0] = log_count(m["decoding"], 8.0)
    row[1] = log_count(m["begun"], 4.0)
    row[2] = log_count(m["waiting"], 8.0)
    row[3] = log_count(m["tokens"] * full_s / ttft, 4.0)
    row[4] = (m["oldest"] + ttft - r["now"]) / ttft if m["waiting"] > 0 else 1.0
    row[5] = log_count(m["overdue"], 8.0)
    row[6] = _share(m["decoding"] + m["begun"], m["places"])
    row[7] = m["free"] / m["blocks"] if m["blocks"] > 0 else 1.0


@njit
def _last_tick(m, p, own, dt, row):
    """Fill what the last tick was like, and begin to note the next one."""
    decoded, prompted = own[5], p["prompt_tokens"] - m["prompted"]
    row[_GAP] = _share(p["gap_s"] - m["gap_s"], decoded) / p["tbt_s"]
    row[_GAP + 1] = p["worst_s"] / p["tbt_s"]
    row[_GAP + 2] = _share(own[6], decoded)
    row[_GAP + 3] = _share(m["recent_late"], m["recent_gaps"])
    row[_GAP + 4] = _share(m["recent_first"], m["recent_came"])
    row[_GAP + 5] = _share(prompted, prompted + decoded)
    row[_GAP + 6] = _share(p["busy_s"] - m["busy_s"], dt)
    m["prompted"], m["gap_s"], m["busy_s"] = p["prompt_tokens"], p["gap_s"], p["busy_s"]
    p["worst_s"] = 0.0


@njit
def _times(m, p, row):
    """Fill the budget that stands, and what iterations of each budget would take."""
    row[_BUDGET] = math.log(p["budget"] / 512.0) / 4.0 if p["budget"] > 0 else 0.0
    row[_BUDGET + 1] = 1.0 if p["budget"] == 0 else 0.0
    each = max(m["replicas"], 1)
    decodes, context = m["decoding"] // each, m["context"] // each
    alone_s = _iteration_s(p, 0, decodes, context) if decodes > 0 else 0.0
    row[_TIMES] = alone_s / p["tbt_s"]
    for j in range(SIZES):
        row[_TIMES + 1 + j] = _iteration_s(p, BUDGETS[j], decodes, context) / p["tbt_s"]


@njit
def _traffic(r, fn, m, p, full_s, row):
    """Fill targets, prompts and rates."""
    ttft, prompt = p["ttft_s"], m["asked"] / max(m["came"], 1)
    row[_RATES] = math.log(ttft / p["tbt_s"]) / 4.0
    row[_RATES + 1] = math.log(max(prompt, 1.0) / 2048.0) / 4.0
    since = r["now"] - fn["last_arrival"]
    for k in range(4):
        window = RATE_WINDOWS_S[k] * r["first_bin"] / 3.0
        rate = fn["rate"][k] * math.exp(-since / window) if fn["arrivals"] > 0 else 0.0
        row[_RATES + 2 + k] = log_count(rate * ttft, 4.0)
        row[_RATES + 6 + k] = rate * prompt * full_s
    row[_RATES + 10] = log_count(since / ttft, 4.0) if fn["arrivals"] > 0 else BOUND


@entry
def observe_tokens(rows, which, slots, observation, spent, memory, marks, last_s):
    """Describe rows `which`, and read what they have cost since the last call.

    Args:
        rows: Shape: (B,)
        which: rows to describe. Shape: (N,)
        slots: functions a row has room for.
        observation: filled. Shape: (B, S * SLOT + C)
        spent: filled for every function, zeros in empty slots, see SPENT. Shape: (B, S, 7)
        memory: kept from call to call, zeros at first; see MEMORY. Shape: (B, S)
        marks: likewise: requests below have their first token, had come by then. Shape: (B, 2)
        last_s: likewise: when a row was described last. Shape: (B,)
    """
    full = BUDGETS[SIZES - 1]
    for n in range(which.shape[0]):
        k = which[n]
        r, row = rows[k], observation[k]
        dt = r["now"] - last_s[k]
        book_row(r)
        marks[k, 0] = scan_requests(r, memory[k], marks[k, 0], marks[k, 1])
        marks[k, 1], last_s[k] = r["next_req"], r["now"]
        scan_replicas(r, memory[k])
        waiting = decoding = 0
        for f in range(r["fns"]):
            fn, m, own = fn_at(r["fn"], f), memory[k][f], spent[k, f]
            p = lane_at(r["lane"], fn["llm"])
            mine = row[f * SLOT + 1 : (f + 1) * SLOT]
            full_s = _iteration_s(p, full, 0, 0) / full
            _read(r, m, p, own)
            _fade(m, own, dt)
            row[f * SLOT] = 1.0
            _standing(r, m, p, full_s, mine)
            _last_tick(m, p, own, dt, mine)
            _times(m, p, mine)
            _traffic(r, fn, m, p, full_s, mine)
            waiting += m["waiting"]
            decoding += m["decoding"]
        for f in range(r["fns"], slots):
            spent[k, f] = 0.0
        row[r["fns"] * SLOT : slots * SLOT] = 0.0
        row[slots * SLOT] = log_count(waiting, 8.0)
        row[slots * SLOT + 1] = log_count(decoding, 8.0)
        for j in range(row.shape[0]):
            row[j] = min(max(row[j], -BOUND), BOUND)
