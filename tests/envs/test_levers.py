"""What the levers order, allow and put in place of what they do not allow."""

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Cluster, Function, Gpu, Node
from stoker.envs.levers import Batch, KeepAlive, Levers, Prewarm, Scene, Swap

INF = float("inf")


def cluster(host_gib=8.0, cheap_gib=6.0):
    """A and b of 4 GiB, c of 10 GiB without weights; 2 x 10 GiB dear, 2 x 6 GiB cheap."""
    functions = (
        Function("a", 4.0, 4.0, max_batch=8),
        Function("b", 9.0, 4.0, max_batch=2),
        Function("c", 0.0, 10.0),
    )
    dear = Node((Gpu(10.0, 4.0, "dear"),) * 2, host_gib=host_gib)
    cheap = Node((Gpu(cheap_gib, 1.0, "cheap"),) * 2)
    return Cluster((dear, cheap), functions)


def test_keepalive_masks_host_copies_without_room_or_weights():
    assert KeepAlive().mask(cluster()).tolist() == [
        [True] * 6,
        [True] * 3 + [False] * 3,  # 9 GiB of weights, 8 GiB of host memory
        [True] * 3 + [False] * 3,
    ]


def test_prewarm_masks_what_a_class_cannot_hold():
    # Of 4 GiB a dear GPU holds two and a cheap one one: 4 and 2; of 10 GiB one and none.
    assert Prewarm().mask(cluster()).tolist() == [
        [True, True, True, True, True, True, False],
        [True, True, True, True, True, True, False],
        [True, True, True, False, False, False, False],
    ]
    alone = Cluster(Node((Gpu(10.0),)), (Function("a", 4.0, 4.0),))
    assert Prewarm().mask(alone).tolist() == [[True, True, True] + [False] * 4]


def test_batch_masks_choices_that_are_alike():
    assert Batch().mask(cluster()).tolist() == [
        [True, True, True],
        [True, False, True],  # half of two is one
        [True, False, False],
    ]


def test_orders_are_those_of_the_tables():
    scene = Scene.empty(1, 6)
    scene.stretch[:] = 0.5
    choice = np.arange(6)[None]
    kept = KeepAlive().orders(choice, scene)
    assert kept["keep_alive_s"].tolist() == [[0.0, 7.5, INF] * 2]
    assert kept["host_keep_alive_s"].tolist() == [[0.0] * 3 + [INF] * 3]
    swapped = Swap().orders(choice, scene)
    assert swapped["keep_alive_s"].tolist() == [[0.0, 0.0, INF, INF, 0.0, INF]]
    assert swapped["host_keep_alive_s"].tolist() == [[0.0, INF, 0.0, INF, INF, INF]]
    assert swapped["prewarm_host"].tolist() == [[0, 0, 0, 0, 1, 0]]
    assert swapped["prewarm"].tolist() == [[0, 0, 0, 0, 0, 1]]


def test_a_class_is_named_by_its_price():
    scene = Scene.empty(1, 7)
    scene.classes[0] = (1, 0)  # the second class of this row is the dearest
    ordered = Prewarm().orders(np.arange(7)[None], scene)
    assert ordered["gpu_class"].tolist() == [[-1, 1, 1, 1, 0, 0, 0]]
    assert ordered["prewarm"].tolist() == [[0, 1, 2, 4, 1, 2, 4]]
    assert ordered["keep_alive_s"].tolist() == [[0.0] + [INF] * 6]


def test_a_batch_waits_for_a_quarter_of_the_target():
    scene = Scene.empty(1, 3)
    scene.max_batch[:] = 7
    scene.slo_s[0, :2] = 8.0
    ordered = Batch().orders(np.array([[0, 1, 2]]), scene)
    assert ordered["min_batch"].tolist() == [[1, 4, 7]]
    assert ordered["batch_wait_s"].tolist() == [[2.0, 2.0, 1.0]]


def test_masked_choices_fall_back_lever_by_lever():
    levers = Levers(Swap(), Prewarm())
    masks = levers.mask(cluster(), 4)[None]
    assert masks.shape == (1, 4, 13)
    assert masks[0, 3].nonzero()[0].tolist() == [0, 6]  # an empty slot: choice 0 of each lever
    asked = levers.check([[4, 6, 4, 5, 3, 6, 5, 1]], 1, 4)
    legal, clipped = levers.legalise(asked, masks)
    # b: no room on the host, so 4 -> 1 -> 0; c: 3 -> 2, and 6 -> 3 -> 2; the empty slot: all gone.
    assert legal.tolist() == [[[4, 3], [0, 5], [2, 2], [0, 0]]]
    assert clipped.tolist() == [6]


def test_the_larger_order_counts_where_two_levers_order_the_same():
    levers, scene = Levers(Swap(), Prewarm()), Scene.empty(1, 2)
    ordered = levers.decide(np.array([[[0, 2], [5, 0]]]), scene)
    assert ordered.prewarm is not None
    assert ordered.keep_alive_s is not None
    assert ordered.prewarm.tolist() == [[2, 1]]
    assert ordered.keep_alive_s.tolist() == [[INF, INF]]


@pytest.mark.parametrize("actions", [[[0, 7]], [[6, 0]], [[-1, 0]], [[0, 0, 0, 0]], [[0.5, 0.0]]])
def test_wrong_actions_are_named(actions):
    with pytest.raises(SpecError, match="action"):
        Levers(Swap(), Prewarm()).check(actions, 1, 1)
