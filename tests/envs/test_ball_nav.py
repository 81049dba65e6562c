"""The ball behind a barrier: collisions, the Gymnasium side, pictures, and the policy that makes data."""

import copy
import math
import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from env_checks import check_that_hindsight_replay_relabels, check_that_the_seed_decides_everything, equal
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.passive_env_checker import env_render_passive_checker
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import grasp_envs  # noqa: F401
from grasp_envs.ball_nav import BALL_COLOUR, BARRIER_COLOUR, GOAL_COLOUR, free_place, is_inside_barrier, moved
from grasp_envs.ball_nav_policy import BallNavPolicy

OBS_TYPES = ("state", "pixels")
START, GOAL = [0.1, -0.5], [-0.2, 0.6]
UP, DOWN, LEFT = np.array([0, 1], np.float32), np.array([0, -1], np.float32), np.array([-1, 0], np.float32)


def make(**arguments):
    return gym.make("grasp_envs/BallNav-v0", disable_env_checker=True, **arguments).unwrapped


def head_for(env, places, steps):
    """Walk straight to one place after the other -> what the last step returned."""
    places = list(places)
    for _ in range(steps):
        way = (np.array(places[0]) - env.get_state()) / 0.1
        if np.abs(way).max() < 1e-6 and len(places) > 1:
            places.pop(0)
            way = (np.array(places[0]) - env.get_state()) / 0.1
        result = env.step((way / max(1.0, np.abs(way).max())).astype(np.float32))
    return result


# ---------------------------------------------------------------------- the barrier and the borders


@pytest.mark.parametrize(
    ("start", "motion", "end"),
    [
        ((0.0, -0.5), (0.05, 0.1), (0.05, -0.4)),  # free
        ((0.1, -0.1), (0.05, 0.1), (0.15, -0.05)),  # stopped from beneath, sliding on
        ((0.0, -0.05), (-0.1, 0.1), (-0.1, -0.05)),  # pressed against the face
        ((0.0, -0.05), (0.0, 0.1), (0.0, -0.05)),  # as far as the barrier is high
        ((0.0, -0.05), (0.02, -0.1), (0.02, -0.15)),  # off the face
        ((0.0, 0.08), (0.02, -0.1), (0.02, 0.05)),  # stopped from above
        ((-0.65, 0.0), (0.1, 0.03), (-0.6, 0.03)),  # stopped from the left
        ((0.65, 0.02), (-0.1, -0.1), (0.6, -0.08)),  # and from the right, sliding past the end of the face
        ((-0.62, -0.09), (0.1, 0.1), (-0.52, -0.05)),  # into the lower face just beside its corner
        ((-0.64, -0.055), (0.1, 0.02), (-0.6, -0.035)),  # into the side just beside its corner
        ((0.55, -0.06), (0.1, 0.1), (0.65, -0.05)),  # through the corner: the end alone would be free
        ((0.59, -0.1), (0.1, 0.1), (0.69, 0.0)),  # just past the corner
        ((-0.65, -0.05), (0.1, 0.0), (-0.55, -0.05)),  # along the line of a face
        ((0.6, 0.0), (0.0, 0.1), (0.6, 0.1)),  # along a side
        ((0.95, -0.98), (0.1, -0.1), (1.0, -1.0)),  # into a corner of the world
    ],
)
@pytest.mark.parametrize("mirror", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_collisions_with_known_answers(start, motion, end, mirror):
    (x, y), (dx, dy) = np.multiply(start, mirror), np.multiply(motion, mirror)
    np.testing.assert_allclose(moved(x, y, dx, dy), np.multiply(end, mirror), rtol=0, atol=1e-12)


def test_no_motion_crosses_the_barrier_and_every_motion_goes_as_far_as_it_can():
    rng = np.random.default_rng(0)
    shares = np.linspace(0.0, 1.0, 41)[:, None]
    stopped = 0
    for _ in range(4000):
        start, motion = rng.uniform((-0.8, -0.25), (0.8, 0.25)), rng.uniform(-0.1, 0.1, 2)
        if is_inside_barrier(*start):
            continue
        end = np.array(moved(*start, *motion))
        way = start + shares * (end - start)
        assert not ((np.abs(way[:, 0]) < 0.6 - 1e-9) & (np.abs(way[:, 1]) < 0.05 - 1e-9)).any()
        wanted = start + shares * motion
        blocked = ((np.abs(wanted[:, 0]) < 0.6) & (np.abs(wanted[:, 1]) < 0.05)).any()
        off = np.abs(end - start - motion) > 1e-12
        assert off.sum() <= 1  # along the other axis the motion is kept
        assert not blocked or off.any()
        if off.any():
            stopped += 1
            axis = int(off.argmax())
            assert abs(end[axis]) == (0.6, 0.05)[axis]
    assert stopped > 300


def test_no_rounding_puts_the_ball_inside():
    rng = np.random.default_rng(0)
    at_the_face = 0
    for _ in range(5000):
        gap = rng.uniform(0.0, 0.1)
        axis, sign = int(rng.integers(2)), float(rng.choice([-1.0, 1.0]))
        half, along = ((0.6, rng.uniform(-0.05, 0.05)), (0.05, rng.uniform(-0.6, 0.6)))[axis]
        start, motion = np.full(2, along), rng.uniform(-0.1, 0.1, 2)
        start[axis] = sign * (half + gap)
        # As far as the face, give or take the last few bits.
        motion[axis] = -sign * (abs(start[axis]) - half) * (1.0 + int(rng.integers(-4, 5)) * 2.0**-53)
        end = moved(*start.tolist(), *motion.tolist())
        assert not is_inside_barrier(*end)
        at_the_face += abs(end[axis]) == half
    assert at_the_face > 2500


def test_who_only_comes_closer_is_stuck_and_who_walks_round_arrives():
    env = make()
    for seed in range(20):
        _, begun = env.reset(seed=seed)
        goal = begun["goal_state"]
        *_, info = head_for(env, [goal], 60)
        np.testing.assert_allclose(info["state"], [goal[0], -0.05], rtol=0, atol=0.01)
        assert not info["is_success"]

        env.reset(seed=seed)
        side = 0.61 if goal[0] > 0 else -0.61
        _, reward, *_, info = head_for(env, [(side, -0.05), (side, 0.05), goal], 24)
        assert info["is_success"] and reward == 0.0


def test_starts_lie_below_goals_above_and_the_barrier_between_them():
    env = make()
    starts, goals = [], []
    for seed in range(200):
        _, info = env.reset(seed=seed)
        starts.append(info["state"])
        goals.append(info["goal_state"])
    for places, low, high in ((starts, (-0.4, -0.9), (0.4, -0.3)), (goals, (-0.4, 0.3), (0.4, 0.9))):
        assert (np.min(places, 0) >= low).all() and (np.max(places, 0) <= high).all()
        # Uniform: the mean is in the middle, and the edges are reached.
        np.testing.assert_allclose(np.mean(places, 0), np.add(low, high) / 2, rtol=0, atol=0.06)
        assert (np.min(places, 0) < np.add(low, 0.03)).all() and (np.max(places, 0) > np.subtract(high, 0.03)).all()


# ---------------------------------------------------------------------- registration and checkers


def test_make_finds_the_module_by_itself_and_needs_no_torch():
    code = (
        "import sys, gymnasium\n"
        "env = gymnasium.make('grasp_envs:grasp_envs/BallNav-v0', obs_type='pixels')\n"
        "env.reset(seed=0); env.unwrapped.make_expert(0).act()\n"
        "assert 'torch' not in sys.modules and 'grasp_agent' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
@pytest.mark.parametrize("reward_type", ["sparse", "dense"])
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_the_checkers_pass_without_a_warning(obs_type, reward_type, render_mode):
    arguments = {"obs_type": obs_type, "reward_type": reward_type, "render_mode": render_mode}
    env = make(resolution=48, visualization_size=64, **arguments)
    check_env(env, skip_render_check=True)
    check_env_sb3(env)
    if render_mode is not None:
        env_render_passive_checker(env)


def test_hindsight_replay_runs_and_relabels():
    check_that_hindsight_replay_relabels(gym.make("grasp_envs/BallNav-v0", max_steps=10))


# ---------------------------------------------------------------------- reset and step


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_the_seed_decides_everything(obs_type):
    check_that_the_seed_decides_everything(lambda: make(obs_type=obs_type))


def test_a_step_moves_by_a_tenth_of_the_action():
    env = make()
    env.reset(options={"state": START, "goal": GOAL})
    observation, _, terminated, truncated, info = env.step(np.array([0.5, -0.25], np.float32))
    np.testing.assert_allclose(observation["observation"], [0.15, -0.525], rtol=0, atol=1e-12)
    assert equal(observation["achieved_goal"], observation["observation"]) and equal(observation["desired_goal"], GOAL)
    assert (terminated, truncated) == (False, False)
    assert info["distance"] == pytest.approx(math.hypot(0.35, 1.125))
    env.step(np.array([7.0, -3.0]))  # clipped to the box
    np.testing.assert_allclose(env.get_state(), [0.25, -0.625], rtol=0, atol=1e-12)
    env.step(np.zeros(2, np.float32))  # no speed is left
    np.testing.assert_allclose(env.get_state(), [0.25, -0.625], rtol=0, atol=1e-12)


def test_observations_stay_inside_their_space_whatever_happens():
    envs = [make(obs_type=obs_type) for obs_type in OBS_TYPES]
    rng = np.random.default_rng(0)
    corners = 0
    for seed in range(20):
        for env in envs:
            env.reset(seed=seed)
        heading = rng.uniform(-1.5, 1.5, 2)
        for _ in range(40):
            action = (heading + rng.normal(0.0, 0.3, 2)).astype(np.float32)
            for env in envs:
                observation, reward, *_ = env.step(action)
                assert env.observation_space.contains(observation) and math.isfinite(reward)
        corners += (np.abs(envs[0].get_state()) == 1.0).any()
    assert corners >= 5


def test_options_set_exactly_what_is_asked():
    env = make()
    _, info = env.reset(options={"state": START, "goal": GOAL})
    np.testing.assert_array_equal(info["state"], START)
    np.testing.assert_array_equal(info["goal_state"], GOAL)
    assert info["distance"] == pytest.approx(math.hypot(0.3, 1.1))
    _, info = env.reset(options={"state": GOAL, "goal": GOAL})
    assert info["is_success"] and info["distance"] == 0.0
    _, info = env.reset(options={"goal": [0.6, 0.0]})  # on the barrier's side
    np.testing.assert_array_equal(info["goal_state"], [0.6, 0.0])
    assert info["state"][1] <= -0.3
    _, info = env.reset()
    assert not np.array_equal(info["goal_state"], [0.6, 0.0])  # a goal is asked for one episode


def test_what_is_drawn_does_not_begin_an_episode_solved():
    env = make()
    for seed in range(200):
        for options in ({"state": [0.0, 0.6]}, {"goal": [0.0, -0.6]}):
            _, info = env.reset(seed=seed, options=options)
            assert not info["is_success"]


def test_set_state_moves_the_ball_alone():
    env = make(max_steps=3)
    _, begun = env.reset(seed=0)
    env.step(UP)
    env.set_state([0.7, 0.0])
    np.testing.assert_array_equal(env.get_state(), [0.7, 0.0])
    *_, truncated, info = env.step(LEFT)
    np.testing.assert_array_equal(info["state"], [0.6, 0.0])
    np.testing.assert_array_equal(info["goal_state"], begun["goal_state"])
    assert not truncated
    assert env.step(LEFT)[3]


@pytest.mark.parametrize("max_steps", [1, 5, 60])
def test_it_never_terminates_and_truncates_in_time(max_steps):
    env = make() if max_steps == 60 else make(max_steps=max_steps)
    for _ in range(2):
        env.reset(options={"state": GOAL, "goal": GOAL})
        for step in range(max_steps):
            _, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
            assert (reward, terminated, info["is_success"]) == (0.0, False, True)
            assert truncated == (step == max_steps - 1)


@pytest.mark.parametrize(
    ("offset", "sparse"), [((0.0, 0.0), 0.0), ((0.06, -0.07), 0.0), ((0.08, 0.07), -1.0), ((0.0, 0.3), -1.0)]
)
def test_rewards_with_known_answers(offset, sparse):
    achieved, desired = np.array(GOAL) + offset, np.array(GOAL)
    distance = math.hypot(*offset)
    for reward_type, expected in (("sparse", sparse), ("dense", -distance)):
        env = make(reward_type=reward_type)
        env.reset(options={"state": achieved, "goal": desired})
        _, reward, *_, info = env.step(np.zeros(2, np.float32))
        assert reward == pytest.approx(expected) and info["distance"] == pytest.approx(distance)
        assert info["is_success"] is (sparse == 0.0)
        many = env.compute_reward(np.stack([achieved, desired]), np.stack([desired, desired]), [{}, {}])
        np.testing.assert_allclose(many, [expected, 0.0], rtol=0, atol=1e-12)
        assert env.compute_reward(achieved, desired, {}) == reward


def test_only_the_state_observation_is_a_goal_environment():
    assert hasattr(make(), "compute_reward") and not hasattr(make(obs_type="pixels"), "compute_reward")


# ---------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": [1.0, 2.0, 3.0]}, r"state of 2 numbers \(x, y\), got shape \(3,\)"),
        ({"state": [1.2, 0.5]}, r"state inside the world, \[-1, 1\] x \[-1, 1\], got \[1.2, 0.5\], try"),
        ({"goal": [0.5, -1.01]}, "goal inside the world"),
        ({"goal": [0.5, 0.049]}, r"goal outside the barrier, which covers \|x\| < 0.6 and \|y\| < 0.05, got \[0.5"),
        ({"state": [math.nan, 0.5]}, "finite numbers in state"),
        ({"state": "here"}, "state to be numbers .* got 'here'"),
        ({"start": START}, r"\"state\" and \"goal\", got \['start'\]"),
    ],
)
def test_wrong_options_are_refused_and_nothing_changes(options, message):
    env = make()
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    np.testing.assert_array_equal(env.get_state(), before)
    if "state" in options:
        with pytest.raises(ValueError, match=message):
            env.set_state(options["state"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"obs_type": "keypoints"}, "obs_type to be one of 'state', 'pixels', got 'keypoints'"),
        ({"reward_type": "shaped"}, "reward_type to be one of 'sparse', 'dense'"),
        ({"render_mode": "human"}, "render_mode to be one of 'rgb_array', got 'human'"),
        ({"resolution": 0}, "resolution to be an integer of at least 8, got 0"),
        ({"max_steps": 0}, "max_steps to be an integer of at least 1, got 0, try 60"),
        ({"visualization_size": True}, "visualization_size to be an integer"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    from grasp_envs.ball_nav import BallNavEnv

    with pytest.raises(ValueError, match=message):
        BallNavEnv(**arguments)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(3, np.float32), r"2 numbers, got shape \(3,\)"),
        (np.array([math.nan, 0.0]), "finite action"),
        (np.array(["a", "b"]), "dtype <U1"),
    ],
)
def test_wrong_actions_are_refused(action, message):
    env = make()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


# ---------------------------------------------------------------------- pictures and copies


def test_pictures_show_the_ball_where_it_is_and_nothing_of_the_goal():
    env = make(obs_type="pixels", resolution=100)
    at_start, _ = env.reset(options={"state": START, "goal": GOAL})
    at_goal, _ = env.reset(options={"state": GOAL, "goal": START})
    np.testing.assert_array_equal(at_start["pixels"], at_goal["goal"])
    np.testing.assert_array_equal(at_start["goal"], at_goal["pixels"])
    # The ball alone is more blue than green: its middle is where it is, y up, to a fraction of a pixel.
    for picture, (x, y) in ((at_start["pixels"], START), (at_start["goal"], GOAL)):
        blueness = np.clip(picture[..., 2].astype(float) - picture[..., 1] - 40, 0, None)
        rows, columns = np.indices(blueness.shape) + 0.5
        middle = [(places * blueness).sum() / blueness.sum() for places in (columns, rows)]
        np.testing.assert_allclose(middle, [50 * (1 + x), 50 * (1 - y)], rtol=0, atol=0.1)
        assert tuple(picture[int(50 * (1 - y)), int(50 * (1 + x))]) == BALL_COLOUR
    # The barrier covers 60 of 100 columns and 5 of 100 rows, the outer two of which by half.
    grey = (at_start["pixels"] == BARRIER_COLOUR).all(-1)
    assert grey.sum() == 60 * 4 and grey[48:52, 20:80].all()


def test_render_shows_the_goal_beneath_the_ball():
    env = make(render_mode="rgb_array", visualization_size=200)
    env.reset(options={"state": START, "goal": GOAL})
    picture = env.render()
    assert picture.shape == (200, 200, 3) and picture.dtype == np.uint8
    row, column = round(100 * (1 - GOAL[1])), round(100 * (1 + GOAL[0]))
    assert tuple(picture[row, column]) == GOAL_COLOUR
    env.set_state(GOAL)
    assert tuple(env.render()[row, column]) == BALL_COLOUR


def test_render_without_a_mode_says_so():
    env = make()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match='render_mode="rgb_array"'):
        assert env.render() is None


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_copies_continue_alike(obs_type, duplicate):
    env = gym.make("grasp_envs/BallNav-v0", obs_type=obs_type, render_mode="rgb_array", visualization_size=64)
    env.reset(seed=5)
    env.render()
    env.step(UP)
    twin = duplicate(env)
    first, second = env.step(DOWN), twin.step(DOWN)
    assert equal(first[0], second[0]) and first[1:4] == second[1:4] and equal(first[4], second[4])
    np.testing.assert_array_equal(env.render(), twin.render())
    assert equal(env.reset()[0], twin.reset()[0])
    twin.unwrapped.set_state([0.5, 0.5])
    assert not np.array_equal(env.unwrapped.get_state(), [0.5, 0.5])


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_arrays_handed_out_are_the_users_own(obs_type):
    env, control = make(obs_type=obs_type), make(obs_type=obs_type)
    for e in (env, control):
        e.reset(seed=0)
    for _ in range(2):
        spoiled, wanted = env.step(UP), control.step(UP)
        assert equal(spoiled[0], wanted[0]) and equal(spoiled[-1], wanted[-1])
        for array in (*spoiled[0].values(), spoiled[-1]["state"], spoiled[-1]["goal_state"]):
            array[...] = 0


def test_vector_environments_equal_single_ones():
    vector = gym.make_vec("grasp_envs:grasp_envs/BallNav-v0", num_envs=2, vectorization_mode="sync")
    observations, _ = vector.reset(seed=[3, 4])
    singles = [make() for _ in range(2)]
    for index, env in enumerate(singles):
        assert equal({key: value[index] for key, value in observations.items()}, env.reset(seed=3 + index)[0])
    observations, rewards, *_, infos = vector.step(np.stack([UP, LEFT]))
    for index, (env, action) in enumerate(zip(singles, (UP, LEFT), strict=True)):
        observation, reward, *_, info = env.step(action)
        assert equal({key: value[index] for key, value in observations.items()}, observation)
        assert rewards[index] == reward and infos["distance"][index] == info["distance"]
    vector.close()


# ---------------------------------------------------------------------- the policy that makes data


def play(seed, steps=60, policy_seed=None, **options):
    """Actions [steps, 2] and places [steps + 1, 2] of an episode under the policy."""
    env = make()
    env.reset(seed=seed, options=options)
    policy = env.make_expert(seed if policy_seed is None else policy_seed)
    actions, places = [], [env.get_state()]
    for _ in range(steps):
        actions.append(policy.act())
        assert env.action_space.contains(actions[-1])
        env.step(actions[-1])
        places.append(env.get_state())
    return np.array(actions), np.array(places)


def test_the_policys_data_show_free_motion_sliding_being_stuck_and_rest():
    counts = {"rest": 0, "free": 0, "stuck": 0, "slides": 0}
    sides, turns, total = [], [], 0
    for seed in range(40):
        actions, places = play(seed)
        motion, wanted = np.diff(places, axis=0), 0.1 * actions.astype(np.float64)
        resting = (actions == 0).all(1)
        free = ~resting & (np.abs(motion - wanted) < 1e-9).all(1)
        still = np.linalg.norm(motion, axis=1) < 0.02
        counts["rest"] += resting.sum()
        counts["free"] += free.sum()
        counts["stuck"] += (~resting & ~free & still).sum()
        counts["slides"] += (~resting & ~free & ~still).sum()
        sides.append((places[:, 1] > 0).any())
        headings = np.arctan2(*wanted[~resting].T[::-1])
        turns.append(np.median(np.abs(np.remainder(np.diff(headings) + math.pi, math.tau) - math.pi)))
        total += len(actions)
    shares = {name: count / total for name, count in counts.items()}
    assert 0.05 < shares["rest"] < 0.2 and shares["free"] > 0.5
    assert shares["stuck"] > 0.03 and shares["slides"] > 0.08
    assert np.mean(sides) > 0.3  # now and then it gets past the barrier, by chance
    assert 0.1 < np.median(turns) < 0.6  # radians: neither straight nor jittery


@pytest.mark.parametrize(
    ("nearer", "fewest", "most"),
    [
        (0.02, 10, 40),  # coming nearer: until the time is up
        (0.0, 4, 10),  # standing still: until the patience is
        (0.0005, 4, 10),  # hardly coming nearer is no progress
    ],
)
def test_the_policy_gives_up_in_time(nearer, fewest, most):
    walk = {"x": 0.0, "steps": 0}
    drawn = []

    def draw_place(rng):
        drawn.append(walk["steps"])
        return walk["x"] + 100.0, 0.0

    policy = BallNavPolicy(lambda: (walk["x"], 0.0), draw_place, 0.1, seed=0)
    for _ in range(600):
        resting = not policy.act().any()
        walk["steps"] += not resting
        walk["x"] += 0.0 if resting else nearer
    lasted = np.diff(drawn)
    assert len(lasted) > 10 and lasted.min() >= fewest and lasted.max() <= most
    assert len(set(lasted.tolist())) >= 4  # a random time


def test_the_policy_goes_elsewhere_once_it_has_arrived():
    drawn = []
    policy = BallNavPolicy(lambda: (0.0, 0.0), lambda rng: drawn.append(1) or (0.0, 0.04), 0.1, seed=0)
    acted = sum(bool(policy.act().any()) for _ in range(50))
    assert len(drawn) == 1 + acted


def test_the_policys_errors_are_smooth_and_it_does_not_overshoot():
    policy = BallNavPolicy(lambda: (0.0, 0.0), lambda rng: (100.0, 0.0), 0.1, seed=0)
    actions = np.array([policy.act() for _ in range(2000)])
    headings = np.arctan2(*actions[actions.any(1)].T[::-1])
    assert abs(np.mean(headings)) < 0.1 and 0.35 < np.std(headings) < 0.6  # radians off the straight way
    assert np.corrcoef(headings[:-1], headings[1:])[0, 1] == pytest.approx(0.8, abs=0.1)
    policy = BallNavPolicy(lambda: (0.0, 0.0), lambda rng: (0.06, 0.0), 0.1, seed=0)
    lengths = [np.linalg.norm(policy.act()) for _ in range(200)]
    assert max(lengths) == pytest.approx(0.6)


def test_the_policy_follows_its_seed_and_not_the_goal():
    actions, _ = play(3)
    again, _ = play(3, goal=[0.3, 0.7], state=make().reset(seed=3)[0]["observation"])
    np.testing.assert_array_equal(actions, again)
    other, _ = play(3, policy_seed=4)
    assert not np.array_equal(actions, other)


@pytest.mark.parametrize("place", [(1.0, 1.0), (-1.0, -1.0), (0.6, 0.05), (0.0, -0.05), (-0.6, 0.0)])
def test_the_policy_works_in_every_state_and_leaves_it(place):
    for seed in range(5):
        _, places = play(seed, state=place)
        assert np.linalg.norm(places - place, axis=1).max() > 0.2


def test_free_places_fill_the_world_outside_the_barrier():
    rng = np.random.default_rng(0)
    places = np.array([free_place(rng) for _ in range(3000)])
    inside = (np.abs(places[:, 0]) < 0.6) & (np.abs(places[:, 1]) < 0.05)
    assert not inside.any() and np.abs(places).max() <= 1.0
    np.testing.assert_allclose(places.mean(0), 0.0, rtol=0, atol=0.04)
    # A quarter of the free area is the quadrant of either sign.
    assert np.mean((places > 0).all(1)) == pytest.approx(0.25, abs=0.03)
