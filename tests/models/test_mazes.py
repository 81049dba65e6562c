"""The shipped models of mazes: what they were told of, and how many steps lie between places."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from grasp_agent import GRASPAgent
from grasp_agent.benchmark.stages import Benchmark
from grasp_agent.cli import learning
from grasp_agent.cli.entrants import Planning, entrants_of
from grasp_agent.core.capabilities import measures_steps, proposes
from grasp_agent.data import CollectSettings
from grasp_agent.models import load_world_model
from grasp_agent.models.sprites import SpritesModel
from grasp_agent.objectives import GoalDistance
from grasp_agent.rollouts.goal_env import GoalEnv
from grasp_agent.tasks import task_for


@pytest.fixture(scope="module")
def model() -> SpritesModel:
    loaded = load_world_model("medium-maze")
    assert isinstance(loaded, SpritesModel)
    return loaded


@torch.no_grad()
def latents(model: SpritesModel, *places: tuple[float, float], maze: str = "medium") -> Tensor:
    """Of pictures of the ball at these places, [places, 2]."""
    env = gym.make("grasp_envs:grasp_envs/PointMaze-v0", maze=maze, obs_type="pixels", resolution=64)
    frames = [env.reset(seed=20_000, options={"state": [*place, 0.0, 0.0]})[0]["pixels"] for place in places]
    env.close()
    return model.encode(torch.from_numpy(np.stack(frames)))


def test_it_says_what_it_is_of(model: SpritesModel) -> None:
    assert model.trained_on[0]["env_ids"] == ["grasp_envs:grasp_envs/PointMaze-v0"]
    assert ["maze", "medium"] in [list(argument) for argument in model.trained_on[0]["env_kwargs"]]
    assert proposes(model) and measures_steps(model) and model.look_ahead == 50
    agent = GRASPAgent(model, gym.make("grasp_envs:grasp_envs/PointMaze-v0").action_space)
    assert agent.horizon == 50
    assert isinstance(agent.objective, GoalDistance) and agent.objective.features == model.in_steps


def test_it_reads_places(model: SpritesModel) -> None:
    here, right, down = latents(model, (1.5, 1.5), (2.5, 1.5), (1.5, 2.5))
    across, along = (right - here).abs(), (down - here).abs()
    torch.testing.assert_close(
        across, torch.tensor([25 / 8, 0.0]), atol=0.1, rtol=0
    )  # a cell is an eighth of a picture
    torch.testing.assert_close(along, torch.tensor([0.0, 25 / 8]), atol=0.1, rtol=0)


def test_what_a_wall_stands_between_is_farther(model: SpritesModel) -> None:
    # Down the free column 2 there is nothing in the way for three cells; to the right there are two cells of wall.
    here, down, right = latents(model, (2.5, 1.5), (2.5, 4.5), (5.5, 1.5))
    with torch.no_grad():
        points = model.in_steps(torch.stack([here, down, right]))
    assert (points[2] - points[0]).norm() > 1.5 * (points[1] - points[0]).norm()


def test_the_way_round_the_u_is_long() -> None:
    model = load_world_model("umaze")
    assert isinstance(model, SpritesModel) and measures_steps(model) and proposes(model)
    # From the end of one arm to that of the other, two cells of wall and free space apart; and as far along an arm.
    end, other_end, along = latents(model, (1.5, 1.5), (1.5, 3.5), (3.5, 1.5), maze="umaze")
    assert (other_end - end).norm() == pytest.approx(float((along - end).norm()), rel=0.05)
    with torch.no_grad():
        points = model.in_steps(torch.stack([end, other_end, along]))
    assert (points[1] - points[0]).norm() > 1.8 * (points[2] - points[0]).norm()


def test_each_maze_has_its_model_or_none() -> None:
    task = task_for("grasp_envs/PointMaze-v0")
    assert task.model_for({"max_steps": 80}) == task.model_for({"maze": "umaze"}) == "umaze"
    assert task.model_for({"maze": "medium", "max_steps": 80}) == "medium-maze"
    assert task.model_for({"maze": "large"}) is None and task.model_for({"maze": ("####", "#..#", "####")}) is None


def test_a_command_takes_the_model_of_the_maze() -> None:
    env = "grasp_envs:grasp_envs/PointMaze-v0"
    agent = entrants_of(("grasp",), env, {"maze": "medium"}, Planning(), trust=False)["grasp"]
    assert agent.world_model.state_shape == (2,)
    with pytest.raises(
        ValueError, match=r"none ships for .*PointMaze-v0 --env-arg maze=large; make one with `grasp-agent"
    ):
        entrants_of(("grasp",), env, {"maze": "large"}, Planning(), trust=False)


def test_a_benchmark_judges_the_end_of_plans_by_steps(tmp_path: Path) -> None:
    where = GoalEnv("grasp_envs:grasp_envs/PointMaze-v0", {"maze": "medium"})
    benchmark = Benchmark("medium-maze", tmp_path, where, progress=False)
    final = benchmark.final_distance
    assert final.features == benchmark.world_model.in_steps and final.running == 0.0


def test_data_of_the_planner_are_of_the_model_of_the_maze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[CollectSettings] = []
    monkeypatch.setattr("grasp_agent.data.collect", lambda settings, *_: asked.append(settings))
    env = ("grasp_envs:grasp_envs/PointMaze-v0",)
    learning.collect(tmp_path / "data", env, policy="planner", env_arg=("maze=medium",))
    assert asked[0].model == "medium-maze"
