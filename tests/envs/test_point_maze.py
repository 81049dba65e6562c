"""The point maze: its physics, its maps, its pictures, and its data policy."""

import copy
import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker
from env_checks import check_that_the_seed_decides_everything, equal
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.passive_env_checker import env_render_passive_checker
from scipy.sparse.csgraph import shortest_path
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

import grasp_envs  # noqa: F401
from grasp_envs.point_maze import PointMazeEnv
from grasp_envs.point_maze_simulation import MAZES, Maze, PointMazeSimulation

OBS_TYPES = ("state", "pixels")
NAMES = ("umaze", "medium", "large")
HALL = ["#" * 12, *["#" + "." * 10 + "#"] * 10, "#" * 12]
"""A square of 10 x 10 free cells."""
PILLAR = ["#####", "#...#", "#.#.#", "#...#", "#####"]
REST = np.zeros(2, np.float32)


def make(maze="umaze", **arguments):
    return gym.make("grasp_envs/PointMaze-v0", disable_env_checker=True, maze=maze, **arguments).unwrapped


def placed(maze, state, **arguments):
    """An environment with its ball in `state`."""
    env = make(maze, **arguments)
    env.reset(seed=0)
    env.set_state(state)
    return env


def gap_to_walls(rows, x, y):
    """From (x, y) to the nearest wall cell of a map, over all its cells; 0 inside one. For one place or many."""
    walls = np.array([(c, r) for r, row in enumerate(rows) for c, character in enumerate(row) if character == "#"])
    over_x, over_y = (
        np.maximum(np.maximum(low - np.asarray(value)[..., None], np.asarray(value)[..., None] - low - 1.0), 0.0)
        for low, value in zip(walls.T, (x, y), strict=True)
    )
    return np.sqrt(over_x**2 + over_y**2).min(axis=-1)


# ---------------------------------------------------------------------- free motion


def test_a_push_speeds_the_ball_up_as_its_force_mass_and_damping_say():
    # The closed form of m v' = F - v, with half the force, for 0.2 s; the steps of 0.01 s are 0.4 % off at most.
    env = placed(HALL, [5.0, 5.0])
    for step in range(1, 5):
        env.step(np.array([0.5, -0.25], np.float32))
        t, time = 0.05 * step, 4.189
        speed = 50.0 * (1.0 - math.exp(-t / time))
        way = 50.0 * (t - time * (1.0 - math.exp(-t / time)))
        x, y, vx, vy = env.get_state()
        assert vx == pytest.approx(speed, rel=0.004) and vy == pytest.approx(-0.5 * speed, rel=0.004)
        # Semi-implicit Euler is ahead by half a step of 0.01 s times the speed.
        assert x - 5.0 == pytest.approx(way + 0.005 * speed, rel=0.01)
        assert 5.0 - y == pytest.approx(0.5 * (way + 0.005 * speed), rel=0.01)


def test_one_step_of_the_integrator_is_semi_implicit_with_implicit_damping():
    env = placed(HALL, [5.0, 5.0, 1.0, -2.0], frame_skip=1)
    env.step(np.array([0.5, 0.0], np.float32))
    vx, vy = (4.189 * 1.0 + 0.01 * 50.0) / 4.199, 4.189 * -2.0 / 4.199
    np.testing.assert_allclose(env.get_state(), [5.0 + 0.01 * vx, 5.0 + 0.01 * vy, vx, vy], rtol=0, atol=1e-12)


def test_the_velocity_ends_at_five_along_either_axis():
    env = placed(HALL, [2.0, 9.0])
    for _ in range(20):
        env.step(np.array([1.0, -1.0], np.float32))
    before = env.get_state()
    env.step(np.array([1.0, -1.0], np.float32))
    np.testing.assert_allclose(env.get_state()[2:], [5.0, -5.0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(env.get_state()[:2] - before[:2], [0.25, -0.25], rtol=0, atol=1e-12)


def test_a_ball_left_alone_slows_down_by_its_damping():
    env = placed(HALL, [2.0, 3.0, 4.0, 0.0])
    for _ in range(60):
        env.step(REST)
    x, y, vx, vy = env.get_state()
    # exp(-t / m) after t = 3 s, and the way is m times the speed lost.
    assert vx == pytest.approx(4.0 * math.exp(-3.0 / 4.189), rel=0.002)
    assert x == pytest.approx(2.0 + 4.189 * (4.0 - vx), rel=0.002)
    assert (y, vy) == (3.0, 0.0)


@pytest.mark.parametrize("frame_skip", [1, 20])
def test_frame_skip_is_the_number_of_hundredths_of_a_second(frame_skip):
    one, five = placed(HALL, [5.0, 5.0], frame_skip=frame_skip), placed(HALL, [5.0, 5.0], frame_skip=5)
    for _ in range(40 // frame_skip):
        one.step(np.array([0.3, 0.1], np.float32))
    for _ in range(8):
        five.step(np.array([0.3, 0.1], np.float32))
    np.testing.assert_allclose(one.get_state(), five.get_state(), rtol=0, atol=1e-12)
    assert (one.metadata["render_fps"], five.metadata["render_fps"]) == (100 // frame_skip, 20)


def test_actions_beyond_the_box_are_clipped():
    first, second = placed(HALL, [5.0, 5.0]), placed(HALL, [5.0, 5.0])
    first.step(np.array([3.0, -9.0], np.float32))
    second.step(np.array([1.0, -1.0], np.float32))
    np.testing.assert_array_equal(first.get_state(), second.get_state())


# ---------------------------------------------------------------------- walls


@pytest.mark.parametrize(
    ("push", "place"),
    [((1, 0), (3.9, 2.5)), ((-1, 0), (3.1, 2.5)), ((0, 1), (3.5, 3.9)), ((0, -1), (3.5, 1.1))],
)
def test_walls_stop_the_ball_head_on_a_radius_away(push, place):
    env = placed("umaze", [3.5, 2.5])
    for _ in range(20):
        env.step(np.array(push, np.float32))
    np.testing.assert_allclose(env.get_state(), [*place, 0.0, 0.0], rtol=0, atol=1e-12)
    for _ in range(20):
        env.step(REST)  # and do not throw it back
    np.testing.assert_allclose(env.get_state(), [*place, 0.0, 0.0], rtol=0, atol=1e-12)


def test_along_a_wall_the_ball_slides_as_if_it_were_not_there():
    # Along the bottom wall of the lower corridor, the ball pressed against it, and in an open hall.
    wall, free = placed("umaze", [1.2, 3.9, 1.0, 0.0]), placed(HALL, [1.2, 3.9, 1.0, 0.0])
    for _ in range(5):
        wall.step(np.array([0.4, 1.0], np.float32))
        free.step(np.array([0.4, 0.0], np.float32))
        np.testing.assert_allclose(wall.get_state(), free.get_state(), rtol=0, atol=1e-12)
    # From a slanting hit the wall takes the part into it, and leaves the other.
    env = placed("umaze", [1.2, 3.7, 2.0, 4.0])
    for _ in range(2):
        env.step(REST)
    x, y, vx, vy = env.get_state()
    assert (y, vy) == (pytest.approx(3.9, abs=1e-12), 0.0)
    assert vx == pytest.approx(2.0 * math.exp(-0.1 / 4.189), rel=1e-3)
    assert x == pytest.approx(1.2 + 0.2, abs=0.005)


def test_a_ball_leaves_a_wall_freely():
    env, free = placed("umaze", [3.9, 2.5]), placed(HALL, [3.9, 2.5])
    for e in (env, free):
        e.step(np.array([-0.5, 0.0], np.float32))
    np.testing.assert_array_equal(env.get_state(), free.get_state())


def test_a_corner_deflects_the_ball_along_its_normal():
    # Down past the corner (2, 2) of the pillar's cell, half overlapping it sideways: the normal is 30 degrees off.
    env = placed(PILLAR, [1.95, 1.88, 0.0, 3.0], frame_skip=1)
    x, y, vx, vy = env.get_state()
    touched = False
    for _ in range(10):
        before = env.get_state()
        env.step(REST)
        x, y, vx, vy = env.get_state()
        if not touched and vx != 0.0:
            touched = True
            assert math.hypot(x - 2.0, y - 2.0) == pytest.approx(0.1, abs=1e-12)
            normal = np.array([x - 2.0, y - 2.0]) / 0.1
            incoming = before[2:] * 4.189 / 4.199
            np.testing.assert_allclose([vx, vy], incoming - (incoming @ normal) * normal, rtol=0, atol=1e-12)
            assert vx < 0.0 < vy
    assert touched and y > 2.0 and x < 1.9  # round it, and on beside the pillar


def test_a_corner_met_head_on_stops_the_ball():
    env = placed(PILLAR, [1.6, 1.6])
    for _ in range(20):
        env.step(np.array([0.5, 0.5], np.float32))
    x, y, vx, vy = env.get_state()
    np.testing.assert_allclose([x, y], 2.0 - 0.1 * math.sqrt(0.5), rtol=0, atol=1e-9)
    np.testing.assert_allclose([vx, vy], 0.0, atol=1e-9)


def test_a_ball_that_grazes_a_corner_and_is_past_it_keeps_its_velocity():
    # Across the diagonal through the corner (2, 2), which the step ends a little beyond, and a little too near.
    across, out = np.array([1.0, -1.0]) * math.sqrt(0.5), np.array([-1.0, -1.0]) * math.sqrt(0.5)
    env = placed(PILLAR, [*(2.0 + 0.0995 * out - 0.025 * across), *(3.0 * 4.199 / 4.189 * across)], frame_skip=1)
    env.step(REST)
    x, y, vx, vy = env.get_state()
    np.testing.assert_allclose([vx, vy], 3.0 * across, rtol=0, atol=1e-12)
    assert math.hypot(x - 2.0, y - 2.0) == pytest.approx(0.1, abs=1e-12)
    assert np.dot([x - 2.0, y - 2.0], across) == pytest.approx(0.005, abs=1e-4)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_ball_that_comes_past_a_corner_to_a_wall_and_leaves_it_keeps_its_velocity(axes, mirrored):
    # From beside the corner (2, 2), or (3, 3), to beside the wall that begins there: 0.001 too near, but leaving.
    place, velocity = np.array([1.905, 1.965]), np.array([-0.4, 4.0]) * 4.199 / 4.189
    if mirrored:
        place, velocity = 5.0 - place, -velocity
    env = placed(PILLAR, [*place[list(axes)], *velocity[list(axes)]], frame_skip=1)
    env.step(REST)
    state = env.get_state()
    sign = -1.0 if mirrored else 1.0
    np.testing.assert_allclose(state[2:][list(axes)], [-0.4 * sign, 4.0 * sign], rtol=0, atol=1e-12)
    expected = np.array([1.9, 2.005])
    np.testing.assert_allclose(state[:2][list(axes)], 5.0 - expected if mirrored else expected, rtol=0, atol=1e-12)


def test_a_fast_ball_deflected_by_a_corner_keeps_within_five_and_along_the_corner():
    # At (5, -5) onto the corner (2, 2). What is along it would be (2.5, -6.0) or so.
    env = placed(PILLAR, [1.867, 2.016, 5.0, -5.0], frame_skip=1)
    env.step(np.array([1.0, -1.0], np.float32))
    x, y, vx, vy = env.get_state()
    assert math.hypot(x - 2.0, y - 2.0) == pytest.approx(0.1, abs=1e-12)
    assert vy == pytest.approx(-5.0, abs=1e-12)
    assert (x - 2.0) * vx + (y - 2.0) * vy == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("side", [-1, 1])
def test_two_walls_that_meet_at_a_corner_let_nothing_through(side):
    rows = (
        ["####", "#.##", "#..#", "##.#", "#..#", "####"]
        if side > 0
        else ["####", "##.#", "#..#", "#.##", "#..#", "####"]
    )
    env = placed(rows, [1.5, 2.5] if side > 0 else [2.5, 2.5])
    for _ in range(40):
        env.step(np.array([-0.9 * side, 1.0], np.float32))
    np.testing.assert_allclose(env.get_state()[:2], [1.1 if side > 0 else 2.9, 2.9], rtol=0, atol=1e-9)


@pytest.mark.parametrize("maze", [*NAMES, "pillars"])
def test_no_push_ever_brings_the_ball_into_a_wall(maze):
    rows = (
        ["#########", *["#.......#", "#.#.#.#.#"] * 3, "#.......#", "#########"] if maze == "pillars" else MAZES[maze]
    )
    simulation = PointMazeSimulation(Maze(rows))
    rng = np.random.default_rng(0)
    states = [simulation.get_state()]
    for step in range(8000):
        if step % 8 == 0:
            angle = rng.uniform(0.0, math.tau)
            push = np.clip(1.5 * np.array([math.cos(angle), math.sin(angle)]), -1.0, 1.0).tolist()
        simulation.step(*push, 1)
        states.append(simulation.get_state())
    states = np.array(states)
    gaps = gap_to_walls(rows, *states[:, :2].T)
    assert gaps.min() >= 0.1 - 1e-9
    assert all(simulation.maze.is_free(x, y) for x, y in states[:, :2])
    assert np.abs(states[:, 2:]).max() <= 5.0
    # Never further than the speed allows and a wall pushes out: so nothing is jumped over.
    assert np.abs(np.diff(states[:, :2], axis=0)).max() <= 0.1
    assert (gaps < 0.1 + 1e-9).sum() > 500


def test_the_velocity_stays_inside_its_space_when_corners_deflect_it():
    env = make(PILLAR)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(1000):
        corner = rng.integers(2, 4, 2)
        outwards = np.where(corner == 2, -1, 1)
        place = corner + outwards * rng.uniform(0.0, 0.2, 2)
        if gap_to_walls(PILLAR, *place) < 0.1:
            continue
        env.set_state([*place, *(-5.0 * outwards)])
        observation, *_ = env.step(-outwards.astype(np.float32))
        assert env.observation_space.contains(observation)
        assert gap_to_walls(PILLAR, *observation["achieved_goal"]) >= 0.1 - 1e-9


# ---------------------------------------------------------------------- maps


@pytest.mark.parametrize(
    ("name", "size", "cells"), [("umaze", (5, 5), 7), ("medium", (8, 8), 26), ("large", (9, 12), 46)]
)
def test_named_mazes(name, size, cells):
    maze = Maze(name)
    assert (maze.height, maze.width) == size
    assert len(maze.cells) == cells
    # The path lengths, from another program's search in the graph of neighbouring cells.
    places = np.array(maze.cells)
    neighbours = np.abs(places[:, None] - places).sum(axis=-1) == 1
    np.testing.assert_array_equal(maze.steps, shortest_path(neighbours, unweighted=True))


def test_path_lengths_of_the_u_maze():
    maze = Maze("umaze")
    way = [(1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (2, 3), (1, 3)]
    order = [maze.cells.index(cell) for cell in way]
    expected = np.abs(np.arange(7)[:, None] - np.arange(7))
    np.testing.assert_array_equal(maze.steps[np.ix_(order, order)], expected)


def test_a_map_of_ones_own():
    env = make(("#####", "#. .#", "#####"))
    assert env.maze.rows == ("#####", "#...#", "#####")
    assert env.maze.cells == [(1, 1), (2, 1), (3, 1)]
    np.testing.assert_array_equal(env.maze.steps, [[0, 1, 2], [1, 0, 1], [2, 1, 0]])
    assert env.reset(seed=0)[1]["distance"] > 1.0


@pytest.mark.parametrize(
    ("maze", "message"),
    [
        ("maze", "maze to be one of 'umaze', 'medium', 'large' or a sequence of strings, got 'maze', try 'umaze'"),
        (7, r"a sequence of strings, got 7, try \[\"####\""),
        ([], r"a sequence of strings, got \[\]"),
        ([[1, 1], [1, 1]], r"a sequence of strings, got \[\[1, 1\]"),
        (["#####", "#..#", "#####"], r"rows of one length, got lengths \[4, 5\]"),
        (["####", "#.G#", "####"], r"\"#\" \(wall\) and \"\.\" or \" \" \(free\), got \['G'\]"),
        (["####", "#...", "####"], r"walls all round, got a free cell in row 1, column 3"),
        (["##.#", "#..#", "####"], r"walls all round, got a free cell in row 0, column 2"),
        (["####", "#..#"], r"walls all round, got a free cell in row 1, column 1"),
        (["###", "#.#", "###"], "at least two free cells, got 1"),
        (["", ""], "at least two free cells, got 0"),
        (["#####", "#.#.#", "#####"], "reached from one another, got one cut off in row 1, column 3"),
    ],
)
def test_wrong_mazes_are_refused(maze, message):
    with pytest.raises(ValueError, match=message):
        make(maze)


# ---------------------------------------------------------------------- start and goal


def cell_of(place):
    return int(place[0]), int(place[1])


@pytest.mark.parametrize(
    ("goals", "pairs"),
    [
        # At least 3/4 of 6 cells apart on the way of 7.
        ("far", {(0, 5), (0, 6), (1, 6), (5, 0), (6, 0), (6, 1)}),
        ("any", {(i, j) for i in range(7) for j in range(7) if i != j}),
    ],
)
def test_starts_and_goals_are_drawn_from_the_pairs_uniformly(goals, pairs):
    way = [(1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (2, 3), (1, 3)]
    env = make("umaze", goals=goals)
    counts = dict.fromkeys(pairs, 0)
    offsets = []
    env.reset(seed=0)
    for _ in range(20 * len(pairs)):
        _, info = env.reset()
        start, goal = info["state"], info["goal_state"]
        np.testing.assert_array_equal([*start[2:], *goal[2:]], 0.0)
        assert not info["is_success"]
        counts[way.index(cell_of(start)), way.index(cell_of(goal))] += 1  # a KeyError for any other pair
        offsets += [start[:2] - np.floor(start[:2]) - 0.5, goal[:2] - np.floor(goal[:2]) - 0.5]
    # 20 are expected of each, with a standard deviation of 4.5.
    assert min(counts.values()) > 2 and max(counts.values()) < 38
    assert 0.24 < np.abs(offsets).max() <= 0.25
    assert np.std(offsets) == pytest.approx(0.5 / math.sqrt(12), rel=0.1)


def test_far_pairs_of_a_larger_maze():
    env = make("medium")
    lengths = set()
    for seed in range(200):
        _, info = env.reset(seed=seed)
        cells = env.maze.cells
        lengths.add(int(env.maze.steps[cells.index(cell_of(info["state"])), cells.index(cell_of(info["goal_state"]))]))
    assert lengths == {9, 10, 11}  # the longest is 11, and 3/4 of it 8.25


def test_a_state_or_a_goal_alone_gets_the_other_drawn():
    env = make("umaze")
    ends = set()
    for seed in range(30):
        _, info = env.reset(seed=seed, options={"state": [1.3, 1.6, 1.0, 0.0]})
        np.testing.assert_array_equal(info["state"], [1.3, 1.6, 1.0, 0.0])
        ends.add(cell_of(info["goal_state"]))
    assert ends == {(2, 3), (1, 3)}
    starts = set()
    for seed in range(30):
        _, info = env.reset(seed=seed, options={"goal": [2.2, 1.5]})
        np.testing.assert_array_equal(info["goal_state"], [2.2, 1.5, 0.0, 0.0])
        starts.add(cell_of(info["state"]))
    assert starts == {(1, 3)}
    # The middle of the way has no far partner: the farthest it has are its two ends.
    ends = {cell_of(env.reset(seed=seed, options={"state": [3.5, 2.5]})[1]["goal_state"]) for seed in range(30)}
    assert ends == {(1, 1), (1, 3)}


def test_what_is_drawn_never_solves_the_task_even_from_the_edge_of_a_cell():
    env = make("umaze", goals="any")
    for seed in range(200):
        for options in ({"state": [1.999, 1.5]}, {"goal": [1.999, 1.5]}):
            assert not env.reset(seed=seed, options=options)[1]["is_success"]


# ---------------------------------------------------------------------- success, reward and end


@pytest.mark.parametrize(("offset", "success"), [((0.44, 0.0), True), ((0.31, 0.32), True), ((0.32, -0.33), False)])
def test_success_is_a_distance_of_at_most_0_45(offset, success):
    env = make("umaze")
    goal = [2.5, 1.45]
    _, info = env.reset(options={"state": [goal[0] + offset[0], goal[1] + offset[1], 2.0, 0.0], "goal": goal})
    assert info["is_success"] is success
    assert info["distance"] == pytest.approx(math.hypot(*offset))
    env.reset(options={"state": [goal[0] + offset[0], goal[1] + offset[1]], "goal": goal})
    assert env.step(REST)[1] == (0.0 if success else -1.0)


@pytest.mark.parametrize("reward_type", ["sparse", "dense"])
def test_the_reward_is_compute_reward_for_one_and_for_many(reward_type):
    env = make("umaze", reward_type=reward_type, goals="any")
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
    near, goal, expected = np.array([1.2, 1.4]), np.array([1.5, 1.8]), math.exp(-0.5) - 1.0
    assert env.compute_reward(near, goal, {}) == pytest.approx(expected if reward_type == "dense" else -1.0)


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_only_the_state_observation_is_a_goal_environment(obs_type):
    assert hasattr(make(obs_type=obs_type), "compute_reward") == (obs_type == "state")


@pytest.mark.parametrize("max_steps", [1, 7])
def test_it_never_terminates_and_truncates_after_max_steps(max_steps):
    env = make("umaze", max_steps=max_steps)
    for _ in range(2):
        env.reset(options={"state": [1.5, 1.5], "goal": [1.5, 1.5]})
        for t in range(max_steps):
            _, reward, terminated, truncated, info = env.step(REST)
            assert (reward, terminated, info["is_success"]) == (0.0, False, True)
            assert truncated is (t == max_steps - 1)
    assert make().max_steps == 300


# ---------------------------------------------------------------------- observations and pictures


def test_state_observations():
    env = make("large")
    observation, info = env.reset(options={"state": [1.25, 3.5, -1.0, 2.0], "goal": [10.5, 7.5]})
    np.testing.assert_array_equal(observation["observation"], [1.25, 3.5, -1.0, 2.0])
    np.testing.assert_array_equal(observation["achieved_goal"], [1.25, 3.5])
    np.testing.assert_array_equal(observation["desired_goal"], [10.5, 7.5])
    np.testing.assert_array_equal(info["state"], [1.25, 3.5, -1.0, 2.0])
    np.testing.assert_array_equal(env.get_state(), info["state"])


def is_red(picture):
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    return (red > 150) & (green < 100) & (blue < 100)


@pytest.mark.parametrize("maze", NAMES)
def test_the_goal_picture_is_the_picture_with_the_ball_at_the_goal(maze):
    env = make(maze, obs_type="pixels")
    observation, info = env.reset(seed=3)
    there, _ = env.reset(options={"state": info["goal_state"], "goal": info["state"][:2]})
    np.testing.assert_array_equal(there["pixels"], observation["goal"])
    np.testing.assert_array_equal(there["goal"], observation["pixels"])
    assert not np.array_equal(observation["goal"], observation["pixels"])


def test_pictures_show_walls_floor_and_ball_where_they_are():
    env = make("large", obs_type="pixels", resolution=120)
    observation, _ = env.reset(options={"state": [4.5, 2.5], "goal": [1.5, 7.5]})
    picture = observation["pixels"]
    # 10 px a cell; the map's 9 rows lie in the middle of 12.
    colours = {"#": (128, 128, 128), ".": (255, 255, 255)}
    for row in range(12):
        for column in range(12):
            character = MAZES["large"][row - 2][column] if 2 <= row < 10 else "#"
            # The cell's middle, half a cell further down: the map is off by 1.5.
            middle = picture[row * 10, column * 10 + 5]
            if (column, row) != (4, 4):
                assert tuple(middle.tolist()) == colours[character], (column, row)
    rows, columns = np.nonzero(is_red(picture))
    assert columns.mean() == pytest.approx(45 - 0.5, abs=0.1) and rows.mean() == pytest.approx(40 - 0.5, abs=0.1)
    assert len(rows) == pytest.approx(math.pi * 3.0**2, rel=0.2)


def test_pictures_have_no_seams_between_free_cells():
    picture = make("umaze", obs_type="pixels", resolution=64).reset(options={"state": [1.5, 3.5]})[0]["pixels"]
    # The upper corridor lies at 1..4 cells of 12.8 px: white all along, inside it.
    assert (picture[14:24, 14:50] == 255).all()


def test_render_shows_the_goal_as_a_pale_disk_on_the_floor():
    env = make("umaze", render_mode="rgb_array", visualization_size=200, obs_type="pixels")
    env.reset(options={"state": [1.5, 3.5], "goal": [1.5, 1.2]})
    picture = env.render()
    assert picture.shape == (200, 200, 3) and picture.dtype == np.uint8
    colour = {name: tuple(picture[int(y * 40), int(x * 40)].tolist()) for name, (x, y) in {
        "ball": (1.5, 3.5), "goal": (1.5, 1.2), "rim": (1.9, 1.2), "floor": (2.0, 1.2), "wall": (1.5, 0.95)
    }.items()}  # fmt: skip
    assert colour["goal"] == colour["rim"] == (250, 190, 190)
    assert (colour["floor"], colour["wall"], colour["ball"]) == ((255,) * 3, (128,) * 3, (220, 30, 30))


def test_render_without_a_mode_says_so():
    env = make()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match='render_mode="rgb_array"'):
        assert env.render() is None


# ---------------------------------------------------------------------- checkers, seeds and copies


@pytest.mark.parametrize("maze", NAMES)
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_checkers_pass_without_a_warning(obs_type, maze):
    env = make(maze, obs_type=obs_type, render_mode="rgb_array", visualization_size=64)
    check_env(env, skip_render_check=True)
    env_render_passive_checker(env)
    stable_baselines3.common.env_checker.check_env(env, skip_render_check=False)


@pytest.mark.parametrize(
    "arguments",
    [{"reward_type": "dense"}, {"goals": "any", "max_steps": 3}, {"frame_skip": 1}, {"maze": ["####", "#..#", "####"]}],
)
def test_checkers_pass_for_the_other_arguments(arguments):
    env = make(**arguments)
    check_env(env, skip_render_check=True)
    stable_baselines3.common.env_checker.check_env(env)


def test_hindsight_replay_relabels():
    env = DummyVecEnv([lambda: make("umaze", max_steps=10)])
    buffer = HerReplayBuffer(40, env.observation_space, env.action_space, env, device="cpu")
    env.seed(0)
    observation = env.reset()
    for _ in range(40):
        action = np.array([env.action_space.sample()])
        following, reward, done, infos = env.step(action)
        assert reward == -1.0
        stored = (
            {**infos[0]["terminal_observation"]} if done[0] else {key: value[0] for key, value in following.items()}
        )
        buffer.add(observation, {key: value[None] for key, value in stored.items()}, action, reward, done, infos)
        observation = following
    # With goals reached later, transitions succeed that never did as they happened.
    assert set(np.unique(buffer.sample(64).rewards.numpy())) == {-1.0, 0.0}


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_the_seed_decides_everything(obs_type):
    check_that_the_seed_decides_everything(lambda: make(obs_type=obs_type))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_copies_continue_alike(obs_type, duplicate):
    env = gym.make("grasp_envs/PointMaze-v0", obs_type=obs_type, render_mode="rgb_array", visualization_size=64)
    env.reset(seed=5)
    for _ in range(3):
        env.step(np.array([-0.1, 0.1], np.float32))
    twin = duplicate(env)
    for _ in range(3):
        first, second = (e.step(np.array([0.2, 0.1], np.float32)) for e in (env, twin))
        assert equal(first[0], second[0]) and first[1:4] == second[1:4]
    np.testing.assert_array_equal(env.render(), twin.render())
    assert equal(env.reset()[0], twin.reset()[0])


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_arrays_handed_out_are_the_users_own(obs_type):
    env, control = make(obs_type=obs_type), make(obs_type=obs_type)
    goal = np.array([1.5, 1.5])
    for e in (env, control):
        e.reset(seed=0, options={"goal": goal.copy() if e is control else goal})
    goal[:] = 0.0
    for _ in range(2):
        (observation, *_, info), (expected, *_, wanted) = (e.step(np.ones(2, np.float32)) for e in (env, control))
        assert equal(observation, expected) and equal(info, wanted)
        for array in (*observation.values(), *info.values()):
            if isinstance(array, np.ndarray):
                array[...] = 0
    env.render_mode = control.render_mode = "rgb_array"
    np.testing.assert_array_equal(env.render(), control.render())


# ---------------------------------------------------------------------- what is asked for, and what goes wrong


def test_options_and_set_state_set_exactly_what_is_asked():
    env = make()
    _, info = env.reset(options={"state": [1.1, 3.9, -5.0, 0.25], "goal": [3.2, 2.5]})
    np.testing.assert_array_equal(info["state"], [1.1, 3.9, -5.0, 0.25])
    np.testing.assert_array_equal(info["goal_state"], [3.2, 2.5, 0.0, 0.0])
    for _ in range(30):
        env.step(np.array([-1.0, 1.0], np.float32))
    pressed = env.get_state()
    env.set_state([3.5, 1.5])
    np.testing.assert_array_equal(env.get_state(), [3.5, 1.5, 0.0, 0.0])
    env.set_state(pressed)  # against two walls, which leaves rounding
    np.testing.assert_array_equal(env.get_state(), pressed)
    np.testing.assert_array_equal(env.step(REST)[-1]["goal_state"], [3.2, 2.5, 0.0, 0.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": [1.5, 1.5, 0.0]}, r"state of 2 or 4 numbers \(x, y, .* got shape \(3,\)"),
        ({"state": [2.5, 2.5]}, r"state where the ball, of radius 0.1, fits .* got \[2.5, 2.5\], try .* \[1.5, 1.5\]"),
        ({"state": [1.05, 1.5]}, r"state where the ball, .* got \[1.05, 1.5\]"),
        ({"state": [2.96, 1.96]}, r"state where the ball, .* got \[2.96, 1.96\]"),  # near a corner alone
        ({"state": [-1.5, 1.5]}, "state where the ball"),
        ({"state": [1.5, 77.0]}, "state where the ball"),
        ({"state": [1.5, math.nan]}, "finite numbers in state"),
        ({"state": [1.5, 1.5, 0.0, -5.5]}, r"velocities in state within \+-5 cells/s, got \[0.0, -5.5\]"),
        ({"state": "here"}, "state to be numbers .* got 'here'"),
        ({"goal": [1.5, 1.5, 0.0, 0.0]}, r"goal of 2 numbers \(x, y\), got shape \(4,\)"),
        ({"goal": [0.5, 0.5]}, "goal where the ball"),
        ({"place": [1.5, 1.5]}, r"\"state\" and \"goal\", got \['place'\]"),
    ],
)
def test_wrong_options_are_refused_and_nothing_changes(options, message):
    env = make()
    env.reset(seed=0)
    before = env._info()
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    if "state" in options:
        with pytest.raises(ValueError, match=message):
            env.set_state(options["state"])
    assert equal(env._info(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"goals": "near"}, "goals to be one of 'far', 'any', got 'near'"),
        ({"obs_type": "keypoints"}, "obs_type to be one of 'state', 'pixels', got 'keypoints'"),
        ({"resolution": 4}, "resolution to be an integer of at least 8, got 4, try 64"),
        ({"reward_type": "shaped"}, "reward_type to be one of 'sparse', 'dense'"),
        ({"frame_skip": 0}, "frame_skip to be an integer of at least 1, got 0, try 5"),
        ({"max_steps": 0}, "max_steps to be an integer of at least 1, got 0, try 300"),
        ({"visualization_size": True}, "visualization_size to be an integer"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_there_is_no_window():
    with pytest.raises(ValueError, match="render_mode to be one of 'rgb_array', got 'human'"):
        PointMazeEnv(render_mode="human")


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
    env = make()
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match=message):
        env.step(action)
    np.testing.assert_array_equal(env.get_state(), before)


# ---------------------------------------------------------------------- the data policy


def wander(maze, seed, episodes, steps, start=None):
    """States [episodes * steps, 4] and actions of the data policy."""
    env = make(maze, goals="any")
    policy = env.make_expert(seed)
    states, actions = [], []
    for episode in range(episodes):
        env.reset(seed=1000 * seed + episode, options=None if start is None else {"state": start})
        for _ in range(steps):
            actions.append(policy.act())
            assert env.action_space.contains(actions[-1])
            states.append(env.step(actions[-1])[-1]["state"])
    return np.array(states), np.array(actions)


@pytest.mark.parametrize("start", [[1.5, 1.5], [3.5, 2.5], [1.1, 3.9]])
def test_the_policy_gets_everywhere_in_the_u_maze_from_anywhere(start):
    states, _ = wander("umaze", 0, 1, 2000, start)
    assert {cell_of(state) for state in states} == set(Maze("umaze").cells)


def test_the_policy_touches_walls_slides_rests_and_moves_freely():
    states, actions = wander("umaze", 1, 10, 200)
    speed = np.hypot(states[:, 2], states[:, 3])
    touching = gap_to_walls(MAZES["umaze"], *states[:, :2].T) < 0.1 + 1e-9
    assert 0.15 < touching.mean() < 0.6
    assert (touching & (speed > 0.5)).mean() > 0.05  # sliding
    pushing = np.abs(actions).max(axis=1) > 0.1
    assert (touching & (speed < 0.3) & pushing).mean() > 0.03  # stuck
    assert ((speed < 0.05) & ~pushing).mean() > 0.03  # resting
    assert (~touching & (speed > 1.0)).mean() > 0.2  # free
    assert np.ptp(speed) > 4.0 and actions.min() < -0.9 and actions.max() > 0.9


def test_the_policy_gets_about_in_the_medium_maze():
    states, _ = wander("medium", 0, 20, 100)
    assert len({cell_of(state) for state in states}) >= 20


def test_the_policy_is_decided_by_its_seed():
    (first, actions), (again, _), (other, _) = (wander("umaze", seed, 1, 60, [3.5, 2.5]) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert actions.dtype == np.float32 and actions.shape == (60, 2)


@pytest.mark.parametrize("frame_skip", [1, 5, 40])
def test_the_policy_works_in_every_state(frame_skip):
    env = make("large", frame_skip=frame_skip)
    env.reset(seed=0)
    policy = env.make_expert(0)
    rng = np.random.default_rng(0)
    for _ in range(300):
        column, row = env.maze.cells[rng.integers(len(env.maze.cells))]
        env.set_state([*(np.array([column, row]) + rng.uniform(0.1, 0.9, 2)), *rng.uniform(-5.0, 5.0, 2)])
        for _ in range(3):
            action = policy.act()
            assert env.action_space.contains(action)
            env.step(action)


def steps_at_one_place(env, policy, where, steps):
    """How many steps in a row, at most, the policy keeps its place while the ball is put to `where(place, step)`."""
    longest, since, place = 0, 0, policy._place
    for _ in range(steps):
        env.set_state(where(place, since))
        policy.act()
        since = since + 1 if policy._place == place else 0
        longest, place = max(longest, since), policy._place
    return longest


def test_the_policy_gives_up_when_it_has_arrived_gets_no_nearer_or_runs_out_of_time():
    env = make(HALL)
    env.reset(seed=0)

    def near(offset):
        # Off its place, towards the middle of the hall.
        return lambda place, step: [
            np.clip(value, 1.1, 10.9) + (offset(step) if value < 6.0 else -offset(step)) for value in place
        ]

    pause = 19
    arrived = steps_at_one_place(env, env.make_expert(0), near(lambda step: 0.001), 300)
    stuck = steps_at_one_place(env, env.make_expert(0), near(lambda step: 2.0), 1000)
    nearing = steps_at_one_place(env, env.make_expert(0), near(lambda step: 3.0 - 0.02 * step), 3000)
    assert arrived <= 1 + pause
    assert 8 <= stuck <= 9 + pause
    assert 50 <= nearing <= 60 + pause


def test_the_policys_errors_of_direction_and_speed_are_smooth():
    env = make(HALL)
    env.reset(seed=0)
    policy = env.make_expert(0)
    turns, hurries = [], []
    for _ in range(3000):
        env.set_state([6.0, 6.0])  # at rest, so that the action is a share of the wanted velocity
        action = policy.act()
        way = np.array(policy._place) - 6.0
        if policy._pause_left or np.hypot(*way) < 1.5 or np.abs(action).max() in (0.0, 1.0):
            continue
        turns.append(math.remainder(math.atan2(action[1], action[0]) - math.atan2(way[1], way[0]), math.tau))
        hurries.append(np.hypot(*action) / (0.6 * 4.189 / 5.0 * policy._speed) - 1.0)
    assert len(turns) > 1000
    assert np.std(turns) == pytest.approx(0.5, abs=0.15) and abs(np.mean(turns)) < 0.15
    assert np.std(hurries) == pytest.approx(0.3, abs=0.1) and abs(np.mean(hurries)) < 0.15
    for errors in (turns, hurries):
        assert np.corrcoef(errors[:-1], errors[1:])[0, 1] > 0.7


def test_the_policy_never_looks_at_the_goal():
    def actions(goal):
        env = make("umaze")
        env.reset(seed=0, options={"state": [3.5, 2.5], "goal": goal})
        policy = env.make_expert(2)
        taken = []
        for _ in range(40):
            taken.append(policy.act())
            env.step(taken[-1])
        return np.array(taken)

    np.testing.assert_array_equal(actions([1.5, 1.5]), actions([1.5, 3.5]))
