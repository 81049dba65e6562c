"""Another environment family takes one file: an environment, its `Task`, and evaluation finds its way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from grasp_agent import MPCAgent
from grasp_agent.evaluation import evaluate
from grasp_agent.planning import GaussNewton
from grasp_agent.tasks import TASKS, Task, register_task, task_for

SPEED, SIDE, ENV_ID = 0.25, 32, "tests/Point-v0"
TICKS = np.linspace(-1.5, 1.5, SIDE)


class PointEnv(gym.Env[Any, Any]):
    """A point in [-1, 1]^2 moves by 0.25 a to a target; both are told as numbers, or shown by a camera with pixels."""

    def __init__(self, camera: int | None = None, away: float = 1.0) -> None:
        self.camera, self.away = camera, away
        seen = spaces.Box(-1, 1, (2,)) if camera is None else spaces.Box(0, 255, (camera, camera, 3), np.uint8)
        self.keys = ("observation", "desired_goal") if camera is None else ("view", "target")
        self.observation_space = spaces.Dict(dict.fromkeys(self.keys, seen))
        self.action_space = spaces.Box(-1, 1, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        angle = self.np_random.uniform(0, 2 * np.pi)
        self.target, self.steps = 0.5 * self.away * np.array([np.cos(angle), np.sin(angle)]), 0
        self.point = -self.target
        return self.told()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.point, self.steps = np.clip(self.point + SPEED * action, -1, 1), self.steps + 1
        observation, info = self.told()
        return observation, 0.0, False, self.steps == 8, info

    def told(self) -> tuple[Any, dict[str, Any]]:
        gap = float(np.linalg.norm(self.point - self.target))
        shown = (self.show(self.point), self.show(self.target))
        return dict(zip(self.keys, shown, strict=True)), {"arrived": gap < 0.1, "near": -gap}

    def show(self, at: Any) -> Any:
        x, y = (np.exp(-((TICKS - c) ** 2) / 0.18) for c in at)
        picture = np.repeat(np.rint(255 * y[:, None] * x)[..., None], 3, axis=2).astype(np.uint8)
        return np.float32(at) if self.camera is None else picture


POINT = Task(
    name="point",
    env_ids=(ENV_ID,),
    picture_key="view",
    goal_key="target",
    success_key="arrived",
    progress_key="near",
    picture_kwargs={"camera": "{side}"},
    goal_distance_kwargs={ENV_ID: "away"},
)


class NumbersModel:
    """The exact world model: a latent is the point's place, which observations tell."""

    state_shape, history, action_dim, action_block = (2,), 1, 2, 1

    def encode(self, obs: Tensor) -> Tensor:
        return obs

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        return states[:, -1] + SPEED * actions[:, -1]


class PicturesModel(NumbersModel):
    """The same from pictures, where the point is the centre of the bright blob."""

    image_size = SIDE

    def encode(self, obs: Tensor) -> Tensor:
        light, ticks = obs[..., 0].float(), torch.from_numpy(TICKS).float()
        return torch.stack([light.sum(1) @ ticks, light.sum(2) @ ticks], dim=1) / light.sum((1, 2))[:, None]


@pytest.fixture(autouse=True)
def point_task() -> Iterator[None]:
    if ENV_ID not in gym.registry:
        gym.register(ENV_ID, entry_point=PointEnv)
    register_task(POINT)
    yield
    del TASKS[POINT.name]


@pytest.mark.parametrize("model", [NumbersModel(), PicturesModel()], ids=["numbers", "pictures"])
def test_evaluation_plays_it(model: NumbersModel) -> None:
    """Observations, goal, success and progress are found under the task's own names."""
    agent = MPCAgent(model, PointEnv().action_space, GaussNewton(), horizon=8)
    found = evaluate({"planner": agent, "zero": "zero"}, ENV_ID, range(3), progress=False)
    rows = {name: [row for row in found.rows if row.entrant == name] for name in ("planner", "zero")}
    assert [row.success for row in rows["planner"]] == [1, 1, 1] and [row.success for row in rows["zero"]] == [0, 0, 0]
    # The target is 1 away. A step covers 0.25 to 0.36, by its direction, and 0.1 is near enough.
    assert all(3 <= (row.steps_to_success or 0) <= 4 for row in rows["planner"])
    assert all(row.best_progress == pytest.approx(-1.0) for row in rows["zero"])
    assert all(row.best_progress is not None and -0.1 < row.best_progress <= 0 for row in rows["planner"])


def test_the_goals_distance_has_the_tasks_name() -> None:
    with gym.make(ENV_ID, **task_for(ENV_ID).goals_at(ENV_ID, 2), **task_for(ENV_ID).pictures(SIDE)) as env:
        observation, info = env.reset(seed=0)
    assert observation["view"].shape == (SIDE, SIDE, 3) and info["near"] == pytest.approx(-2)
