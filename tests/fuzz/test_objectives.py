"""Objectives: what is accepted judges plans by finite costs, what is not accepted is refused in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from odd_values import JUNK, ODD, answered, examples, some_fields
from torch import Tensor

from grasp_agent.core.types import Objective
from grasp_agent.models.vector.config import VectorConfig
from grasp_agent.models.vector.model import VectorModel
from grasp_agent.objectives import GoalDistance, Rewards, WeightedSum

N, T = 3, 4
STATES, GOAL, ACTIONS = torch.linspace(-1, 1, N * T * 2).view(N, T, 2), torch.ones(N, 2), torch.ones(N, T, 2)

SHAPES = st.sampled_from([(2,), (1, 2), (2, 2), (3,), (), (0,)])
NUMBERS = SHAPES.flatmap(lambda shape: arrays.arrays(np.float64, shape, elements=st.floats(-5, 5) | st.floats()))
LISTS = st.recursive(ODD, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
TENSORS = NUMBERS.map(torch.from_numpy) | st.sampled_from([torch.tensor([True, False]), torch.tensor([[1, 2]])])
MODEL = VectorModel(VectorConfig(size=2, action_dim=2, hidden=8, depth=1, outcome_hidden=8))


def moderate(value: Any) -> bool:
    """Whether costs with this in an objective must be finite: huge weights may well give infinite ones."""
    if isinstance(value, int | float):
        return value == 0 or 1e-3 < abs(value) < 1e3
    return value is None or bool((torch.as_tensor(np.asarray(value, np.float64)).abs() < 1e3).all())


def check_costs(objective: Objective, finite: bool) -> None:
    """One cost per row."""

    def check(cost: Tensor | None) -> None:
        if cost is not None:
            assert cost.shape == (N,)
            assert not finite or bool(cost.isfinite().all())

    check(answered(lambda: objective.state_cost(STATES[:, -1], GOAL)))
    check(answered(lambda: objective.trajectory_cost(STATES, ACTIONS, GOAL)))


@examples(300)
@given(some_fields(GoalDistance, ODD | NUMBERS | LISTS | TENSORS))
def test_every_field_of_the_goal_distance(changed: dict[str, Any]) -> None:
    objective = answered(lambda: GoalDistance(**changed))
    if objective is not None:
        check_costs(objective, all(map(moderate, changed.values())))


@examples(100)
@given(ODD | st.just(MODEL), ODD)
def test_every_field_of_the_rewards(model: Any, terminal: Any) -> None:
    objective = answered(lambda: Rewards(model, terminal))
    if objective is not None:
        check_costs(objective, moderate(terminal))


TERM = st.sampled_from([GoalDistance(), Rewards(MODEL), GoalDistance, *JUNK])
WEIGHT = st.floats(0, 3) | ODD


@examples(200)
@given(ODD | st.lists(TERM, max_size=2).map(tuple), ODD | st.lists(WEIGHT, max_size=2).map(tuple))
def test_every_field_of_a_sum(terms: Any, weights: Any) -> None:
    objective = answered(lambda: WeightedSum(terms, weights))
    if objective is not None:
        check_costs(objective, all(map(moderate, weights)))
