"""What is paid for: GPU-seconds by kind, byte-seconds by tier, the online price of memory.

A GPU-second has one kind: busy, else loading, else idle (something resident), else off.
The price of the disk link is the number of loads, a slot, that a load finds waiting: a second spent
on the link delays that many others by a second.
The price of memory is in s/(GiB s): seconds of waiting that a GiB-second of device memory saves.
It moves towards the index of each victim and decays while memory is free (reference: shadow price
of the capacity row of the keep-alive LP).  Units: seconds, bytes, GiB.
"""

from __future__ import annotations

import math

from stoker.envs.cluster.jit import hot, njit
from stoker.envs.cluster.tables import fn_at, gpu_at, link_at, node_at

GIB = float(2**30)
PRICE_STEP = 0.02
"""Share of the distance to a victim's index that the price moves at an eviction."""
PRICE_DECAY_BINS = 200.0
"""Decay time of the price while memory is free, in first bins (600 s at the default of 3 s)."""
FREE_SHARE = 0.03
LINK_STEP = 0.02
"""Share of the distance to the present queue that the price of the disk link moves at a load."""


@hot
def touch_gpu(r, g, t):
    """Book the time since the last change on GPU g under its present kind."""
    gpu = gpu_at(r["gpu"], g)
    dt = t - gpu["t"]
    if dt > 0.0:
        if gpu["busy"] > 0:
            gpu["busy_s"] += dt
        elif gpu["loading"] > 0:
            gpu["loading_s"] += dt
        elif gpu["resident"] > 0:
            gpu["idle_s"] += dt
        else:
            gpu["off_s"] += dt
        gpu["byte_s"] += dt * gpu["used"]
        gpu["t"] = t
    return gpu


@njit
def touch_host(r, n, t):
    """Book the host bytes held on node n since the last change."""
    node = node_at(r["node"], n)
    node["host_byte_s"] += (t - node["host_t"]) * node["host_used"]
    node["host_t"] = t


@njit
def touch_price(r, t):
    """Bring the integral of the price up to t, and let the price decay while memory is free."""
    dt = t - r["price_t"]
    if dt <= 0.0:
        return
    r["price_t"] = t
    r["price_sum"] += dt * r["price"]
    cap = r["cap"] - r["off"]
    if r["price"] > 0.0 and cap - r["used"] > FREE_SHARE * cap:
        r["price"] *= math.exp(-dt / (PRICE_DECAY_BINS * r["first_bin"]))


@njit
def move_price(r, t, score):
    """Move the price towards the index of a victim (an infinite score names no price)."""
    touch_price(r, t)
    if abs(score) < math.inf:
        r["price"] += PRICE_STEP * (score - r["price"])


@hot
def charge(r, f, t):
    """Charge function f for what it has held since the last change; call before a change."""
    fn = fn_at(r["fn"], f)
    dt = t - fn["held_t"]
    if dt > 0.0:
        touch_price(r, t)
        gib = fn["held"] / GIB
        fn["acc_gib_s"] += gib * dt
        fn["acc_rent"] += fn["held_rent"] * dt
        fn["acc_host_gib_s"] += fn["held_host"] / GIB * dt
        fn["acc_shadow"] += gib * (r["price_sum"] - fn["held_price"])
    fn["held_t"] = t
    fn["held_price"] = r["price_sum"]


@hot
def hold(r, f, g, change, t):
    """Function f holds so many bytes more (or less) on GPU g from t on."""
    fn = fn_at(r["fn"], f)
    charge(r, f, t)
    fn["held"] += change
    rent = change * gpu_at(r["gpu"], g)["byte_rent"]
    fn["held_rent"] = fn["held_rent"] + rent if fn["held"] > 0 else 0.0


@hot
def charge_load(r, n, f, seconds):
    """Book a start-up of f on node n and charge its row the price of the link for it."""
    fn = fn_at(r["fn"], f)
    disk = link_at(r["link"], n)
    r["load_s"] += seconds
    fn["acc_load_s"] += seconds
    fn["acc_shadow"] += seconds * r["link_price"]
    r["link_price"] += LINK_STEP * (disk["queued"] / disk["slots"] - r["link_price"])
