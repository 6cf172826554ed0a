"""A tiny cluster on a time grid, driven by dice: any run of it is some policy's run.

Pooled memory, requests queue, instances of `slots` requests, start-ups from disk or host, host
copies fetched or left behind. Written apart from the engine and from the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stoker.envs.cluster.spec import Cluster
from stoker.envs.workload import Workload


@dataclass
class Dice:
    """Chances a step: a policy's temper."""

    serve: float
    start: float
    prewarm: float
    drop: float
    host: float
    refuse: float = 0.0


@dataclass
class Instance:
    fn: int
    ready_s: float
    done_s: list[float] = field(default_factory=list)


def run(
    cluster: Cluster,
    workload: Workload,
    dice: Dice,
    rng: np.random.Generator,
    *,
    stop: bool = False,
    step_s: float = 0.25,
) -> float:
    """Dollars of one run; times of the workload and of start-ups lie on the grid.

    With `stop` the run ends at the horizon, and those who wait then have waited until then.
    """
    goal, functions = cluster.objective, cluster.functions
    live: list[Instance] = []
    queues: list[list[tuple[float, float]]] = [[] for _ in functions]
    copy_s = np.full(len(functions), np.inf)
    cost, next_, now = 0.0, 0, 0.0
    while next_ < len(workload) or any(queues) or now < workload.horizon_s:
        if stop and now >= workload.horizon_s:
            left = sum(now - arrived_s for queue in queues for arrived_s, _ in queue)
            return cost + goal.wait_usd_s * left
        calm = now > workload.horizon_s + 200.0
        for inst in live:
            inst.done_s = [t for t in inst.done_s if t > now]
        while next_ < len(workload) and workload.arrival_s[next_] <= now:
            fn = int(workload.function[next_])
            service_s = functions[fn].alpha_s + functions[fn].beta_s
            queues[fn].append((float(workload.arrival_s[next_]), service_s))
            next_ += 1
        for inst in list(live):
            idle = inst.ready_s <= now and not inst.done_s
            wanted = bool(queues[inst.fn]) and not calm
            if idle and not wanted and (rng.random() < dice.drop or (calm and not queues[inst.fn])):
                live.remove(inst)
                if cluster.node.host_gib > 0.0 and rng.random() < dice.host:
                    copy_s[inst.fn] = min(copy_s[inst.fn], now)
        for fn in rng.permutation(len(functions)):
            spec, waiting = functions[fn], queues[fn]
            mine = [i for i in live if i.fn == fn]
            loading = sum(i.ready_s > now for i in mine)
            chance = dice.prewarm
            if len(waiting) > loading * spec.concurrency * spec.max_batch:
                chance = 1.0 if calm else dice.start
            used = sum(functions[i.fn].device_gib for i in live)
            if rng.random() < chance and used + spec.device_gib <= cluster.device_gib:
                source = "host" if copy_s[fn] <= now else "disk"
                load_s = cluster.load_s(int(fn), source)
                live.append(Instance(int(fn), now + load_s))
                cost += goal.load_usd_s * load_s
            if cluster.node.host_gib > 0.0 and rng.random() < 0.1 * dice.host:
                leg_s = cluster.load_s(int(fn), "disk") - cluster.load_s(int(fn), "host")
                if copy_s[fn] == np.inf:
                    copy_s[fn] = now + leg_s
                    cost += goal.load_usd_s * leg_s
                elif copy_s[fn] <= now:
                    copy_s[fn] = np.inf
            for inst in [i for i in live if i.fn == fn and i.ready_s <= now]:
                free = spec.concurrency * spec.max_batch - len(inst.done_s)
                while free > 0 and waiting and (calm or rng.random() < dice.serve):
                    arrived_s, service_s = waiting.pop(0)
                    cost += goal.wait_usd_s * (now - arrived_s)
                    inst.done_s.append(now + service_s)
                    free -= 1
            if waiting and rng.random() < dice.refuse:
                cost += goal.drop_usd + goal.wait_usd_s * (now - waiting.pop(0)[0])
        if now < workload.horizon_s:
            held = sum(functions[i.fn].device_gib for i in live)
            cost += held * cluster.device_usd_gib_s * step_s
            copies = sum(
                f.weights_gib for f, at in zip(functions, copy_s, strict=True) if at <= now
            )
            cost += copies * cluster.host_usd_gib_s * step_s
        now += step_s
    return cost
