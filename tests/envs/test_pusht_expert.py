"""The scripted expert: what its play looks like, and that it can do the tasks."""

import gymnasium as gym
import numpy as np
import pytest

import grasp_envs  # noqa: F401
from grasp_envs.pusht_expert import RING, SPOTS, _pushed
from grasp_envs.pusht_simulation import AGENT_RADIUS, PushTSimulation, local_distance


def make(name, **arguments):
    return gym.make(f"grasp_envs/{name}", disable_env_checker=True, **arguments).unwrapped


def play(seed, steps=100, **arguments):
    env = make("PushTReach-v0", **arguments)
    env.reset(seed=seed)
    expert = env.make_expert(seed)
    actions, infos = [], []
    for _ in range(steps):
        action = expert.act()
        assert env.action_space.contains(action)
        actions.append(action)
        infos.append(env.step(action)[-1])
    return np.array(actions), infos


def test_wandering_is_contact_rich_purposeful_and_keeps_off_the_walls():
    contact, wall, still, turns, deviations = [], [], [], [], []
    for seed in range(20):
        actions, infos = play(seed)
        contact += [info["n_agent_block_contacts"] > 0 for info in infos]
        wall += [info["n_block_wall_contacts"] > 0 for info in infos]
        states = np.array([info["state"] for info in infos])
        moved = np.hypot(*(states[25:, 2:4] - states[:-25, 2:4]).T)
        turned = states[25:, 4] - states[:-25, 4]
        still += list((moved < 2.0) & (np.abs(turned) < 0.03))
        turns += list(turned[::25])
        deviations.append(actions.std(0))
    assert np.mean(contact) >= 0.38
    assert np.mean(wall) < 0.02
    assert np.mean(still) < 0.1
    # Left and right turns alike.
    assert np.mean(np.array(turns) > 0.2) > 0.15
    assert np.mean(np.array(turns) < -0.2) > 0.15
    assert 0.2 < np.mean(deviations) < 0.4


def steps_in_touch(seed, leaning):
    """Of 100 steps of play: how close the agent came to the block and how far it aimed, [100, 2] [px]."""
    env = make("PushTReach-v0")
    env.reset(seed=seed)
    expert = env.make_expert(seed, leaning=leaning)
    steps = []
    for _ in range(100):
        action = expert.act()
        env.step(action)
        x, y, block_x, block_y, angle = env.get_state()[:5]
        cos, sin = np.cos(angle), np.sin(angle)
        local = cos * (x - block_x) + sin * (y - block_y), cos * (y - block_y) - sin * (x - block_x)
        steps.append((local_distance(*local) - AGENT_RADIUS, 100.0 * np.hypot(*action)))
    return np.array(steps)


def test_leaning_it_stays_in_touch_and_hardly_moves():
    """With 3 in 10 strokes interrupted about a third of all steps is near the block with a target near by."""
    shares = {}
    for leaning in (0.0, 0.3):
        gap, aim = np.concatenate([steps_in_touch(seed, leaning) for seed in range(12)]).T
        shares[leaning] = np.mean((gap < 6.0) & (aim < 8.5))
    assert shares[0.0] < 0.05 and 0.15 < shares[0.3] < 0.5


def test_without_leaning_the_play_is_as_ever():
    """Goals of all seeds hang on it."""
    goal = make("PushTReach-v0").reset(seed=10000)[1]["goal_state"]
    np.testing.assert_allclose(goal, [389.485, 367.254, 326.425, 415.788, -3.428], atol=0.5)


@pytest.mark.parametrize("leaning", [-0.1, 1.5, np.nan, True, "a", None])
def test_leaning_is_a_share(leaning):
    with pytest.raises(ValueError, match="expected leaning to be a number from 0 to 1, got"):
        make("PushT-v0").make_expert(0, leaning=leaning)


def test_an_expert_with_a_goal_does_not_lean():
    with pytest.raises(ValueError, match=r"expected no leaning of an expert with a goal, .* got leaning 0\.3"):
        make("PushT-v0").make_expert(0, goal=[260.0, 240.0, 0.3], leaning=0.3)


def test_the_same_seed_plays_the_same_and_another_differently():
    first, _ = play(3, 60)
    again, _ = play(3, 60)
    np.testing.assert_array_equal(first, again)
    env = make("PushTReach-v0")
    env.reset(seed=3)
    expert = env.make_expert(4)
    other = []
    for _ in range(60):
        other.append(expert.act())
        env.step(other[-1])
    assert not np.array_equal(first, np.array(other))


def test_both_controls_get_the_same_play():
    relative, infos = play(5, 40)
    absolute, other_infos = play(5, 40, control="absolute")
    assert np.abs(relative).max() <= 1.0 < absolute.max() <= 512.0
    # Equal but for the actions' float32 rounding.
    np.testing.assert_allclose(infos[9]["state"], other_infos[9]["state"], rtol=0, atol=0.05)


def test_walking_way_points_clear_the_block():
    for corner, following in zip(RING, (*RING[1:], RING[0]), strict=True):
        for share in np.linspace(0.0, 1.0, 20):
            point = [a + share * (b - a) for a, b in zip(corner, following, strict=True)]
            assert local_distance(*point) > AGENT_RADIUS + 5.0
    for x, y, normal_x, normal_y in SPOTS:
        assert abs(local_distance(x, y)) < 1e-9
        assert local_distance(x - 8.0 * normal_x, y - 8.0 * normal_y) == pytest.approx(8.0)


@pytest.mark.parametrize("index", [1, 4, 9, 15, 19, 25])
def test_predicted_pushes_come_true(index):
    spot = SPOTS[index]
    start = (256.0, 200.0, 0.0)
    agent = [256.0 + spot[0] - 15.5 * spot[2], 200.0 + spot[1] - 15.5 * spot[3]]
    simulation = PushTSimulation()
    simulation.set_state([*agent, *start, 0.0, 0.0])
    for _ in range(8):
        simulation.step(agent[0] + 12.5 * spot[2], agent[1] + 12.5 * spot[3])
    travelled = np.hypot(simulation.agent_x - agent[0], simulation.agent_y - agent[1]) - 0.5
    predicted = _pushed(start, spot, float(travelled))
    np.testing.assert_allclose(simulation.block_pose[:2], predicted[:2], atol=2.0)
    assert simulation.block_angle == pytest.approx(predicted[2], abs=0.03)


def test_it_solves_most_classic_tasks():
    solved = 0
    for seed in range(10):
        env = make("PushT-v0")
        env.reset(seed=seed)
        expert = env.make_expert(seed, goal="task")
        for _ in range(300):
            *_, terminated, _, info = env.step(expert.act())
            if terminated:
                assert info["is_success"] and info["coverage"] > 0.95
                solved += 1
                break
    assert solved >= 6


def test_it_reaches_most_goals():
    solved = 0
    for seed in range(20):
        env = make("PushTReach-v0")
        env.reset(seed=seed)
        expert = env.make_expert(seed, goal="task")
        reached, truncated = False, False
        while not truncated:
            *_, truncated, info = env.step(expert.act())
            reached |= info["is_success"]
        solved += reached
    assert solved >= 10


def test_it_takes_a_goal_in_numbers():
    reached = 0
    for seed in range(6):
        env = make("PushT-v0")
        env.reset(seed=0, options={"state": [100.0, 100.0, 200.0, 200.0, 0.0]})
        expert = env.make_expert(seed, goal=[260.0, 240.0, 0.3])
        for _ in range(120):
            env.step(expert.act())
        x, y, angle = env.get_state()[2:5]
        reached += np.hypot(x - 260.0, y - 240.0) < 10.0 and abs(angle - 0.3) < 0.15
    assert reached >= 3


def test_other_goals_are_refused():
    env = make("PushT-v0")
    with pytest.raises(ValueError, match='"task"'):
        env.make_expert(0, goal="win")
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        env.make_expert(0, goal=[1.0, 2.0, 3.0, 4.0])
