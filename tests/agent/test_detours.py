"""An agent whose model tells how many steps lie between states leaves a goal that looks near, and goes round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from grasp_agent import GRASPAgent

ARC, STEP = 5.4, 0.1
"""An arc that is open between its ends, in radians, and how far an action leads."""


class ArcModel:
    """A latent is a point of the arc; no action leads from one end to the other."""

    state_shape, history, action_dim, action_block = (2,), 1, 1, 1

    def __init__(self, measures: bool) -> None:
        self.measures = measures

    def encode(self, obs: Any) -> Tensor:
        return torch.as_tensor(obs, dtype=torch.float32)

    def angles(self, states: Tensor) -> Tensor:
        return torch.atan2(states[:, 1], states[:, 0]).remainder(2 * torch.pi)

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        angles = (self.angles(states[:, -1]) + STEP * actions[:, -1, 0]).clamp(0, ARC)
        return torch.stack([angles.cos(), angles.sin()], dim=1)

    def in_steps(self, states: Tensor) -> Tensor:
        return self.angles(states).unsqueeze(1) / STEP


def end_of(measures: bool, start: float, goal: float, steps: int) -> float:
    """Where an agent gets from an angle to another."""
    model = ArcModel(measures)
    agent = GRASPAgent(model, spaces.Box(-1, 1, (1,)), horizon=10)  # type: ignore[arg-type]
    agent.reset(goal=np.array([np.cos(goal), np.sin(goal)], np.float32))
    angle = start
    for _ in range(steps):
        action = agent.act(np.array([np.cos(angle), np.sin(angle)], np.float32))
        angle = min(max(angle + STEP * float(action[0]), 0.0), ARC)
    return angle


def test_it_goes_the_long_way_round() -> None:
    assert end_of(True, start=5.0, goal=0.3, steps=60) == pytest.approx(0.3, abs=0.05)


def test_without_it_the_agent_is_stuck_where_the_goal_looks_near() -> None:
    assert end_of(False, start=5.0, goal=0.3, steps=60) > 4.5
