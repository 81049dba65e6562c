"""The simulated world: physics recorded from gym-pusht 0.1.8, coverage, geometry, state."""

import copy
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from grasp_envs.pusht_simulation import (
    AGENT_RADIUS,
    PushTSimulation,
    block_distance,
    coverage,
    is_legal_start,
    keypoints,
    local_distance,
    random_start,
)

RECORDED = Path(__file__).parent / "data" / "gym_pusht_0.1.8_trajectories.npz"
GOAL = (256.0, 256.0, math.pi / 4)


def world(state):
    simulation = PushTSimulation()
    simulation.set_state([*state, 0.0, 0.0])
    return simulation


def test_trajectories_and_coverage_equal_gym_pusht():
    with np.load(RECORDED) as recorded:
        states, targets, coverages = recorded["S"], recorded["A"], recorded["C"]
    assert states.shape == (40, 61, 5)
    for episode in range(len(states)):
        simulation = world(states[episode, 0])
        for t, target in enumerate(targets[episode]):
            simulation.step(*map(float, target))
            np.testing.assert_allclose(simulation.get_state()[:5], states[episode, t + 1], rtol=0, atol=1e-9)
            assert coverage(simulation.block_pose, GOAL) == pytest.approx(coverages[episode, t], abs=1e-9)


def test_agent_follows_its_controller_from_rest():
    simulation = world([100, 250, 400, 400, 0.0])
    travelled = []
    for _ in range(4):
        simulation.step(200.0, 250.0)
        travelled.append(simulation.agent_x - 100.0)
    np.testing.assert_allclose(travelled, [29.6, 61.6, 80.8, 90.7], atol=0.05)
    assert simulation.agent_y == 250.0


def test_contacts_are_told_apart():
    simulation = world([256, 200, 256, 256, 0.0])
    simulation.step(256.0, 200.0)
    assert (simulation.agent_block_contacts, simulation.block_wall_contacts) == (0, 0)
    # Down the middle of the bar: touching the block while the far wall is still away.
    for _ in range(6):
        simulation.step(256.0, simulation.agent_y + 30.0)
    assert simulation.agent_block_contacts > 0
    assert simulation.block_wall_contacts == 0
    pressed = []
    while simulation.block_y < 425.0:
        simulation.step(256.0, simulation.agent_y + 30.0)
        pressed.append(simulation.block_wall_contacts > 0)
        assert simulation.agent_block_contacts > 0
    # The stem's end, 120 px further down, meets the wall's face at 504 on the way.
    assert not pressed[0] and any(pressed)
    # Out of touch again, the block stays where it was pressed.
    for _ in range(8):
        simulation.step(256.0, simulation.agent_y - 30.0)
    assert simulation.agent_block_contacts == 0


def test_a_push_through_the_centre_of_gravity_does_not_turn_the_block():
    simulation = world([256, 200, 256, 256, 0.0])
    for _ in range(10):
        simulation.step(256.0, simulation.agent_y + 20.0)
    assert simulation.block_y > 275.0
    assert simulation.block_x == pytest.approx(256.0, abs=1e-6)
    assert simulation.block_angle == pytest.approx(0.0, abs=1e-6)
    # The agent may sink in by the solver's slop, no more.
    assert simulation.block_y - simulation.agent_y == pytest.approx(AGENT_RADIUS, abs=0.5)


def test_set_state_sets_what_get_state_gets():
    rng = np.random.default_rng(0)
    simulation = PushTSimulation()
    quiet = 0
    for _ in range(20):
        state = np.concatenate([rng.uniform(150, 360, 4), rng.uniform(-9, 9, 1), rng.uniform(-200, 200, 2)])
        simulation.set_state(state)
        np.testing.assert_array_equal(simulation.get_state(), state)
        # And physically so: an agent kept away leaves the block where it was put.
        if block_distance(simulation.block_pose, simulation.agent_x, simulation.agent_y) > 45.0:
            quiet += 1
            simulation.step(simulation.agent_x, simulation.agent_y)
            np.testing.assert_allclose(simulation.get_state()[2:5], state[2:5], rtol=0, atol=1e-9)
    assert quiet > 3


def test_a_state_set_during_contact_moves_as_if_reached_afresh():
    first = world([256, 236, 256, 256, 0.3])
    for _ in range(5):
        first.step(270.0, 300.0)
    twins = [world([256, 236, 256, 256, 0.3]) for _ in range(2)]
    # One twin has a past, which set_state must wipe out.
    for _ in range(3):
        twins[1].step(100.0, 100.0)
    for twin in twins:
        twin.set_state(first.get_state())
        twin.step(280.0, 320.0)
    np.testing.assert_array_equal(twins[0].get_state(), twins[1].get_state())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_are_in_the_same_state_and_move_alike(duplicate):
    simulation = world([256, 200, 256, 256, 0.4])
    simulation.step(256.0, 215.0)
    twin = duplicate(simulation)
    np.testing.assert_array_equal(twin.get_state(), simulation.get_state())
    for _ in range(8):
        simulation.step(256.0, 300.0)
        twin.step(256.0, 300.0)
    assert simulation.block_y > 260.0
    np.testing.assert_allclose(twin.get_state(), simulation.get_state(), rtol=0, atol=1e-9)


def test_coverage_of_known_overlaps():
    assert coverage(GOAL, GOAL) == pytest.approx(1.0, abs=1e-12)
    assert coverage((100.0, 100.0, 0.0), (400.0, 400.0, 1.0)) == 0.0
    # Shifted by d along its stem the T loses 120 px times d: its whole width, once.
    for shift in (2.0, 11.0):
        expected = (6300.0 - 120.0 * shift) / 6300.0
        assert coverage((200.0, 200.0 + shift, 0.0), (200.0, 200.0, 0.0)) == pytest.approx(expected, abs=1e-12)
    # Upside down about the bar's middle line, only the bars coincide.
    assert coverage((200.0, 230.0, math.pi), (200.0, 200.0, 0.0)) == pytest.approx(3600 / 6300, abs=1e-12)


def test_coverage_is_symmetric_and_moves_with_the_pair():
    rng = np.random.default_rng(1)
    overlapping = 0
    for _ in range(100):
        a = (*rng.uniform(200, 300, 2), rng.uniform(-4, 4))
        b = (*rng.uniform(200, 300, 2), rng.uniform(-4, 4))
        value = coverage(a, b)
        overlapping += 0.0 < value < 1.0
        assert coverage(b, a) == pytest.approx(value, abs=1e-12)
        cos, sin = math.cos(0.7), math.sin(0.7)
        moved = [(cos * x - sin * y + 9, sin * x + cos * y - 5, angle + 0.7) for x, y, angle in (a, b)]
        assert coverage(*moved) == pytest.approx(value, abs=1e-12)
    assert overlapping > 50


def test_distance_to_the_block():
    assert local_distance(0.0, -10.0) == 10.0
    assert local_distance(63.0, 34.0) == 5.0  # past a corner
    assert local_distance(0.0, 30.0) == -15.0  # where bar and stem meet is inside
    assert local_distance(25.0, 60.0) == 10.0  # beside the stem
    # A quarter turn: what was below is now to the left.
    assert block_distance((100.0, 100.0, math.pi / 2), 100.0 - 130.0, 100.0) == pytest.approx(10.0)


def test_keypoints_are_gym_pushts():
    expected = [(40, 200), (160, 200), (160, 230), (40, 230), (85, 230), (115, 230), (115, 320), (85, 320)]
    np.testing.assert_allclose(keypoints((100.0, 200.0, 0.0)), expected)
    # A quarter turn takes (x, y) to (-y, x).
    turned = [(100 - (y - 200), 200 + (x - 100)) for x, y in expected]
    np.testing.assert_allclose(keypoints((100.0, 200.0, math.pi / 2)), turned)


def test_legal_starts():
    assert is_legal_start(100.0, 100.0, (256.0, 256.0, 0.0))
    assert not is_legal_start(256.0, 245.0, (256.0, 256.0, 0.0))  # 11 px off the bar, radius 15
    assert is_legal_start(256.0, 240.0, (256.0, 256.0, 0.0))
    assert not is_legal_start(100.0, 100.0, (256.0, 390.0, 0.0))  # the stem ends at 510
    assert not is_legal_start(400.0, 400.0, (60.0, 256.0, 0.0))  # the bar starts at 0


def test_random_starts_are_apart_inside_the_walls_and_at_rest():
    rng = np.random.default_rng(2)
    starts = np.array([random_start(rng) for _ in range(200)])
    for start in starts:
        # What overlaps is pushed apart by the physics: nothing touches and nothing moves.
        simulation = PushTSimulation()
        simulation.set_state(start)
        simulation.step(start[0], start[1])
        assert (simulation.agent_block_contacts, simulation.block_wall_contacts) == (0, 0)
        np.testing.assert_allclose(simulation.get_state(), start, rtol=0, atol=1e-9)
    assert starts[:, :2].min() >= 50 and starts[:, :2].max() <= 449
    assert starts[:, 2:4].min() >= 100 and starts[:, 2:4].max() <= 399
    assert np.abs(starts[:, 4]).max() <= math.pi and (starts[:, 4] > 2).any() and (starts[:, 4] < -2).any()
    assert not starts[:, 5:].any()
