"""Objectives added up: hand-computed costs, and refusals that say what was expected."""

from __future__ import annotations

import pytest
import torch

from grasp_agent.objectives import GoalDistance, WeightedSum

STATES = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])  # [1, T = 2, 2]
ACTIONS = torch.tensor([[[1.0], [3.0]]])
GOAL = torch.tensor([[0.0, 0.0]])


def test_weighted_sum() -> None:
    both = WeightedSum((GoalDistance(running=0.0), GoalDistance(terminal=0.0, running=1.0)), (2.0, 10.0))
    assert both.trajectory_cost(STATES, ACTIONS, GOAL).item() == 2.0 * 4.0 + 10.0 * 2.5
    assert both.state_cost(STATES[0], GOAL.expand(2, 2)).tolist() == [12.0, 48.0]


def test_weighted_sum_refuses_what_does_not_pair_up() -> None:
    with pytest.raises(ValueError, match="one weight per term"):
        WeightedSum((GoalDistance(),), (1.0, 2.0))
    with pytest.raises(ValueError, match="finite weights of 0 or more"):
        WeightedSum((GoalDistance(),), (-1.0,))
