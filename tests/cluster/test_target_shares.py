"""Shares of requests by the weights of targets, against sequences worked out by hand.

Units: seconds, GiB.
"""

from test_targets import aim, gpus, model, start

from stoker.envs.cluster.spec import Cluster


def test_shares_follow_the_weights_among_those_that_can_take_work() -> None:
    # One call every 2 s, 1 s of work: start tags (A 3, B 1) 0 0 1/3 2/3 | 1 1 ...: A B A A.
    calls = [(10.0 + 2.0 * k, 0) for k in range(12)]
    sim = start(Cluster(gpus(4.0, 4.0), (model("a", alpha_s=1.0),)), calls)
    aim(sim, [0, 0], gpu=[0, 1], min=1, max=1, weight=[3.0, 1.0])
    sim.run()
    on = sim.state.inst[0]["gpu"][sim.state.req[0]["inst"]]
    assert on.tolist() == [0, 1, 0, 0] * 3


def test_the_other_takes_what_the_first_cannot_and_nobody_catches_up() -> None:
    # GPU 0 takes the first call and works until 15; GPU 1 takes the next, whatever the weights say.
    # At 16 GPU 0 is next, and once again the order is A B A A, not a burst on GPU 0.
    a = model("a", alpha_s=5.0)
    calls = [(10.0, 0), (11.0, 0)] + [(30.0 + 10.0 * k, 0) for k in range(8)]
    sim = start(Cluster(gpus(4.0, 4.0), (a,)), calls)
    aim(sim, [0, 0], gpu=[0, 1], min=1, max=1, weight=[3.0, 1.0])
    sim.run()
    on = sim.state.inst[0]["gpu"][sim.state.req[0]["inst"]]
    assert on.tolist() == [0, 1] + [0, 0, 0, 1] * 2


def test_a_target_without_weight_comes_last() -> None:
    calls = [(10.0, 0), (10.0, 0), (30.0, 0), (50.0, 0)]
    sim = start(Cluster(gpus(4.0, 4.0), (model("a", alpha_s=5.0),)), calls)
    aim(sim, [0, 0], gpu=[0, 1], min=1, max=1, weight=[0.0, 1.0])
    sim.run()
    on = sim.state.inst[0]["gpu"][sim.state.req[0]["inst"]]
    assert on.tolist() == [1, 0, 1, 1]


def test_shares_count_requests_not_batches() -> None:
    # Batches of 3 on one side count thrice: weights 1 and 1, all at once 3 + 1 + ... by hand:
    # at 10 three wait: A takes 3 (finish tag 3); single calls at 20, 30, 40 go to B (tags 0 1 2),
    # that at 50 finds both at 3: A.
    calls = [(10.0, 0)] * 3 + [(20.0, 0), (30.0, 0), (40.0, 0), (50.0, 0)]
    a = model("a", alpha_s=1.0, max_batch=3)
    sim = start(Cluster(gpus(4.0, 4.0), (a,)), calls)
    orders = {"min_batch": 3, "batch_wait_s": 0.5}
    aim(sim, [0, 0], orders, gpu=[0, 1], min=1, max=1, weight=1.0)
    sim.run()
    on = sim.state.inst[0]["gpu"][sim.state.req[0]["inst"]]
    assert on.tolist() == [0, 0, 0, 1, 1, 1, 0]


def test_shares_hold_where_requests_have_instances_of_their_own() -> None:
    calls = [(10.0 + 2.0 * k, 0) for k in range(4)]
    rules = {"scale_out": "per_request", "overload": "drop"}
    sim = start(Cluster(gpus(4.0, 4.0), (model("a", alpha_s=1.0),)), calls, **rules)
    aim(sim, [0, 0], gpu=[0, 1], min=1, max=1, weight=[3.0, 1.0])
    sim.run()
    on = sim.state.inst[0]["gpu"][sim.state.req[0]["inst"]]
    assert on.tolist() == [0, 1, 0, 0]
