"""gymnasium-robotics' PointMaze behind this package's pictures, goal pictures and steps.

The tests of what goes in and comes out run twice: over a stand-in with gymnasium-robotics' interface and this
package's physics, and over gymnasium-robotics itself, where it is installed. Pictures need MuJoCo.
"""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker
from env_checks import check_that_the_seed_decides_everything
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import grasp_envs  # noqa: F401
from grasp_agent.rollouts.environments import make_env, open_env
from grasp_agent.tasks import advice_for, task_for
from grasp_envs import mujoco_point_maze
from grasp_envs.mujoco_point_maze import MujocoPointMazeEnv
from grasp_envs.point_maze_simulation import MAZES, Maze, PointMazeSimulation

ENV = "grasp_envs:grasp_envs/MujocoPointMaze-v0"
MODULE = "gymnasium_robotics.envs.maze.point_maze"
RIGHT, UP, REST = (np.array(push, np.float32) for push in ([1, 0], [0, 1], [0, 0]))


class StandIn(gym.Env):
    """What of gymnasium-robotics is relied on: its coordinates, draws, rewards and ends, and how its state is set."""

    def __init__(self, *, maze_map, reward_type, continuing_task):
        assert continuing_task is False
        self.maze = Maze(["".join(".#"[cell] for cell in row) for row in maze_map])
        self.simulation = PointMazeSimulation(self.maze)
        self.reward_type = reward_type
        self.data = SimpleNamespace(qpos=np.zeros(2), qvel=np.zeros(2))
        self.point_env = SimpleNamespace(set_state=self.set_state)
        self.model = SimpleNamespace(
            vis=SimpleNamespace(global_=SimpleNamespace(), quality=SimpleNamespace()),
            site=lambda name: SimpleNamespace(pos=np.zeros(3), rgba=np.ones(4)),
        )
        self.target = np.zeros(2)
        self.goal = np.zeros(2)
        self.observation_space = spaces.Dict(
            {name: spaces.Box(-np.inf, np.inf, (size,), np.float64) for name, size in self.sizes().items()}
        )

    def sizes(self):
        return {"observation": 4, "achieved_goal": 2, "desired_goal": 2}

    def set_state(self, place, velocity):
        x, y = place
        self.simulation.set_state((x + self.maze.width / 2, self.maze.height / 2 - y, velocity[0], -velocity[1]))
        self._read()

    def _read(self):
        x, y, vx, vy = self.simulation.get_state()
        self.data.qpos = np.array([x - self.maze.width / 2, self.maze.height / 2 - y])
        self.data.qvel = np.array([vx, -vy])

    def update_target_site_pos(self):
        self.target = self.goal.copy()

    def reset(self, *, seed=None):
        super().reset(seed=seed)
        first, second = self.np_random.choice(len(self.maze.cells), 2, replace=False)
        self.goal, start = (
            np.array([column + 0.5 - self.maze.width / 2, self.maze.height / 2 - row - 0.5])
            + self.np_random.uniform(-0.25, 0.25, 2)
            for column, row in (self.maze.cells[first], self.maze.cells[second])
        )
        self.set_state(start, np.zeros(2))
        self.update_target_site_pos()

    def step(self, action):
        self.simulation.step(float(action[0]), -float(action[1]), 1)
        self._read()
        reward = self.compute_reward(self.data.qpos, self.goal, {})
        return {}, reward, bool(np.linalg.norm(self.data.qpos - self.goal) <= 0.45), False, {}

    def compute_reward(self, achieved, desired, info):
        distance = np.linalg.norm(achieved - desired, axis=-1)
        return np.exp(-distance) if self.reward_type == "dense" else (distance <= 0.45).astype(np.float64)


@pytest.fixture
def stand_in(monkeypatch):
    """As if gymnasium-robotics were installed."""
    module = ModuleType(MODULE)
    module.PointMazeEnv = StandIn
    for name in ("gymnasium_robotics", "gymnasium_robotics.envs", "gymnasium_robotics.envs.maze"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, MODULE, module)


@pytest.fixture(params=["stand-in", "gymnasium-robotics"])
def world(request):
    if request.param == "stand-in":
        request.getfixturevalue("stand_in")
    else:
        pytest.importorskip("gymnasium_robotics")


@pytest.fixture
def drawn():
    """MuJoCo, where it can draw."""
    pytest.importorskip("gymnasium_robotics")
    try:
        make(obs_type="pixels").close()
    except gym.error.DependencyNotInstalled as error:
        pytest.skip(str(error))


def make(maze="umaze", **arguments):
    return gym.make(ENV, disable_env_checker=True, maze=maze, **arguments).unwrapped


# ---------------------------------------------------------------------- what goes in and comes out


@pytest.mark.usefixtures("world")
def test_x_points_right_and_y_up_from_the_middle_of_the_maze():
    env = make("umaze")
    observation, info = env.reset(options={"state": [-1.0, 1.0], "goal": [-1.0, -1.0]})
    np.testing.assert_array_equal(observation["observation"], [-1.0, 1.0, 0.0, 0.0])
    np.testing.assert_array_equal(observation["achieved_goal"], [-1.0, 1.0])
    np.testing.assert_array_equal(observation["desired_goal"], [-1.0, -1.0])
    np.testing.assert_array_equal(info["goal_state"], [-1.0, -1.0, 0.0, 0.0])
    assert info["distance"] == 2.0 and info["is_success"] is False
    env.reset(options={"state": [1.0, 0.0], "goal": [-1.0, -1.0]})
    _, _, _, _, info = env.step(UP)
    assert info["state"][1] > 0.03 and info["state"][3] > 1.0, "up the right-hand corridor"
    for _ in range(30):
        info = env.step(RIGHT)[4]
    assert 1.35 < info["state"][0] < 1.45, "the wall holds it"


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("frame_skip", [1, 5])
def test_a_step_is_so_many_of_theirs(frame_skip):
    env, slow = make(frame_skip=frame_skip), make(frame_skip=1)
    there = {"state": [-1.2, 1.0], "goal": [-1.0, -1.0]}
    env.reset(options=there)
    slow.reset(options=there)
    for _ in range(4):
        env.step(RIGHT)
    for _ in range(4 * frame_skip):
        slow.step(RIGHT)
    np.testing.assert_allclose(env.get_state(), slow.get_state(), rtol=0, atol=1e-12)
    assert env.get_state()[0] > -1.2


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("reward_type", "before"), [("sparse", 0.0), ("dense", np.exp(-0.9))])
def test_an_episode_ends_at_its_goal_within_a_step(reward_type, before):
    env = make(reward_type=reward_type)
    env.reset(options={"state": [-0.9, 1.0], "goal": [0.0, 1.0]})
    _, reward, terminated, _, info = env.step(REST)
    assert reward == pytest.approx(before) and terminated is False and info["is_success"] is False
    env.set_state([-0.6, 1.0, 5.0, 0.0])
    observation, reward, terminated, truncated, info = env.step(REST)
    assert (terminated, truncated, info["is_success"]) == (True, False, True)
    assert 0.38 < info["distance"] <= 0.45, "it stops where it arrives, not at the step's end"
    assert reward == pytest.approx(1.0 if reward_type == "sparse" else np.exp(-info["distance"]))
    assert reward == env.compute_reward(observation["achieved_goal"], observation["desired_goal"], info)


@pytest.mark.usefixtures("world")
def test_time_is_gymnasium_robotics_unless_asked_otherwise():
    assert [make(maze).max_steps for maze in ("umaze", "medium", "large")] == [60, 120, 160]
    assert make(frame_skip=1).max_steps == 300 and make(frame_skip=7).max_steps == 43
    env = make(max_steps=3)
    for _ in range(2):
        env.reset(options={"state": [-1.0, 1.0], "goal": [-1.0, -1.0]})
        assert [env.step(REST)[3] for _ in range(3)] == [False, False, True]


@pytest.mark.usefixtures("world")
def test_the_seed_decides_everything():
    check_that_the_seed_decides_everything(make)


@pytest.mark.usefixtures("world")
def test_what_is_not_given_is_drawn_and_solves_nothing():
    env = make("umaze")
    goals, starts = [], []
    for seed in range(40):
        _, info = env.reset(seed=seed, options={"state": [0.0, 1.0, 1.0, -2.0]})
        np.testing.assert_array_equal(info["state"], [0.0, 1.0, 1.0, -2.0])
        assert not info["is_success"]
        goals.append(info["goal_state"][:2])
        _, info = env.reset(seed=seed, options={"goal": [0.0, -1.0]})
        np.testing.assert_array_equal(info["goal_state"], [0.0, -1.0, 0.0, 0.0])
        np.testing.assert_array_equal(env.world.goal, [0.0, -1.0])
        assert not info["is_success"] and not info["state"][2:].any()
        starts.append(info["state"][:2])
    for drawn_places in (goals, starts):
        assert len(np.unique(np.round(drawn_places), axis=0)) > 3, "all over the maze"


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("reward_type", ["sparse", "dense"])
@pytest.mark.filterwarnings("ignore:.*space (minimum|maximum) value is -?infinity")  # gymnasium-robotics' space
def test_checkers_pass(reward_type):
    env = make(reward_type=reward_type, max_steps=20)
    check_env(env, skip_render_check=True)
    stable_baselines3.common.env_checker.check_env(env, skip_render_check=True)


@pytest.mark.usefixtures("stand_in")
def test_rewards_are_told_for_many_goals_at_once():
    env = make(max_steps=10)
    achieved = np.array([[0.0, 0.0], [0.0, 0.3], [0.0, 0.5]])
    np.testing.assert_array_equal(env.compute_reward(achieved, np.zeros((3, 2)), [{}] * 3), [1.0, 1.0, 0.0])


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": [0.0, 1.0]}, "expected options among"),
        ({"state": [0.0, 0.0]}, r"expected state where the ball.*got \[0.0, 0.0\], try.* such as \[-1.0, 1.0\]"),
        ({"goal": [0.0, 9.0]}, "expected goal where the ball"),
        ({"state": [0.0, 1.0, 6.0, 0.0]}, r"expected velocities in state within \+-5 m/s"),
        ({"goal": [0.0, 1.0, 0.0]}, "expected goal of 2 numbers"),
    ],
)
def test_wrong_options_are_refused_and_nothing_changes(options, message):
    env = make()
    _, before = env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    np.testing.assert_array_equal(env.get_state(), before["state"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maze": "huge"}, "expected maze to be one of"),
        ({"obs_type": "image"}, "expected obs_type to be one of 'state', 'pixels', got 'image'"),
        ({"resolution": 2}, "expected resolution to be an integer of at least 8"),
        ({"frame_skip": 0}, "expected frame_skip to be an integer of at least 1"),
        ({"max_steps": 0}, "expected max_steps to be an integer of at least 1"),
        ({"reward_type": "rich"}, "expected reward_type to be one of"),
        ({"render_mode": "human"}, "expected render_mode to be one of 'rgb_array'"),
    ],
)
def test_wrong_arguments_are_refused_without_gymnasium_robotics(arguments, message):
    with pytest.raises(ValueError, match=message):
        MujocoPointMazeEnv(**arguments)


# ---------------------------------------------------------------------- the data policy


@pytest.mark.usefixtures("world")
def test_the_policy_gets_everywhere_and_is_decided_by_its_seed():
    env = make(max_steps=10**6)
    env.reset(options={"state": [-1.0, 1.0], "goal": [-1.0, -1.0]})
    seen, acts = set(), []
    for repeat in range(2):
        env.set_state([-1.0, 1.0])
        policy = env.make_expert(5)
        for k in range(1200 if repeat == 0 else 20):
            action = policy.act()
            assert action.dtype == np.float32 and np.abs(action).max() <= 1.0
            if k < 20:
                acts.append(action)
            state = env.step(action)[4]["state"]
            column, row = env.to_cells(state)
            seen.add((int(column), int(row)))
    assert seen == set(env.maze.cells)
    np.testing.assert_array_equal(acts[:20], acts[20:])


@pytest.mark.usefixtures("stand_in")
def test_the_policy_heads_for_its_place():
    """Its y points down and the world's up: a sign that is wrong drives it away."""
    env = make(["#" * 9, *["#" + "." * 7 + "#"] * 7, "#" * 9], max_steps=10**6)
    env.reset(seed=0)
    policy, arrivals = env.make_expert(2), 0
    for _ in range(600):
        env.step(policy.act())
        x, y = policy._policy._place
        arrivals += np.hypot(policy.x - x, policy.y - y) < 0.2
    assert arrivals > 10


# ---------------------------------------------------------------------- gymnasium-robotics' own world


def test_mazes_physics_and_time_are_gymnasium_robotics_own():
    robotics = pytest.importorskip("gymnasium_robotics")
    gym.register_envs(robotics)
    for name, theirs in (("umaze", "UMaze"), ("medium", "Medium"), ("large", "Large")):
        spec = gym.spec(f"PointMaze_{theirs}-v3")
        assert MAZES[name] == tuple("".join(".#"[cell] for cell in row) for row in spec.kwargs["maze_map"])
        env = make(name, frame_skip=1)
        assert env.max_steps == spec.max_episode_steps
        other = gym.make(spec, continuing_task=False, disable_env_checker=True)
        observation, _ = env.reset(seed=5)
        wanted, _ = other.reset(seed=5)
        rng = np.random.default_rng(0)
        for _ in range(50):
            for key in wanted:
                np.testing.assert_array_equal(observation[key], wanted[key])
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            observation, reward, terminated, _, info = env.step(action)
            wanted, paid, ended, _, told = other.step(action)
            assert (reward, terminated, info["is_success"]) == (paid, ended, told["success"])


# ---------------------------------------------------------------------- pictures


def places_of_green(picture, width):
    """Where the ball is drawn [m]: the middle of what is greener than it is red and blue."""
    red, green, blue = (picture[..., channel].astype(float) for channel in range(3))
    weight = np.clip(green - np.maximum(red, blue), 0, None)
    assert weight.sum() > 0
    rows, columns = np.indices(weight.shape) + 0.5
    side = len(picture)
    x, y = ((weight * each).sum() / weight.sum() * width / side for each in (columns, rows))
    return np.array([x - width / 2, width / 2 - y])


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(("maze", "width"), [("umaze", 5), ("medium", 8), ("large", 12)])
def test_the_ball_is_seen_where_it_is_also_at_walls(maze, width):
    env = make(maze, obs_type="pixels", resolution=64)
    for column, row in env.maze.cells:
        middle = np.array([column + 0.5 - env.maze.width / 2, env.maze.height / 2 - row - 0.5])
        for off in ([0.0, 0.0], [0.4, 0.0], [-0.4, 0.4], [0.13, -0.4]):
            observation, _ = env.reset(options={"state": middle + off, "goal": middle})
            pixel = width / 64
            np.testing.assert_allclose(places_of_green(observation["pixels"], width), middle + off, atol=0.15 * pixel)
    env.close()


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("maze", ["umaze", "large"])
def test_the_goal_picture_is_the_picture_with_the_ball_at_the_goal(maze):
    env = make(maze, obs_type="pixels")
    observation, info = env.reset(seed=3)
    there, _ = env.reset(options={"state": info["goal_state"], "goal": info["state"][:2]})
    np.testing.assert_array_equal(there["pixels"], observation["goal"])
    np.testing.assert_array_equal(there["goal"], observation["pixels"])
    assert not np.array_equal(observation["goal"], observation["pixels"])
    again = env.step(REST)[0]["goal"]
    np.testing.assert_array_equal(again, there["goal"])
    env.close()


@pytest.mark.usefixtures("drawn")
def test_pictures_leave_the_world_as_it_is():
    seen, blind = make(obs_type="pixels", render_mode="rgb_array", visualization_size=64), make()
    for env in (seen, blind):
        env.reset(seed=4)
        env.set_state([1.3, 0.5, 3.0, -4.0])
    for k in range(30):
        push = np.array([np.cos(k), np.sin(k)], np.float32)
        for env in (seen, blind):
            env.step(push)
        seen.render()
        np.testing.assert_array_equal(seen.get_state(), blind.get_state())
    seen.close()


@pytest.mark.usefixtures("drawn")
def test_only_render_shows_the_target():
    env = make("medium", obs_type="pixels", render_mode="rgb_array", visualization_size=64)

    def is_red(picture):
        return (picture[..., 0] > 150) & (picture[..., 1:] < 80).all(axis=-1)

    for x, y in ([-2.5, 2.5], [2.5, -2.5]):
        observation, _ = env.reset(options={"state": [-0.5, 0.5], "goal": [x, y]})
        row, column = int((4 - y) * 8), int((4 + x) * 8)
        rendered = is_red(env.render())
        assert rendered[row - 2 : row + 2, column - 2 : column + 2].sum() >= 4 and rendered.sum() < 14
        assert not is_red(observation["pixels"]).any() and not is_red(observation["goal"]).any()
        np.testing.assert_array_equal(env.world.model.site("target").pos[:2], [x, y], "for whoever renders theirs")
    env.close()


@pytest.mark.usefixtures("drawn")
def test_checkers_pass_for_pictures_without_a_warning():
    env = make(obs_type="pixels", resolution=40, max_steps=20)
    check_env(env, skip_render_check=True)
    stable_baselines3.common.env_checker.check_env(env, skip_render_check=True)
    assert not hasattr(env, "compute_reward")
    env.close()


# ---------------------------------------------------------------------- the task, and what is lacking


def test_gymnasium_robotics_own_id_leads_here():
    assert task_for(ENV).name == "mujoco_point_maze"
    advice = advice_for("gymnasium_robotics:PointMaze_UMaze-v3")
    assert advice == f"; try --env {ENV}, the same world with pictures of goals"
    assert advice_for("gymnasium_robotics:PointMaze_Medium-v3") == "", "another maze"


def test_the_missing_package_is_named(monkeypatch):
    for name in ("gymnasium_robotics", MODULE):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ValueError, match=r"be made: expected the package gymnasium-robotics, got none .*try `pip.*grasp_envs/PointMaze"
    ):
        make_env(ENV)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("set_to", "advice"), [(None, "egl or MUJOCO_GL=osmesa (now not set)"), ("egl", "osmesa (now egl)")]
)
def test_drawing_that_fails_is_one_sentence(set_to, advice, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no\ncontext")

    camera = SimpleNamespace(lookat=np.zeros(3))
    fake = ModuleType("mujoco")
    fake.mj_forward = fake.MjData = fake.mjv_defaultFreeCamera = lambda *arguments: None
    fake.MjvCamera, fake.Renderer = lambda: camera, fail
    monkeypatch.setitem(sys.modules, "mujoco", fake)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if set_to is not None:
        monkeypatch.setenv("MUJOCO_GL", set_to)
    make_env(ENV).close()
    said = f"expected MuJoCo to draw pictures, got no context; on a machine without a screen set MUJOCO_GL={advice}"
    wishes = task_for(ENV).picture_wishes(64)
    attempts = (lambda: make_env(ENV, obs_type="pixels"), lambda: open_env(ENV, {}, wishes, lambda env: False, ""))
    for attempt in attempts:
        with pytest.raises(ValueError) as caught:
            attempt()
        assert str(caught.value) == f"environment {ENV!r} cannot be made: {said}", "nothing else is said"


def test_graphics_that_fail_when_mujoco_is_loaded_are_one_sentence(monkeypatch):
    load = importlib.import_module

    def fail(name):
        if name == MODULE:
            raise AttributeError("'NoneType' object has no attribute 'glGetError'")
        return load(name)

    monkeypatch.setattr(mujoco_point_maze, "importlib", SimpleNamespace(import_module=fail))
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(ValueError, match=r"got 'NoneType' .*glGetError'; on a machine .* MUJOCO_GL=egl \(now osmesa\)"):
        make_env(ENV)
