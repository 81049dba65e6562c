"""Push-T and goal-reaching Push-T as Gymnasium environments."""

import copy
import itertools
import math
import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from env_checks import check_that_the_seed_decides_everything, equal
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.passive_env_checker import env_render_passive_checker

import grasp_envs  # noqa: F401
from grasp_envs.pusht_simulation import PushTSimulation, keypoints

IDS = ("PushT-v0", "PushTReach-v0")
OBS_TYPES = ("state", "environment_state_agent_pos", "pixels", "pixels_agent_pos")
START = [150.0, 120.0, 300.0, 280.0, 0.7]
GOAL = [310.0, 330.0, 260.0, 250.0, -0.4]
CLASSIC = (256.0, 256.0, math.pi / 4)


def make(name, **arguments):
    return gym.make(f"grasp_envs/{name}", disable_env_checker=True, **arguments).unwrapped


def covered_share(pose, goal):
    """The share of the goal T that the T at `pose` covers, to about 0.005: by testing points half a pixel apart."""

    def inside(x, y, pose):
        dx, dy = x - pose[0], y - pose[1]
        u = math.cos(pose[2]) * dx + math.sin(pose[2]) * dy
        v = math.cos(pose[2]) * dy - math.sin(pose[2]) * dx
        return ((abs(u) < 60) & (v > 0) & (v < 30)) | ((abs(u) < 15) & (v >= 30) & (v < 120))

    x, y = np.meshgrid(np.arange(0.25, 512.0, 0.5), np.arange(0.25, 512.0, 0.5))
    wanted = inside(x, y, goal)
    return (wanted & inside(x, y, pose)).sum() / wanted.sum()


# ---------------------------------------------------------------------- registration and checkers


def test_make_finds_the_module_by_itself_and_importing_it_is_light():
    code = (
        "import sys, gymnasium\n"
        "import grasp_envs\n"
        "assert 'pymunk' not in sys.modules\n"
        "del sys.modules['grasp_envs']; gymnasium.registry.clear()\n"
        "env = gymnasium.make('grasp_envs:grasp_envs/PushT-v0')\n"
        "assert env.spec.max_episode_steps == 300\n"
        "assert 'pygame' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("name", IDS)
def test_gymnasium_check_passes_without_a_warning(name, obs_type, render_mode):
    env = make(name, obs_type=obs_type, render_mode=render_mode, visualization_size=64)
    # Its own render check would try every mode, and a window needs an extra: see test_pusht_window.py.
    check_env(env, skip_render_check=True)
    if render_mode is not None:
        env_render_passive_checker(env)


@pytest.mark.parametrize("arguments", [{"reward_type": "dense"}, {"goal_horizon": 10}, {"resolution": 48}])
def test_gymnasium_check_passes_for_the_other_arguments(arguments):
    check_env(make("PushTReach-v0", obs_type="pixels", **arguments), skip_render_check=True)


@pytest.mark.parametrize("name", IDS)
def test_absolute_control_draws_only_the_remark_about_its_range(name):
    with pytest.warns(UserWarning) as caught:
        check_env(make(name, control="absolute"), skip_render_check=True)
    assert caught and all("symmetric and normalized space" in str(warning.message) for warning in caught)


# ---------------------------------------------------------------------- reset and step


@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("name", IDS)
def test_the_seed_decides_everything(name, obs_type):
    check_that_the_seed_decides_everything(lambda: make(name, obs_type=obs_type))


@pytest.mark.parametrize("control", ["relative", "absolute"])
@pytest.mark.parametrize("name", IDS)
def test_observations_stay_inside_their_space_whatever_happens(name, control):
    envs = [make(name, obs_type=obs_type, control=control) for obs_type in OBS_TYPES[:2]]
    rng = np.random.default_rng(0)
    outside = 0
    for seed in range(16):
        # Press the block into a wall, and on, with the strength of an agent that yields to nothing.
        direction = seed * math.pi / 8
        heading = np.array([math.cos(direction), math.sin(direction)])
        block = np.array([256.0, 256.0]) + 60.0 * heading
        angle = rng.uniform(-math.pi, math.pi)
        for env in envs:
            env.reset(seed=seed)
            env.set_state([*(block - 150.0 * heading), *block, angle])
        for _ in range(40):
            action = envs[0]._to_action(*(envs[0].get_state()[:2] + rng.uniform(30, 80) * heading))
            for env in envs:
                observation, reward, *_ = env.step(action)
                assert env.observation_space.contains(observation)
                assert math.isfinite(reward)
            corners = keypoints(envs[0].simulation.block_pose)
            outside += corners.min() < 3.0 or corners.max() > 508.0
    assert outside > 10


@pytest.mark.parametrize("name", IDS)
def test_relative_and_absolute_targets_agree(name):
    relative, absolute = make(name), make(name, control="absolute")
    options = {"state": START}
    relative.reset(seed=0, options=options)
    absolute.reset(seed=0, options=options)
    for action in ([0.5, -0.25], [-1.0, 1.0], [0.25, 0.75]):
        target = absolute.get_state()[:2] + 100.0 * np.array(action)
        relative.step(np.array(action, dtype=np.float32))
        absolute.step(target)
        np.testing.assert_allclose(relative.get_state(), absolute.get_state(), rtol=0, atol=1e-9)


def test_relative_targets_are_held_inside_the_arena():
    env = make("PushT-v0")
    env.reset(seed=0, options={"state": [490.0, 20.0, 256.0, 256.0, 0.0]})
    for _ in range(30):
        env.step(np.array([1.0, -1.0], dtype=np.float32))
    np.testing.assert_allclose(env.get_state()[:2], [512.0, 0.0], atol=0.1)


def test_actions_beyond_the_box_are_clipped():
    first, second = make("PushT-v0"), make("PushT-v0")
    for env, action in ((first, [3.0, -9.0]), (second, [1.0, -1.0])):
        env.reset(options={"state": START})
        env.step(np.array(action, dtype=np.float32))
    np.testing.assert_array_equal(first.get_state(), second.get_state())


@pytest.mark.parametrize("state", [START, [*START, 30.0, -40.0]])
@pytest.mark.parametrize("name", IDS)
def test_options_set_exactly_what_is_asked(name, state):
    env = make(name)
    goal = GOAL[2:] if name == "PushT-v0" else GOAL
    _, info = env.reset(options={"state": state, "goal": goal})
    np.testing.assert_array_equal(info["state"], [*state, 0.0, 0.0][:7])
    np.testing.assert_array_equal(env.get_state(), info["state"])
    np.testing.assert_array_equal(info["goal"] if name == "PushT-v0" else info["goal_state"], goal)
    assert info["coverage"] == pytest.approx(covered_share(state[2:5], GOAL[2:]), abs=0.01)
    assert info["block_error"] == pytest.approx(50.0)
    assert info["angle_error"] == pytest.approx(1.1)


@pytest.mark.parametrize("turns", [-1, 0, 2])
@pytest.mark.parametrize("name", IDS)
def test_the_angle_error_is_the_shorter_way_round(name, turns):
    goal = GOAL[2:] if name == "PushT-v0" else GOAL
    angle = GOAL[4] + math.tau * turns - 0.1
    _, info = make(name).reset(options={"state": [*START[:4], angle], "goal": goal})
    assert info["angle_error"] == pytest.approx(0.1)


@pytest.mark.parametrize("name", IDS)
def test_set_state_goes_back(name):
    env = make(name)
    env.reset(seed=0)
    state = env.get_state()
    for _ in range(5):
        env.step(env.action_space.sample())
    assert not np.array_equal(env.get_state(), state)
    env.set_state(state)
    np.testing.assert_array_equal(env.get_state(), state)
    env.set_state(START)
    np.testing.assert_array_equal(env.get_state(), [*START, 0.0, 0.0])
    # A block squeezed past a wall is a state like any other.
    env.set_state([100.0, 100.0, 300.0, -24.0, 0.0])
    assert env.get_state()[3] == -24.0


def test_a_state_or_a_goal_alone_gets_the_other_drawn():
    env = make("PushTReach-v0")
    _, info = env.reset(seed=0, options={"state": START})
    np.testing.assert_array_equal(info["state"][:5], START)
    assert not info["is_success"]
    _, info = env.reset(seed=0, options={"goal": GOAL})
    np.testing.assert_array_equal(info["goal_state"], GOAL)
    assert not info["is_success"] and not np.array_equal(info["state"][:5], START)
    env = make("PushT-v0")
    env.reset(options={"goal": GOAL[2:]})
    _, info = env.reset()
    np.testing.assert_array_equal(info["goal"], CLASSIC)  # a goal is asked for one episode


def test_random_classic_starts_are_apart_and_inside_the_walls():
    env = make("PushT-v0")
    for seed in range(40):
        _, info = env.reset(seed=seed)
        *_, after = env.step(np.zeros(2, np.float32))
        assert (after["n_agent_block_contacts"], after["n_block_wall_contacts"]) == (0, 0)
        np.testing.assert_allclose(after["state"], info["state"], rtol=0, atol=1e-9)


def test_a_classic_start_that_is_solved_is_drawn_again(monkeypatch):
    solved, other = [60.0, 60.0, *CLASSIC, 0.0, 0.0], [*START, 0.0, 0.0]
    draws = iter([solved, solved, other])
    monkeypatch.setattr("grasp_envs.pusht.random_start", lambda rng: np.array(next(draws)))
    _, info = make("PushT-v0").reset(seed=0)
    np.testing.assert_array_equal(info["state"], other)


# ---------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": [1.0, 2.0, 3.0]}, r"state of 5 or 7 numbers .* got shape \(3,\)"),
        ({"state": [600.0, 100.0, 200.0, 200.0, 0.0]}, r"state within \[0, 512\] px, got \[600"),
        ({"state": [100.0, 100.0, 200.0, -1.0, 0.0]}, r"state within \[0, 512\] px"),
        ({"state": [100.0, math.nan, 200.0, 200.0, 0.0]}, "finite numbers in state"),
        ({"state": [*START, 9999.0, 0.0]}, r"velocities in state within \+-4096"),
        ({"state": "here"}, "state to be numbers .* got 'here'"),
        ({"state": np.zeros((2, 5))}, r"got shape \(2, 5\)"),
        ({"goal": [1.0, 2.0]}, r"goal of .* numbers .* got shape \(2,\)"),
        ({"goal": [100.0, 700.0, 0.0]}, r"goal within \[0, 512\] px|goal of 5 or 7 numbers"),
        ({"reset_to_state": START}, r"\"state\" and \"goal\", got \['reset_to_state'\]"),
    ],
)
@pytest.mark.parametrize("name", IDS)
def test_wrong_options_are_refused_and_nothing_changes(name, options, message):
    env = make(name)
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    np.testing.assert_array_equal(env.get_state(), before)


def test_reach_goals_outside_the_arena_are_refused():
    with pytest.raises(ValueError, match=r"goal within \[0, 512\] px"):
        make("PushTReach-v0").reset(options={"goal": [100.0, 100.0, 200.0, 600.0, 0.0]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"obs_type": "keypoints"}, "obs_type to be one of 'state', .*'pixels_agent_pos', got 'keypoints'"),
        ({"control": "torque"}, "control to be one of 'relative', 'absolute', got 'torque'"),
        ({"resolution": 0}, "resolution to be an integer of at least 8, got 0"),
        ({"resolution": 96.5}, "resolution to be an integer"),
        ({"visualization_size": True}, "visualization_size to be an integer"),
        ({"goal_horizon": 1}, "goal_horizon to be an integer of at least 5, got 1"),
        ({"reward_type": "shaped"}, "reward_type to be one of 'sparse', 'dense'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make("PushTReach-v0", **arguments)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(3, np.float32), r"2 numbers, got shape \(3,\)"),
        (np.zeros((1, 2), np.float32), r"got shape \(1, 2\)"),
        (np.array([math.nan, 0.0]), "finite action"),
        (np.array(["a", "b"]), "dtype <U1"),
    ],
)
def test_wrong_actions_are_refused(action, message):
    env = make("PushT-v0")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


# ---------------------------------------------------------------------- the classic task


def test_classic_reward_success_and_end():
    env = gym.make("grasp_envs/PushT-v0")
    x, y, angle = CLASSIC
    # Shifted by d px along its stem the T, 120 px wide and 6300 px^2 large, uncovers 120 d of the goal.
    for shift, coverage, reward, solved in ((2.0, 6060 / 6300, 1.0, True), (12.0, 4860 / 6300, 4860 / 5985, False)):
        block = (x - shift * math.sin(angle), y + shift * math.cos(angle), angle)
        env.reset(options={"state": [60.0, 60.0, *block]})
        _, received, terminated, truncated, info = env.step(np.zeros(2, np.float32))
        assert info["coverage"] == pytest.approx(coverage, abs=1e-9)
        assert received == pytest.approx(reward, abs=1e-9)
        assert (terminated, truncated, info["is_success"]) == (solved, False, solved)
    env.reset(options={"state": [60.0, 60.0, 300.0, 300.0, 0.0]})
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(300)]
    assert ends[298] == (False, False) and ends[299] == (False, True)


def test_classic_observations():
    state = [150.0, 120.0, 300.0, 280.0, -0.5]
    observations = {}
    for obs_type in OBS_TYPES:
        observations[obs_type], info = make("PushT-v0", obs_type=obs_type).reset(options={"state": state})
        assert info["goal"].shape == ((96, 96, 3) if obs_type.startswith("pixels") else (3,))
    np.testing.assert_allclose(observations["state"], [150, 120, 300, 280, 2 * math.pi - 0.5])
    keypoints = observations["environment_state_agent_pos"]
    np.testing.assert_array_equal(keypoints["agent_pos"], [150, 120])
    # Corner 0 is the bar's top left.
    expected = [300 - 60 * math.cos(0.5), 280 + 60 * math.sin(0.5)]
    np.testing.assert_allclose(keypoints["environment_state"][:2], expected)
    both = observations["pixels_agent_pos"]
    np.testing.assert_array_equal(both["pixels"], observations["pixels"])
    np.testing.assert_array_equal(both["agent_pos"], [150, 120])


def test_the_classic_goal_image_is_what_a_solved_episode_looks_like():
    env = make("PushT-v0", obs_type="pixels")
    _, info = env.reset(seed=0)
    beside = [256.0 + 40.0 * math.sqrt(0.5), 256.0 - 40.0 * math.sqrt(0.5)]
    solved, solved_info = env.reset(options={"state": [*beside, *CLASSIC]})
    assert solved_info["is_success"]
    # The two places agree to rounding, which moves a pixel by one level at most.
    np.testing.assert_allclose(info["goal"].astype(int), solved, rtol=0, atol=1)


# ---------------------------------------------------------------------- goal reaching


def test_reach_goals_are_reached_by_the_experts_own_steps(monkeypatch):
    targets = []
    step = PushTSimulation.step

    def recorded(self, x, y):
        targets.append((x, y))
        step(self, x, y)

    monkeypatch.setattr(PushTSimulation, "step", recorded)
    for seed in range(10):
        env = make("PushTReach-v0", control="absolute")
        _, info = env.reset(seed=seed)
        for x, y in targets[-25:]:
            # Straight to the simulation: absolute actions would round the targets to float32.
            step(env.simulation, x, y)
        np.testing.assert_array_equal(env.get_state()[:5], info["goal_state"])
        assert env._info()["is_success"] and env._info()["pose_error"] == 0.0


def test_strict_success_is_of_the_block_alone_and_must_be_held():
    """9 px and 9 degrees off with the agent anywhere counts from the third step on; leaving starts the count anew."""
    env = make("PushTReach-v0", success="strict")
    goal = np.array([400.0, 400.0, 200.0, 200.0, 0.5])
    near = [60.0, 60.0, 209.0, 200.0, 0.5 + math.radians(9)]
    far = [60.0, 60.0, 211.0, 200.0, 0.5]
    turned = [60.0, 60.0, 200.0, 200.0, 0.5 + math.radians(11)]
    _, info = env.reset(options={"state": near, "goal": goal})
    assert not info["is_success"]

    def step():
        _, reward, _, _, info = env.step(np.zeros(2, np.float32))
        return float(reward), info["is_success"]

    assert [step() for _ in range(4)] == [(0.0, False), (0.0, False), (0.0, True), (0.0, True)]
    for away in (far, turned):
        env.set_state(away)
        assert step() == (-1.0, False)
        env.set_state(near)
        assert [step() for _ in range(3)] == [(0.0, False), (0.0, False), (0.0, True)]
    env.reset(options={"state": near, "goal": goal})
    assert step() == (0.0, False)  # the count is of this episode


def test_strict_starts_are_unsolved_for_the_block_alone():
    env = make("PushTReach-v0", success="strict")
    for seed in range(40):
        _, info = env.reset(seed=seed)
        assert info["block_error"] >= 10.0 or info["angle_error"] >= math.radians(10)


def test_strict_dense_rewards_are_in_units_of_their_tolerances():
    env = make("PushTReach-v0", success="strict", reward_type="dense")
    start, goal = [60.0, 60.0, 220.0, 200.0, 0.5 + math.radians(30)], [400.0, 400.0, 200.0, 200.0, 0.5]
    env.reset(options={"state": start, "goal": goal})
    assert env.step(np.zeros(2, np.float32))[1] == pytest.approx(-0.1 * (2.0 + 3.0), abs=1e-6)


def test_reach_starts_are_unsolved_and_mostly_move_the_block():
    env = make("PushTReach-v0")
    moved = []
    for seed in range(60):
        _, info = env.reset(seed=seed)
        assert not info["is_success"]
        assert info["pose_error"] >= 20.0 or info["angle_error"] >= math.pi / 9
        moved.append(info["block_error"] > 10.0 or info["angle_error"] > 0.1)
    assert np.mean(moved) > 0.8


@pytest.mark.parametrize("goal_horizon", [5, 25])
def test_reach_never_terminates_and_truncates_at_twice_the_horizon(goal_horizon):
    env = make("PushTReach-v0", goal_horizon=goal_horizon)
    env.reset(options={"state": START, "goal": START})
    for t in range(2 * goal_horizon):
        _, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
        assert (reward, terminated, info["is_success"]) == (0.0, False, True)
        assert truncated == (t == 2 * goal_horizon - 1)
    env.reset(options={"state": START, "goal": START})
    assert env.step(np.zeros(2, np.float32))[3] is False


@pytest.mark.parametrize(
    ("offset", "success"),
    [
        ((11.0, 0.0, 16.0, 0.0, 0.0), True),  # 19.4 px together
        ((12.0, 0.0, 16.1, 0.0, 0.0), False),  # 20.08 px, though each alone is within
        ((0.0, 0.0, 0.0, 0.0, math.pi / 9 - 0.001), True),
        ((0.0, 0.0, 0.0, 0.0, -math.pi / 9 - 0.001), False),
        ((0.0, 0.0, 0.0, 0.0, 2 * math.pi), True),
    ],
)
def test_reach_success_is_the_pose_test(offset, success):
    env = make("PushTReach-v0")
    _, info = env.reset(options={"state": (np.array(START) + offset).tolist(), "goal": START})
    assert info["is_success"] is success
    assert info["pose_error"] == pytest.approx(np.linalg.norm(offset[:4]))
    assert info["agent_error"] == pytest.approx(np.hypot(*offset[:2]))
    assert info["block_error"] == pytest.approx(np.hypot(*offset[2:4]))


def test_reach_observations():
    state = [*START, 30.0, -20.0]
    env = make("PushTReach-v0")
    observation, _ = env.reset(options={"state": state, "goal": GOAL})
    np.testing.assert_array_equal(observation["observation"], state)
    expected = [*GOAL[:4], math.cos(GOAL[4]), math.sin(GOAL[4])]
    np.testing.assert_allclose(observation["desired_goal"], expected)
    np.testing.assert_allclose(observation["achieved_goal"], [*START[:4], math.cos(0.7), math.sin(0.7)])

    # What is seen now is what the goal would look like there, and the goal shows nothing of the present.
    env = make("PushTReach-v0", obs_type="pixels")
    at_start, _ = env.reset(options={"state": START, "goal": GOAL})
    at_goal, _ = env.reset(options={"state": GOAL, "goal": START})
    assert at_start.keys() == {"pixels", "goal"}
    np.testing.assert_array_equal(at_start["pixels"], at_goal["goal"])
    np.testing.assert_array_equal(at_start["goal"], at_goal["pixels"])

    env = make("PushTReach-v0", obs_type="environment_state_agent_pos")
    here, _ = env.reset(options={"state": START, "goal": GOAL})
    there, _ = env.reset(options={"state": GOAL, "goal": GOAL})
    np.testing.assert_array_equal(here["goal"], [*there["environment_state"], *there["agent_pos"]])

    env = make("PushTReach-v0", obs_type="pixels_agent_pos")
    both, _ = env.reset(options={"state": START, "goal": GOAL})
    np.testing.assert_array_equal(both["pixels"], at_start["pixels"])
    np.testing.assert_array_equal(both["goal"], at_start["goal"])
    np.testing.assert_array_equal(both["agent_pos"], START[:2])


@pytest.mark.parametrize("reward_type", ["sparse", "dense"])
def test_reach_reward_is_compute_reward_for_one_and_for_many(reward_type):
    env = make("PushTReach-v0", reward_type=reward_type)
    achieved, desired, rewards = [], [], []
    for seed in range(30):
        env.reset(seed=seed)
        observation, reward, *_, info = env.step(env.action_space.sample())
        assert reward == env.compute_reward(observation["achieved_goal"], observation["desired_goal"], info)
        achieved.append(observation["achieved_goal"])
        desired.append(observation["desired_goal"] if seed % 2 else observation["achieved_goal"])
        rewards.append(reward if seed % 2 else 0.0)
    together = env.compute_reward(np.array(achieved), np.array(desired), [{}] * 30)
    assert together.shape == (30,)
    np.testing.assert_allclose(together, rewards, rtol=0, atol=1e-12)
    if reward_type == "sparse":
        assert set(rewards) == {0.0, -1.0}
    goal = np.array([100.0, 100.0, 200.0, 200.0, 1.0, 0.0])
    off = np.array([100.0, 120.0, 200.0, 200.0, math.cos(math.pi / 9), math.sin(math.pi / 9)])
    expected = -0.2 if reward_type == "dense" else -1.0
    assert env.compute_reward(off, goal, {}) == pytest.approx(expected)


def test_only_the_state_observation_is_a_goal_environment():
    for obs_type in OBS_TYPES:
        assert hasattr(make("PushTReach-v0", obs_type=obs_type), "compute_reward") == (obs_type == "state")


# ---------------------------------------------------------------------- pictures, copies, vectors


def test_render_shows_the_goal_at_its_own_size():
    env = make("PushTReach-v0", render_mode="rgb_array", visualization_size=200, obs_type="pixels")
    env.reset(options={"state": START, "goal": GOAL})
    picture = env.render()
    assert picture.shape == (200, 200, 3) and picture.dtype == np.uint8
    env.reset(options={"state": START, "goal": START})
    assert (picture != env.render()).any()
    # Green within the goal T, in its stem where the block is not.
    x, y = GOAL[2] + 100 * math.sin(0.4), GOAL[3] + 100 * math.cos(0.4)
    assert tuple(picture[int(y * 200 / 512), int(x * 200 / 512)].tolist()) == (144, 238, 144)


def test_render_without_a_mode_says_so():
    env = make("PushT-v0")
    env.reset(seed=0)
    with pytest.warns(UserWarning, match='render_mode="rgb_array"'):
        assert env.render() is None


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("obs_type", ["state", "pixels"])
@pytest.mark.parametrize("name", IDS)
def test_copies_continue_alike(name, obs_type, duplicate):
    env = gym.make(f"grasp_envs/{name}", obs_type=obs_type, render_mode="rgb_array", visualization_size=64)
    env.reset(options={"state": [200.0, 200.0, 300.0, 250.0, 0.3]}, seed=5)
    for _ in range(3):
        env.step(np.array([-0.1, 0.1], np.float32))
    twin = duplicate(env)
    for _ in range(3):
        first, second = (e.step(np.array([0.2, 0.1], np.float32)) for e in (env, twin))
        assert equal(first[0], second[0]) and first[1:4] == second[1:4]
    np.testing.assert_array_equal(env.render(), twin.render())
    assert equal(env.reset()[0], twin.reset()[0])


def test_arrays_handed_out_are_the_users_own():
    for name, obs_type in itertools.product(IDS, OBS_TYPES):
        env, control = make(name, obs_type=obs_type), make(name, obs_type=obs_type)
        for e in (env, control):
            e.reset(seed=0)
        for _ in range(2):
            spoiled = env.step(np.zeros(2, np.float32))
            wanted = control.step(np.zeros(2, np.float32))
            observation = spoiled[0] if isinstance(spoiled[0], dict) else {"all": spoiled[0]}
            expected = wanted[0] if isinstance(wanted[0], dict) else {"all": wanted[0]}
            assert equal(observation, expected) and equal(spoiled[-1], wanted[-1])
            for array in (*observation.values(), *spoiled[-1].values()):
                if isinstance(array, np.ndarray):
                    array[...] = 0


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(("name", "obs_type"), [("PushT-v0", "pixels"), ("PushTReach-v0", "state")])
def test_vector_environments_equal_single_ones(name, obs_type, mode):
    arguments = {"obs_type": obs_type, "resolution": 48}
    vector = gym.make_vec(f"grasp_envs:grasp_envs/{name}", num_envs=2, vectorization_mode=mode, **arguments)
    singles = [make(name, **arguments) for _ in range(2)]
    try:
        observations, _ = vector.reset(seed=[3, 4])
        alone = [env.reset(seed=seed)[0] for env, seed in zip(singles, (3, 4), strict=True)]
        for _ in range(4):
            for index in range(2):
                row = (
                    {key: value[index] for key, value in observations.items()}
                    if isinstance(observations, dict)
                    else observations[index]
                )
                assert equal(row, alone[index])
            actions = np.array([[0.5, 0.1], [-0.3, 0.9]], np.float32)
            observations, rewards, _, _, infos = vector.step(actions)
            steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
            alone = [step[0] for step in steps]
            np.testing.assert_allclose(rewards, [step[1] for step in steps])
            np.testing.assert_allclose(infos["coverage"], [step[-1]["coverage"] for step in steps])
    finally:
        vector.close()


def test_a_window_needs_pygame_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    env = make("PushT-v0", render_mode="human")
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"grasp-agent\[human\]"):
        env.reset(seed=0)
    env.close()
