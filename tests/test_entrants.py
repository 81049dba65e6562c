"""From the words of a command to entrants: factories of one's own, what ships, and notes about foreign models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.cli.app import main
from grasp_agent.cli.entrants import Planning, entrants_of, made_by
from grasp_agent.core.types import Budget
from grasp_agent.models import VectorModel, load_world_model, save_pretrained
from grasp_agent.models.vector import VectorConfig
from grasp_agent.objectives import GoalDistance, Rewards
from grasp_agent.tasks import foreign_to, objective_for

OWN = """
import torch

class Still:
    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return torch.zeros(1).numpy(), state

def policy():
    return Still()

class Model:
    state_shape, history, action_dim, action_block = (3,), 1, 1, 1
    rewards, discount = True, 0.9

    def encode(self, obs):
        return torch.as_tensor(obs, dtype=torch.float32)

    def predict(self, states, actions):
        return states[:, -1] + 0.0 * actions[:, -1]

    def outcome(self, states, actions):
        return -actions[:, 0] ** 2, torch.ones(len(states))

    def value(self, states):
        return states[:, -1, 0]

number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_things.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("zero = 0\n1 / zero\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_model_and_a_policy_of_ones_own_play(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        ["evaluate", "--env", "Pendulum-v1", "--model", "own_things:Model", "--policy", "grasp", "--policy",
         "still=own_things:policy", "--episodes", "1", "--out", str(own / "out")]
    )  # fmt: skip
    table = capsys.readouterr().out
    assert "still" in table and "the environment tells no success" in " ".join(table.split())
    assert (own / "out" / "results.csv").is_file()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no_such_file:make", "expected a module that is installed or lies in the current folder, got 'no_such_file'"),
        ("own_things:nothing", "expected a function or class of 'own_things', got 'nothing'"),
        ("own_things", "expected MODULE:FUNCTION, as in my_file:my_function, got 'own_things'"),
        (
            "own_broken:make",
            r"expected to import 'own_broken', got ZeroDivisionError .* in line 2 of own_broken.py",
        ),
        ("own_things:number", "expected a function or class, got 'own_things:number', a int"),
    ],
)
def test_what_is_no_factory_is_refused(own: Path, source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made_by("--model", source)


def test_where_no_model_ships_one_is_asked_for() -> None:
    with pytest.raises(ValueError, match="none ships for Pendulum-v1; make one with `grasp-agent collect"):
        entrants_of(("grasp",), "Pendulum-v1", {}, Planning(), trust=False)


def test_the_model_that_ships_for_the_environment_is_taken() -> None:
    entrants = entrants_of(("grasp",), "grasp_envs:grasp_envs/Wall-v0", {}, Planning(), trust=False)
    agent = entrants["grasp"]
    assert isinstance(agent, MPCAgent) and agent.horizon == 45
    assert load_world_model("wall").trained_on[0]["env_ids"] == ["grasp_envs:grasp_envs/Wall-v0"]


def test_planners_share_one_model_and_what_is_to_be_said_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    kwargs = {"door": 40}
    entrants = entrants_of(("grasp", "gd", "cem"), "grasp_envs:grasp_envs/Wall-v0", kwargs, Planning(), trust=False)
    assert len({id(agent.world_model) for agent in entrants.values()}) == 1
    assert capsys.readouterr().out.count("note: the world model was trained on") == 1


def test_the_agent_acts_in_the_space_that_the_arguments_make() -> None:
    kwargs = {"control": "absolute"}
    entrants = entrants_of(("grasp",), "grasp_envs:grasp_envs/PushTReach-v0", kwargs, Planning(), trust=False)
    assert float(entrants["grasp"].action_space.high.max()) == 512.0


# ---- what a task says of a model ---------------------------------------------------------------------------


def a_model(**changes: Any) -> VectorModel:
    torch.manual_seed(0)
    return VectorModel(VectorConfig(**{"size": 3, "action_dim": 1, "hidden": 8, **changes}))


def test_a_model_of_another_world_is_noted() -> None:
    model = a_model()
    assert foreign_to("Pendulum-v1", {}, model) is None, "nothing is known of it"
    model.trained_on = ({"source": "of another program"},)
    assert foreign_to("Pendulum-v1", {}, model) is None, "its environment is not known"
    model.trained_on = ({"env_ids": ["grasp_envs:grasp_envs/PointMaze-v0"], "env_kwargs": [["maze", "medium"]]},)
    maze = "grasp_envs/PointMaze-v0"
    assert foreign_to(maze, {"maze": "medium", "goals": "any", "obs_type": "pixels", "hindsight": 9}, model) is None
    asked = {"maze": "medium", "goals": "any", "goal_function": "a:b", "success_function": "a:c"}
    assert foreign_to(maze, asked, model) is None
    told = foreign_to(maze, {}, model)
    assert told == f"the world model was trained on {maze} maze=medium, and {maze} may be another world"
    assert "and Pendulum-v1 may be" in str(foreign_to("Pendulum-v1", {}, model))


def test_environments_of_one_task_are_one_world() -> None:
    model = a_model()
    model.trained_on = ({"env_ids": ["grasp_envs:grasp_envs/PushTReach-v0"], "env_kwargs": [["goal_horizon", 50]]},)
    assert foreign_to("grasp_envs/PushT-v0", {}, model) is None
    assert foreign_to("grasp_envs/PushT-v0", {"control": "absolute"}, model) is not None


def test_another_name_of_the_same_world_is_told() -> None:
    model = a_model()
    model.trained_on = ({"env_ids": ["grasp_envs:grasp_envs/PushTReach-v0"], "env_kwargs": []},)
    advice = "; try --env grasp_envs:grasp_envs/GymPushT-v0, the same world with pictures of goals"
    told = foreign_to("gym_pusht:gym_pusht/PushT-v0", {}, model)
    assert told is not None and told.endswith(f"may be another world{advice}")
    assert foreign_to("grasp_envs:grasp_envs/GymPushT-v0", {}, model) is None
    with pytest.raises(ValueError, match=f"grasp-agent train`{advice}$"):
        entrants_of(("grasp",), "gym_pusht:gym_pusht/PushT-v0", {}, Planning(), trust=False)
    with pytest.raises(ValueError, match=r"none ships for CartPole-v1; .*grasp-agent train`$"):
        entrants_of(("grasp",), "CartPole-v1", {}, Planning(), trust=False)


def test_a_model_of_pictures_is_told_of_the_world_that_shows_its_goals() -> None:
    model = a_model()
    model.trained_on = ({"env_ids": ["grasp_envs:grasp_envs/MujocoPointMaze-v0"], "env_kwargs": [("max_steps", 300)]},)
    told = foreign_to("gymnasium_robotics:PointMaze_UMaze-v3", {"continuing_task": False}, model)
    assert told is not None and "; try --env grasp_envs:grasp_envs/MujocoPointMaze-v0, the same world" in told
    assert foreign_to("grasp_envs:grasp_envs/MujocoPointMaze-v0", {"obs_type": "pixels"}, model) is None
    assert foreign_to("grasp_envs:grasp_envs/MujocoPointMaze-v0", {"maze": "medium"}, model) is not None
    assert foreign_to("grasp_envs:grasp_envs/PointMaze-v0", {}, model) is not None, "drawn otherwise"


@pytest.mark.parametrize(
    ("asked", "budget"),
    [
        ({}, Budget(3)),  # the planner's own
        ({"iterations": 7}, Budget(7)),
        ({"seconds": 0.5}, Budget(10_000, 0.5)),
        ({"iterations": 7, "seconds": 0.5}, Budget(7, 0.5)),
    ],
)
def test_a_decision_ends_when_the_user_says(tmp_path: Path, asked: dict[str, Any], budget: Budget) -> None:
    save_pretrained(a_model(size=6, action_dim=2, goal_size=2), tmp_path / "model")
    planning = Planning(model=str(tmp_path / "model"), **asked)
    maze = entrants_of(("grasp",), "grasp_envs/PointMaze-v0", {"obs_type": "state"}, planning, trust=False)
    assert maze["grasp"].budget == budget


def test_rewards_judge_plans_only_where_there_is_no_goal() -> None:
    blind, told = a_model(), a_model(outcome_hidden=8)
    assert isinstance(objective_for("Pendulum-v1", told, shows_goal=False), Rewards)
    assert objective_for("Pendulum-v1", told, shows_goal=True) is None
    assert objective_for("Pendulum-v1", blind, shows_goal=False) is None
    weighed = objective_for("Pendulum-v1", told, shows_goal=False, weights=(1.0, 0.0, 0.0))
    assert isinstance(weighed, GoalDistance)


def test_goals_judge_plans_where_a_goal_environment_shows_them(tmp_path: Path) -> None:
    """Under "desired_goal", although the model foresees rewards as well."""
    save_pretrained(a_model(size=6, action_dim=2, goal_size=2, outcome_hidden=8), tmp_path / "model")
    planning = Planning(model=str(tmp_path / "model"))
    maze = entrants_of(("grasp",), "grasp_envs/PointMaze-v0", {"obs_type": "state"}, planning, trust=False)
    assert isinstance(maze["grasp"].objective, GoalDistance)
