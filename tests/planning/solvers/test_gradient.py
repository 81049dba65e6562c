"""Gradient descent through the rollout: its step, what it scores, and what it remembers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from odd_models import SpyModel
from problems import LINEAR, linear_quadratic, linear_quadratic_optimum, pendulum, random_plans, with_model

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget
from grasp_agent.planning import GradientDescent, solve
from grasp_agent.planning.plans import scored_start
from grasp_agent.planning.rollout import true_cost
from grasp_agent.planning.solvers.descent import rollout_gradient

KEYS = make_keys(0, 2)


def test_a_step_goes_down_the_rollout_gradient_and_scores_where_it_was() -> None:
    task = pendulum(horizon=6)
    u = random_plans(task)
    solver = GradientDescent(rate=0.01, optimizer="sgd")
    state, plans = solver.step(task, solver.init(task, scored_start(task, u), KEYS))
    gradient, _ = rollout_gradient(task, u)
    torch.testing.assert_close(state.actions, u - 0.01 * gradient)
    assert plans is not None and torch.equal(plans.actions[:, 0], u)
    torch.testing.assert_close(plans.cost, true_cost(task, u.unsqueeze(1))[0].detach())
    current = solver.current(task, state)
    torch.testing.assert_close(current.cost, true_cost(task, state.actions.unsqueeze(1))[0][:, 0].detach())
    assert not plans.states.requires_grad and not state.actions.requires_grad


def test_a_step_is_one_rollout_whatever_the_batch() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=6)
    spy = SpyModel(task.model)
    solver = GradientDescent()
    state = solver.init(task, scored_start(task, random_plans(task)), KEYS)
    solver.step(with_model(task, spy), state)
    assert spy.batches == [2] * 6


def test_long_gradients_are_cut() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    u = random_plans(task, size=0.1)
    start = scored_start(task, u)

    def length(clip: float | None) -> torch.Tensor:
        solver = GradientDescent(rate=0.01, optimizer="sgd", clip=clip)
        state, _ = solver.step(task, solver.init(task, start, KEYS))
        return (state.actions - u).flatten(1).norm(dim=1) / 0.01

    assert bool((length(None) > 0.02).all())
    torch.testing.assert_close(length(0.02), torch.full((2,), 0.02).double())


def test_actions_stay_within_the_bounds() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    solver = GradientDescent(rate=0.5)
    state = solver.init(task, scored_start(task, random_plans(task, size=1.0)), KEYS)
    for _ in range(5):
        state, _ = solver.step(task, state)
        assert float(state.actions.abs().max()) <= 1.0
    assert bool((state.actions.abs() == 1.0).any())


def test_a_restart_goes_on_with_the_moments_and_a_warm_start_without() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    solver = GradientDescent()
    state = solver.init(task, scored_start(task, random_plans(task)), KEYS)
    for _ in range(3):
        state, _ = solver.step(task, state)
    other = scored_start(task, random_plans(task, seed=1))
    again = solver.restart(task, state, other, KEYS)
    assert torch.equal(again.actions, other.actions)
    assert again.moments.count.tolist() == [3, 3] and torch.equal(again.moments.first, state.moments.first)
    moved = solver.shift(task, state, other, KEYS, 1)
    assert torch.equal(moved.actions, other.actions) and moved.moments.count.tolist() == [0, 0]


def test_plain_descent_reaches_the_exact_optimum() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=5, action=0.5)
    cost, actions = linear_quadratic_optimum(task)
    plan, _ = solve(GradientDescent(rate=0.3, optimizer="sgd"), task, Budget(200))
    np.testing.assert_allclose(plan.cost.numpy(), cost, rtol=1e-7)
    np.testing.assert_allclose(plan.actions.numpy(), actions, atol=1e-3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: GradientDescent(rate=0.0), "GradientDescent.rate: expected a finite number above 0, got 0.0"),
        (lambda: GradientDescent(clip=float("nan")), "GradientDescent.clip: expected a finite number above 0"),
        (lambda: GradientDescent(optimizer="lbfgs"), "GradientDescent.optimizer: expected one of 'adam', 'sgd'"),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
