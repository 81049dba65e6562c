"""The registry of tasks, and whether the shipped ones tell the truth about their environments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pkgutil import iter_modules

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_model import TINY

import grasp_agent.tasks
from grasp_agent.core.capabilities import readout_of
from grasp_agent.models import LatentWorldModel, load_world_model
from grasp_agent.rollouts.environments import make_env
from grasp_agent.tasks import DEFAULT_TASK, GYMNASIUM, TASKS, Task, register_task, task_for
from grasp_agent.tasks.registry import goal_weights_for
from grasp_agent.training import RECIPES

REACH, CLASSIC = "grasp_envs/PushTReach-v0", "grasp_envs/PushT-v0"
WALK = Task("walk", env_ids=("walks/Walk-v0",))
FILES = [file.name for file in iter_modules(grasp_agent.tasks.__path__) if file.name not in ("registry", "task")]
SHIPPED = [TASKS[name] for name in FILES]  # other tests register tasks of their own


@pytest.fixture
def walk() -> Iterator[Task]:
    yield register_task(WALK)
    del TASKS[WALK.name]


# ---- the registry ------------------------------------------------------------------------------------------------


def test_a_task_is_found_by_its_environments(walk: Task) -> None:
    assert task_for("walks/Walk-v0") is walk and task_for("my_walks:walks/Walk-v0") is walk
    assert task_for(REACH).name == task_for(f"grasp_envs:{CLASSIC}").name == "pusht"
    assert task_for("walks/Walk-v1") is GYMNASIUM and task_for("CartPole-v1") is GYMNASIUM


def test_a_task_may_be_registered_twice(walk: Task) -> None:
    assert register_task(walk) is walk
    assert list(TASKS).count("walk") == 1


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Task("walk"), "'walk': expected a name of its own"),
        (Task("gymnasium"), "'gymnasium': expected a name of its own"),
        (Task("run", env_ids=("runs/Run-v0", "walks/Walk-v0")), "'run': .*walks/Walk-v0 of 'walk'"),
        (Task("run", default=True), "'run': expected one default task, got a second beside 'pusht'"),
    ],
)
def test_what_is_taken_is_refused(task: Task, words: str, walk: Task) -> None:
    before = dict(TASKS)
    with pytest.raises(ValueError, match=words):
        register_task(task)
    assert before == TASKS


def test_every_file_registers_the_task_of_its_name() -> None:
    assert [task.name for task in SHIPPED] == FILES == ["ball_nav", "mujoco_point_maze", "point_maze", "pusht", "wall"]
    assert [task for task in SHIPPED if task.default] == [DEFAULT_TASK]


# ---- what a task says ----------------------------------------------------------------------------------------------


def test_success_is_read_under_its_key() -> None:
    task = Task("t", success_key="won")
    assert task.solved({"won": np.bool_(True), "is_success": False}) is True
    assert task.solved({"won": 0}) is False
    with pytest.raises(ValueError, match=r"expected info\['won'\] after a step, got is_success, x;"):
        task.solved({"is_success": True, "x": 1})
    with pytest.raises(ValueError, match="got an empty info"):
        task.solved({})


def test_only_environments_of_which_nothing_is_known_are_rendered() -> None:
    """A registered one says how its pictures are asked for; what it refuses is an error."""
    task = Task("t", picture_kwargs={"size": "{side}"})
    assert task.picture_wishes(8) == [{"size": 8}, {}]
    assert replace(task, rendered=True).picture_wishes(8) == [{"size": 8}, {}, {"rendered": 8}]
    assert task_for("Unknown-v0").picture_wishes(8)[-1] == {"rendered": 8}
    assert all(not known.rendered for known in SHIPPED)


def test_success_may_be_called_as_gymnasium_robotics_calls_it() -> None:
    assert Task("t").solved({"success": True}) and not Task("t").solved({"success": 0.0})
    assert not Task("t").solved({"is_success": False, "success": True})
    with pytest.raises(ValueError, match=r"expected info\['won'\]"):
        Task("t", success_key="won").solved({"success": True})


def test_goals_are_found_where_environments_show_them() -> None:
    task = Task("t", goal_key="target")
    assert task.goal({"target": 1, "desired_goal": 2}, {"target": 3}) == 1
    assert task.goal({"desired_goal": 2, "observation": 0}, {"target": 3}) == 2, "as goal environments do"
    assert task.goal({"goal": 2}, {}) == 2
    assert task.goal({"observation": 0}, {"target": 3}) == task.goal(np.zeros(2), {"target": 3}) == 3
    assert task.goal({"observation": 0}, {"desired_goal": 3}) is None


def test_progress_is_reported_if_there_is_any() -> None:
    assert Task("t").progress({"coverage": 0.5}) is None
    assert Task("t", progress_key="coverage").progress({"coverage": np.float32(0.5)}) == 0.5
    assert Task("t", progress_key="coverage").progress({}) is None


def test_arguments_for_pictures_and_distant_goals() -> None:
    task = Task(
        "t",
        picture_kwargs={"view": "rgb", "height": "{side}", "width": "{side}"},
        goal_distance_kwargs={"here/Reach-v0": "far"},
    )
    assert task.pictures(48) == {"view": "rgb", "height": 48, "width": 48}
    assert (task.goals_at("here:here/Reach-v0", 7), task.goals_at("here/Reach-v0", None)) == ({"far": 7}, {})
    assert GYMNASIUM.goals_at("here/Reach-v0", None) == {}
    with pytest.raises(ValueError, match="got 'here/Other-v0', which has none"):
        task.goals_at("here/Other-v0", 7)


def test_goals_have_weights_where_it_is_known_what_the_actions_move() -> None:
    poses, free = LatentWorldModel(TINY), LatentWorldModel(replace(TINY, layout="free"))
    assert poses.state_shape == free.state_shape == (6,)
    weights = goal_weights_for(f"grasp_envs:{CLASSIC}", poses)
    assert weights == (0.001, 0.001, 1.0, 1.0, 1.0, 1.0)
    weighed = LatentWorldModel(replace(TINY, distance_weights=(3.0, 3.0, 2.0, 2.0, 0.5, 0.5)))
    assert goal_weights_for(CLASSIC, weighed) == (0.001, 0.001, 2.0, 2.0, 0.5, 0.5)
    assert goal_weights_for(CLASSIC, free) is None, "nobody knows what the numbers of a free latent mean"
    assert goal_weights_for(REACH, poses) is None and goal_weights_for("CartPole-v1", free) is None


# ---- the shipped tasks are true --------------------------------------------------------------------------------


@pytest.mark.parametrize("task", SHIPPED, ids=FILES)
def test_what_a_shipped_task_names_is_there(task: Task) -> None:
    assert {env_id.rpartition(":")[2] for env_id in task.default_env_ids} <= set(task.env_ids)
    assert set(task.driven_weights) <= set(task.env_ids)
    assert {env_id.rpartition(":")[2] for env_id in task.known_as.values()} <= set(task.env_ids)
    assert not set(task.known_as) & set(task.env_ids)
    assert task.recipe in RECIPES
    assert all(path.is_file() for path in task.baselines.values())
    if task.model is not None:
        model = load_world_model(task.model)
        assert task.states is None or readout_of(model) is not None


def test_push_t_knows_what_the_model_of_poses_tells() -> None:
    assert task_for(REACH).reads(load_world_model("pusht-pose"))
    assert not task_for(REACH).reads(load_world_model("pusht")), "it was never told"


@pytest.mark.parametrize("env_id", [env_id for task in SHIPPED for env_id in task.default_env_ids])
def test_a_shipped_task_knows_its_environments(env_id: str) -> None:
    task = task_for(env_id)
    try:
        env = make_env(env_id, **task.pictures(48))
    except ValueError as error:
        if isinstance(error.__cause__, gym.error.DependencyNotInstalled):
            pytest.skip(str(error))
        raise
    with env:
        observation, info = env.reset(seed=0)
        picture = observation[task.picture_key] if isinstance(observation, dict) else observation
        goal = observation.get(task.goal_key) if isinstance(observation, dict) else None
        goal = info[task.goal_key] if goal is None else goal
        assert picture.shape == goal.shape == (48, 48, 3) and picture.dtype == goal.dtype == np.uint8
        info = env.step(np.zeros(2, np.float32))[4]
        assert task.solved(info) is False
        assert (task.progress(info) is None) == (task.progress_key is None)
        if task.states is not None:
            state = torch.from_numpy(task.states.latents_of_states(np.asarray(info["state"])))
            places = torch.cat(list(task.states.positions(state).values()))
            np.testing.assert_allclose(places, info["state"][:4], atol=1e-3)
            assert task.scene_side is not None and places.min() > 0 and places.max() < task.scene_side
    fitting = []
    for kwargs in task.policy_kwargs:
        with make_env(env_id, **kwargs) as env:
            fitting.append(str(env.observation_space))
    assert len(set(fitting)) == len(task.policy_kwargs) > 0


def test_a_shipped_task_measures_as_its_environment_does() -> None:
    """Errors and success of the readout are those that the goal-reaching environment tells."""
    layout, solved = DEFAULT_TASK.states, []
    assert layout is not None
    with gym.make(DEFAULT_TASK.default_env_ids[0], **DEFAULT_TASK.goals_at(DEFAULT_TASK.default_env_ids[0], 5)) as env:
        for seed in range(6):
            info = env.reset(seed=seed)[1]
            expert = env.unwrapped.make_expert(seed, goal="task")  # type: ignore[attr-defined]
            for _ in range(8):
                here, goal = (torch.from_numpy(layout.latents_of_states(info[key])) for key in ("state", "goal_state"))
                told = [info["agent_error"], info["block_error"], np.degrees(info["angle_error"])]
                np.testing.assert_allclose([float(x) for x in layout.errors(here, goal).values()], told, atol=0.05)
                assert bool(layout.reaches(here, goal)) == info["is_success"]
                solved.append(info["is_success"])
                info = env.step(expert.act())[4]
    assert 0 < sum(solved) < len(solved)
