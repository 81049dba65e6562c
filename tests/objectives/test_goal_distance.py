"""Objectives: hand-computed costs, and refusals that say what was expected."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from problems import LinearModel

from grasp_agent.objectives import GoalDistance, default_objective

STATES = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])  # [1, T = 2, 2]
ACTIONS = torch.tensor([[[1.0], [3.0]]])
GOAL = torch.tensor([[0.0, 0.0]])


def cost(objective) -> float:
    return objective.trajectory_cost(STATES, ACTIONS, GOAL).item()


def test_every_term_against_the_hand() -> None:
    assert cost(GoalDistance(running=0.0)) == 4.0  # only the last state counts
    assert cost(GoalDistance(terminal=0.5, running=0.0)) == 2.0
    assert cost(GoalDistance(terminal=1.0, running=2.0)) == 4.0 + 2.0 * (1 + 4) / 2
    assert cost(GoalDistance(terminal=0.0, running=1.0)) == 2.5
    assert cost(GoalDistance(running=0.0, action=0.1)) == pytest.approx(4.0 + 0.1 * (1 + 9) / 2)


def test_weights_and_probe() -> None:
    assert cost(GoalDistance(running=0.0, weights=torch.tensor([7.0, 0.25]))) == 1.0
    assert cost(GoalDistance(running=0.0, probe=torch.tensor([[1.0, 3.0]]))) == 36.0
    diagonal = GoalDistance(running=1.0, probe=torch.diag(torch.tensor([2.0, 3.0])))
    weighted = GoalDistance(running=1.0, weights=torch.tensor([4.0, 9.0]))
    assert cost(diagonal) == cost(weighted)


def test_features_are_what_is_compared() -> None:
    squares = GoalDistance(running=2.0, features=lambda latents: latents.square() + 5)
    assert cost(squares) == 16.0 + 2.0 * (1 + 16) / 2
    assert GoalDistance(features=lambda latents: latents.sum(1, keepdim=True)).state_cost(
        torch.ones(3, 2), torch.zeros(3, 2)
    ).tolist() == [4.0, 4.0, 4.0]


@pytest.mark.parametrize("make", [tuple, list, np.array, torch.tensor], ids=["tuple", "list", "array", "tensor"])
def test_numbers_may_come_as_anything_that_holds_them(make) -> None:
    assert cost(GoalDistance(running=0.0, weights=make([7.0, 0.25]))) == 1.0
    assert cost(GoalDistance(running=0.0, weights=make([7, 1]))) == 4.0
    assert cost(GoalDistance(running=0.0, probe=make([[1.0, 3.0]]))) == 36.0


def test_weights_are_a_copy() -> None:
    weights = np.array([7.0, 0.25])
    objective = GoalDistance(running=0.0, weights=weights)
    weights[:] = 0.0
    assert cost(objective) == 1.0


def test_a_model_says_what_of_the_goal_matters() -> None:
    model = LinearModel([np.eye(2)], [np.ones((2, 1))], (2,), 1)
    assert cost(default_objective(model)) == cost(GoalDistance())
    model.distance_weights = (7.0, 0.25)
    assert cost(default_objective(model)) == cost(GoalDistance(weights=torch.tensor([7.0, 0.25])))


def test_patch_latents_are_flattened() -> None:
    state, goal = torch.ones(3, 4, 2), torch.zeros(3, 4, 2)
    assert GoalDistance().state_cost(state, goal).tolist() == [8.0, 8.0, 8.0]
    probe = torch.zeros(1, 8)
    probe[0, 5] = 2.0
    assert GoalDistance(probe=probe).state_cost(state, goal).tolist() == [4.0, 4.0, 4.0]
    assert GoalDistance(weights=torch.full((4, 2), 0.5)).state_cost(state, goal).tolist() == [4.0, 4.0, 4.0]


def test_huber_is_the_square_near_the_goal_and_a_line_far_away() -> None:
    objective = GoalDistance(huber=1.0)
    near, far, farther = (
        objective.state_cost(torch.tensor([[x, 0.0]], dtype=torch.float64), GOAL).item() for x in (1e-3, 1e3, 2e3)
    )
    assert near == pytest.approx(1e-6, rel=1e-5)
    assert farther / far == pytest.approx(2.0, rel=1e-2)


def test_weights_made_under_inference_mode_take_part_in_gradients() -> None:
    with torch.inference_mode():
        objective = GoalDistance(weights=torch.ones(2))
    states = STATES[0].clone().requires_grad_(True)
    objective.state_cost(states, GOAL.expand(2, 2)).sum().backward()
    assert torch.equal(states.grad, 2 * STATES[0])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"terminal": -1.0}, "terminal: expected a finite number of at least 0, got -1.0"),
        ({"running": math.nan}, "running: expected a finite number of at least 0, got nan"),
        ({"terminal": 0.0, "running": 0.0}, "expected a positive terminal or running weight"),
        ({"huber": 0.0}, "huber: expected a finite number above 0, got 0.0"),
        ({"huber": math.inf}, "huber: expected a finite number above 0, got inf"),
        ({"huber": True}, "huber: expected a finite number above 0, got True"),
        ({"terminal": "1"}, "terminal: expected a finite number of at least 0, got '1'"),
        ({"terminal": 10**400}, "terminal: expected a finite number of at least 0, got 1000"),
        ({"weights": (1j, 1.0)}, "weights: expected numbers"),
        ({"weights": torch.tensor([1j])}, "weights: expected finite numbers"),
        ({"weights": (1e39, 1.0)}, "weights: expected finite numbers"),
        (
            {"weights": torch.ones(2), "probe": torch.ones(1, 2)},
            "expected one of weights, probe and features, got weights and probe",
        ),
        ({"features": abs, "probe": torch.ones(1, 2)}, "got probe and features"),
        ({"weights": torch.tensor([1.0, -1.0])}, "weights: expected finite numbers"),
        ({"probe": torch.ones(2)}, "probe: expected a matrix"),
        ({"probe": (1.0, 2.0)}, "probe: expected a matrix"),
        ({"weights": (1.0, -1.0)}, "weights: expected finite numbers"),
        ({"weights": "heavy"}, r"weights: expected numbers \(a tensor, an array, a tuple or a list\), got 'heavy'"),
        ({"weights": (1.0, None)}, "weights: expected finite numbers"),
        ({"probe": [[1.0], [1.0, 2.0]]}, "probe: expected numbers"),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        GoalDistance(**bad)


def test_features_that_are_no_function_are_refused() -> None:
    with pytest.raises(TypeError, match=r"features: expected a function of latents, such as model.in_steps, got 'phi'"):
        GoalDistance(features="phi")  # type: ignore[arg-type]


def test_weights_that_do_not_fit_the_latent_are_refused() -> None:
    with pytest.raises(ValueError, match="expected shape \\[2\\] like the latent, got \\[3\\]"):
        cost(GoalDistance(weights=torch.ones(3)))
    with pytest.raises(ValueError, match="expected 2 columns, one per latent number, got 3"):
        cost(GoalDistance(probe=torch.ones(1, 3)))
