"""The choice among plans: the one that is still cheap where the model is a little wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from odd_models import Broken, Forked, Integrator
from problems import LINEAR, linear_quadratic, random_plans, with_model

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Problem
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import RobustChoice
from grasp_agent.planning.plans import score
from grasp_agent.planning.rollout import select_problem

KEYS = make_keys(0, 2)


def forked(batch: int = 1) -> Problem:
    one = torch.ones(2, dtype=torch.float64)
    nothing = torch.zeros(batch, 0, 2, dtype=torch.float64)
    start, goal = torch.zeros(batch, 1, 1, dtype=torch.float64), torch.ones(batch, 1, dtype=torch.float64)
    return Problem(Forked(), GoalDistance(running=0.0), start, nothing, goal, 2, -one, one)


CALM = torch.tensor([[0.52, 0.0], [0.52, 0.0]]).double()  # arrives at 1.04
BOLD = torch.tensor([[0.0, 0.5], [0.0, 0.5]]).double()  # arrives at 1 exactly, if nothing comes between


def test_the_plan_that_noise_does_not_upset_is_preferred() -> None:
    task = forked(batch=2)
    plans = score(task, torch.stack([BOLD, CALM]).expand(2, 2, 2, 2))
    assert bool((plans.cost[:, 0] < plans.cost[:, 1]).all())
    assert RobustChoice(1e-9).choose(task, plans, KEYS).tolist() == [0, 0]
    assert RobustChoice(0.02).choose(task, plans, KEYS).tolist() == [1, 1]


def test_costs_are_the_median_over_rollouts_whose_every_move_is_disturbed() -> None:
    task = linear_quadratic(LINEAR["integrator"](), batch=2, horizon=3)
    task = replace(task, model=Integrator(), objective=GoalDistance(running=0.0), goal=task.states[:, -1] + 0.6)
    u = torch.ones(2, 1, 3, 2).double()  # three moves of 0.2 along each axis: at the goal
    cost = RobustChoice(noise=0.3, samples=2001).cost_under_noise(task, u, KEYS)[:, 0]
    # along each axis the gap is the sum of three normal numbers of deviation 0.3 * 0.2; the median of the sum of two
    # squared normal numbers is 2 log 2
    expected = torch.full((2,), 3 * (0.3 * 0.2) ** 2 * 2 * math.log(2)).double()
    torch.testing.assert_close(cost, expected, rtol=0.1, atol=0)


def test_what_rests_rests_under_noise_as_well() -> None:
    """However far the goal is, and whatever else moves."""
    task = linear_quadratic(LINEAR["integrator"](), batch=2)
    task = replace(task, model=Integrator(), objective=GoalDistance(weights=[1.0, 0.0]), goal=task.goal + 100)
    u = torch.zeros(2, 1, 8, 2).double()
    u[..., 1] = 1.0
    calm = score(task, u).cost
    torch.testing.assert_close(RobustChoice(0.5).cost_under_noise(task, u, KEYS), calm, rtol=1e-9, atol=0)


def test_all_plans_of_a_problem_meet_the_same_noise() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"]())
    u = random_plans(task, 1).expand(2, 3, 8, 2)
    cost = RobustChoice(0.1, samples=5).cost_under_noise(task, u, KEYS)
    torch.testing.assert_close(cost, cost[:, :1].expand(2, 3))
    calm = score(task, u.contiguous()).cost
    assert not torch.allclose(cost, calm)
    torch.testing.assert_close(RobustChoice(1e-9).cost_under_noise(task, u, KEYS), calm, rtol=1e-6, atol=0)


def test_a_plan_of_infinite_cost_is_not_chosen() -> None:
    task = forked()
    plans = score(task, torch.stack([BOLD, CALM]).expand(1, 2, 2, 2))
    inf = torch.tensor([[0.0, math.inf]]).double()
    assert RobustChoice(0.02).choose(task, replace(plans, cost=inf), KEYS[:1]).tolist() == [0]


def at_the_brink(batch: int, start: float) -> Problem:
    """Moves of 0.2; states beyond 50 lead to NaN."""
    task = with_model(linear_quadratic(LINEAR["integrator"](), batch=batch), Broken())
    states = torch.full_like(task.states, start)
    return replace(task, states=states, goal=states[:, -1])


def test_where_noise_breaks_every_plan_the_cheapest_is_chosen() -> None:
    task = at_the_brink(2, 49.9)
    plans = score(task, torch.ones(2, 3, 8, 2).double())
    plans = replace(plans, cost=torch.tensor([[3.0, 1.0, 2.0], [math.inf, 2.0, 5.0]]).double())
    choice = RobustChoice(noise=0.1)
    assert bool(choice.cost_under_noise(task, plans.actions, KEYS).isinf().all())
    assert choice.choose(task, plans, KEYS).tolist() == [1, 1]


def test_a_few_broken_rollouts_do_not_decide() -> None:
    task = at_the_brink(20, 48.8)  # five moves lead to 49.8, noise sometimes beyond 50
    u = torch.ones(20, 1, 8, 2).double()
    u[:, :, 5:] = 0.0
    keys = make_keys(0, 20)
    single = RobustChoice(noise=0.5, samples=1).cost_under_noise(task, u, keys)
    assert 0 < int(single.isinf().sum()) < 10
    assert bool(RobustChoice(noise=0.5, samples=101).cost_under_noise(task, u, keys).isfinite().all())


def test_a_row_is_chosen_for_alone_as_in_a_batch() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3, block 2"]())
    u = random_plans(task, 4)
    together = RobustChoice(0.1).cost_under_noise(task, u, KEYS)
    alone = RobustChoice(0.1).cost_under_noise(select_problem(task, torch.tensor([1])), u[1:], KEYS[1:])
    torch.testing.assert_close(alone[0], together[1])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: RobustChoice(noise=0.0), "RobustChoice.noise: expected a finite number above 0, got 0.0"),
        (lambda: RobustChoice(samples=0), "RobustChoice.samples: expected a whole number of at least 1, got 0"),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
