"""The engine as a planner for a real backend: facts in, orders out, nothing waits or sleeps.

The controller reports what has happened (`arrive`, `ready`, `completed`, `failed`) and the clock
(`advance`); the same tables, rules and features as in simulation answer with effects to carry out.

Units: seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.envs.cluster import engine
from stoker.envs.cluster.batch_due import Books
from stoker.envs.cluster.batching import ask_live, obey_live
from stoker.envs.cluster.decision import Capabilities, Decision, IdlePlan, Snapshot
from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.idle import act_rows, observe_rows
from stoker.envs.cluster.live_check import check_live
from stoker.envs.cluster.live_effects import Effect, Reject, Run, SetTokenBudget, decode
from stoker.envs.cluster.live_entries import (
    arrive_one,
    cancel_one,
    completed_one,
    failed_at_once,
    ready_one,
)
from stoker.envs.cluster.live_requests import LiveRequests
from stoker.envs.cluster.live_rules import switch
from stoker.envs.cluster.outcome import Result
from stoker.envs.cluster.policy_like import BatchedLike, PolicyLike
from stoker.envs.cluster.recollection import Memory, recall, remember
from stoker.envs.cluster.simulation import Simulation
from stoker.envs.cluster.spec import Cluster, Rules
from stoker.envs.cluster.tables import EFFECT, FETCHING, FREE, NONE, READY, STARTING
from stoker.envs.workload.workload import Workload

EFFECT_BUFFER = 65536


class LiveEngine:
    """One cluster whose loads and batches are real.

    Args:
        cluster: what the backend consists of; its durations only inform the rules.
        rules: event-level choices.
        capacity: requests that the tables hold at first; they grow.
        act: event policy, asked whenever a function becomes idle; it must not raise.
        batched: asked whenever a batch may start; its `batches` must not raise.
        residency_s: what has been loaded leaves before so long only if a request needs the memory.
        recycle: forget requests that have ended, for a service that runs on; `result` then knows
            of the latest alone. Else the tables grow.
    """

    def __init__(
        self,
        cluster: Cluster,
        rules: Rules | None = None,
        capacity: int = 4096,
        act: Callable[[NDArray[np.float32]], IdlePlan] | None = None,
        batched: BatchedLike | None = None,
        residency_s: float = 0.0,
        recycle: bool = False,
    ) -> None:
        check_live(cluster, residency_s)
        names = tuple(f.name for f in cluster.functions)
        empty = Workload(np.zeros(0), np.zeros(0, np.int32), names, 1.0, source="live")
        self._sim = Simulation([cluster], [empty], rules)
        self._state = self._sim.state
        self._state.effect = np.zeros((1, EFFECT_BUFFER), EFFECT)
        self._inflight: dict[int, list[tuple[int, ...]]] = {}
        """Requests of the batches that run, by instance."""
        self._act, self._batched = act, batched
        row = self._row
        row["live"], row["horizon"], row["pause"] = 1, np.inf, act is not None
        if batched is not None:
            row["batching"] = 1
            self._books = Books.empty(1, len(names), True, batched.sizes)
        row["residency_s"] = residency_s
        row["images"] = 0  # no backend parks layers or lends yet
        self._sim.capabilities = Capabilities(targets=False, capacity=False, layers=False)
        self._orders: list[Effect] = []
        self._budgets = np.full(len(names), -1)
        """Token budgets that were ordered; -1 = none yet, the backend's own stands."""
        self._requests = LiveRequests(self._state, capacity, recycle)

    @property
    def _row(self) -> Any:
        return self._state.rows[0]

    @property
    def simulation(self) -> Simulation:
        """The tables, for whoever looks at them."""
        return self._sim

    @property
    def capabilities(self) -> Capabilities:
        """What `apply` clips orders to."""
        return self._sim.capabilities

    def _ready_for_one(self) -> None:
        """Make sure that the tables can hold whatever one fact may cause."""
        row = self._row
        while row["free_n"] < 2 + row["fns"] + row["queued"]:
            self._state.grow_instances()
        if row["heap_cap"] - row["heap_n"] < 4 * row["queued"] + engine.RESERVE + 4 * row["fns"]:
            self._state.grow_heap(int(2 * row["heap_cap"] + 4 * row["queued"]))

    def _catch_up(self, t: float) -> None:
        """Fire the timers that were due before t, so that facts and timers keep their order."""
        if self.next_timer() < t:
            self.advance(float(np.nextafter(t, -np.inf)))
        self._ready_for_one()

    def arrive(self, t: float, fn: int, service_hint: float | None = None) -> int:
        """A request for function `fn` has come; return its id. `service_hint` is not used yet."""
        if not 0 <= fn < int(self._row["fns"]):
            raise SpecError("fn", fn, f"0..{int(self._row['fns']) - 1}")
        self._requests.make_room()
        self.advance(t)
        self._ready_for_one()
        q = self._requests.take(t, fn)
        arrive_one(self._state.rows, q, t)
        self._decide()
        return q

    def ready(self, t: float, instance: int) -> None:
        """A load (or a fetch to the host) has finished; ignored if the instance has been lost."""
        if self._state.inst[0, instance]["state"] not in (STARTING, FETCHING):
            return
        self._catch_up(t)
        ready_one(self._state.rows, instance, t)
        self._decide()

    def completed(self, t: float, head: int) -> None:
        """The batch whose first request is `head` is done; ignored if it has failed meanwhile."""
        self._collect()
        self._catch_up(t)
        instance = int(self._state.req[0][head]["inst"])
        batch = next((b for b in self._inflight.get(instance, []) if b[0] == head), None)
        if batch is None:  # it has failed with its instance meanwhile
            return
        self._inflight[instance].remove(batch)
        completed_one(self._state.rows, head, len(batch), t)
        self._requests.end(batch)
        self._decide()

    def cancel(self, t: float, request: int) -> bool:
        """Take a request out of its queue; False if it stands in none: it runs, or has ended."""
        self._catch_up(t)
        left = bool(cancel_one(self._state.rows, request, t))
        if left:
            self._requests.end((request,))
        return left

    def follow(self, rules: Rules) -> None:
        """Evict and plan by other rules from now on; what else they say must stay as it is."""
        switch(self._sim, rules)

    @property
    def pending(self) -> int:
        """The function that the event policy is being asked about; -1 = none."""
        return int(self._row["pending"])

    def remember(self, t: float) -> Memory:
        """What is known at t of each function's traffic, and the prices; plain arrays."""
        self.advance(t)
        return remember(self._state, self._state.workloads[0].names)

    def recall(self, memory: Memory, away_s: float = 0.0) -> None:
        """Take over what an engine remembered; it stopped `away_s` before this one's time 0."""
        recall(self._state, self._state.workloads[0].names, memory, away_s)

    def failed(self, t: float, *instances: int) -> None:
        """Loads failed or a worker died: the requests of these instances fail with them.

        What is lost at once is told at once: nothing is planned on what has gone too. Orders to it
        that have not been fetched yet are void.
        """
        # Lost before timers that are overdue fire: they would make plans with it.
        t = min(t, self.next_timer())
        self._ready_for_one()
        self._collect()
        table = self._state.inst[0]
        gone = [i for i in instances if table[i]["state"] != FREE]
        if not gone:
            return
        # Those that start up first: who waits fails with the last one, but not with one of several.
        gone.sort(key=lambda i: bool(table[i]["state"] == READY))
        self._orders = [o for o in self._orders if getattr(o, "instance", None) not in gone]
        batches = [(i, b[0], len(b)) for i in gone for b in self._inflight.pop(i, [])]
        lost = table[gone]
        failed_at_once(
            self._state.rows,
            np.array(gone, np.int64),
            np.unique(lost["gpu"][lost["state"] == READY]).astype(np.int64),
            np.array(batches, np.int64).reshape(-1, 3),
            t,
        )
        self._decide()

    def advance(self, t: float) -> None:
        """Fire the timers up to and including t (an earlier t than the last one fires none)."""
        row = self._row
        if t < row["now"]:
            return
        if self.next_timer() <= t or row["starved"]:
            self._ready_for_one()
            self._sim.run(float(np.nextafter(t, np.inf)))
        while self._decide():
            self._sim.run(float(np.nextafter(t, np.inf)))
        row["now"] = t

    def _decide(self) -> bool:
        """Ask the event policy about what waits for a decision, if anything does."""
        if self._row["pending"] == NONE:
            return False
        if self._batched is not None:
            self._decide_batches(self._batched)
            return True
        assert self._act is not None
        observe_rows(self._state.rows, self._sim.pending.books)
        act_rows(self._state.rows, self._act(self._sim.pending.observation).columns)
        return True

    def _decide_batches(self, policy: BatchedLike) -> None:
        """Ask about one function after the other, as long as a batch may start."""
        rows, due = self._state.rows, self._books.due
        while True:
            ask_live(rows, self._books.columns)
            if self._row["pending"] == NONE:
                return
            actions = np.zeros_like(self._books.room)
            actions[0, due.function[0]] = policy.batches.decide(self._books.observation, due)[0]
            obey_live(rows, actions, policy.sizes, policy.wait_share)

    def observe(self, policy: PolicyLike) -> None:
        """Fill `Snapshot.observation` from now on, if the policy asks for it."""
        self._sim.observe(policy)

    def next_timer(self) -> float:
        """When `advance` is due next; inf if nothing is scheduled."""
        return float(self._state.heap[0, 0]["t"]) if self._row["heap_n"] else float("inf")

    def apply(self, decision: Decision) -> None:
        """Take over standing orders of shape (1, F) and carry them out."""
        self._ready_for_one()
        self._sim.apply(decision)
        if decision.token_budget is not None:
            self._set_budgets(self._state.fn["token_budget"][0])

    def _set_budgets(self, wanted: NDArray[np.int64]) -> None:
        """Order what has changed: decoders form their iterations on the backend. Shape: (F,)"""
        for fn in np.flatnonzero(wanted != self._budgets).tolist():
            self._orders.append(SetTokenBudget(fn, int(wanted[fn])))
        self._budgets = wanted.copy()

    def snapshot(self) -> Snapshot:
        """What a policy sees now; the arrays are views."""
        return self._sim.snapshot()

    def effects(self) -> list[Effect]:
        """The orders since the last call, in order."""
        self._collect()
        orders, self._orders = self._orders, []
        self._requests.told()
        return orders

    def _collect(self) -> None:
        """Decode the orders that the engine has recorded."""
        n = int(self._row["effects"])
        if n > EFFECT_BUFFER:
            raise SpecError("effects", n, f"at most {EFFECT_BUFFER} between two calls")
        self._row["effects"] = 0
        self._orders += [self._decode(e) for e in self._state.effect[0, :n].tolist()]

    def _decode(self, record: tuple[int, ...]) -> Effect:
        order = decode(record, self._state.req[0]["next"])
        if isinstance(order, Run):
            self._inflight.setdefault(order.instance, []).append(order.requests)
        elif isinstance(order, Reject):
            self._requests.end((order.request,))
        return order

    def result(self, t: float) -> Result:
        """Outcome and bill up to t, in the form of the simulator."""
        self.advance(t)
        seen, req = self._requests.workload(self._state.workloads[0].names, t)
        whole, self._state.workloads = self._state.workloads, [seen]
        table, self._state.req = self._state.req, [req]
        try:
            return self._sim.result()
        finally:
            self._state.workloads, self._state.req = whole, table
