"""Gauss-Newton: its quadratic model, exactness, bounds, damping, and models that it must live with or refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from odd_models import ActionsOnly, SpyModel
from problems import (
    LINEAR,
    LinearModel,
    linear_quadratic,
    linear_quadratic_optimum,
    pendulum,
    random_plans,
    with_model,
)

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import GaussNewton, solve
from grasp_agent.planning.plans import scored_start
from grasp_agent.planning.rollout import normalised_units, true_cost
from grasp_agent.planning.solvers.descent import rollout_gradient
from grasp_agent.planning.solvers.gauss_newton import linearisation, quadratic_model

KEYS = make_keys(0, 2)
UNDAMPED = GaussNewton(damping=1e-6)


def begun(task, u, solver=UNDAMPED):
    return solver.init(task, scored_start(task, u), KEYS)


# ----- the quadratic model -----


@pytest.mark.parametrize("name", LINEAR)
def test_the_model_of_a_linear_quadratic_problem_is_the_problem(name) -> None:
    task = linear_quadratic(LINEAR[name](), horizon=5, bound=2.0)
    u, step = random_plans(task), random_plans(task, seed=1, size=0.3)
    slope, curvature = quadratic_model(task, u, scored_start(task, u).states)
    here, there = (true_cost(task, x.unsqueeze(1))[0][:, 0].detach() for x in (u, u + step))
    flat = step.flatten(1)
    change = (slope * flat).sum(1) + torch.einsum("na,nab,nb->n", flat, curvature, flat) / 2
    torch.testing.assert_close(change, there - here)


def test_the_slope_is_the_rollouts_gradient_where_the_model_bends() -> None:
    task = replace(pendulum(horizon=8), objective=GoalDistance(running=0.4, action=0.03, huber=0.7))
    u = random_plans(task)
    slope, _ = quadratic_model(task, u, scored_start(task, u).states)
    torch.testing.assert_close(slope, rollout_gradient(task, u)[0].flatten(1))


def test_jacobians_read_the_window_oldest_first() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3, block 2"](), horizon=4)
    spy = SpyModel(task.model)
    u = random_plans(task)
    start = scored_start(task, u)
    to_states, to_blocks = linearisation(with_model(task, spy), u, start.states)
    assert spy.batches == [2 * 4]  # one model call
    model = task.model
    for i in range(3):  # i frames ago
        torch.testing.assert_close(to_states[1, 2, :, 2 - i], model.on_states[i].detach())
        torch.testing.assert_close(to_blocks[1, 2, :, 2 - i], model.on_actions[i].detach())


# ----- exactness -----


@pytest.mark.parametrize("name", LINEAR)
def test_one_step_solves_a_linear_quadratic_problem(name) -> None:
    task = linear_quadratic(LINEAR[name](), horizon=6, action=0.2, bound=50.0)  # bounds that nobody meets
    cost, actions = linear_quadratic_optimum(task)
    assert np.abs(actions).max() < 45
    state, plans = UNDAMPED.step(task, begun(task, random_plans(task, size=0.1)))
    np.testing.assert_allclose(state.plan.cost.numpy(), cost, rtol=1e-6)
    np.testing.assert_allclose(50 * state.plan.actions.numpy(), actions, atol=1e-2)
    assert plans is not None
    torch.testing.assert_close(plans.cost[:, 0], state.plan.cost)
    torch.testing.assert_close(plans.cost, true_cost(task, plans.actions)[0].detach())


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("bound", [0.4, 1.0])
def test_a_few_steps_find_which_bounds_bind(name, bound) -> None:
    task = linear_quadratic(LINEAR[name](), bound=bound)
    cost, actions = linear_quadratic_optimum(task)
    assert (np.abs(actions) > bound - 1e-6).any() and (np.abs(actions) < 0.9 * bound).any()
    state = begun(task, random_plans(task), GaussNewton())
    for _ in range(14):
        state, _ = GaussNewton().step(task, state)
        assert float(state.plan.actions.abs().max()) <= 1.0
    np.testing.assert_allclose(state.plan.cost.numpy(), cost, rtol=1e-6, atol=1e-9)


def test_actions_pushed_against_a_bound_do_not_hold_the_others_back() -> None:
    """One step from a plan at its bounds: what may move goes where it would if the others did not exist."""
    model = LinearModel([np.eye(1)], [np.array([[1.0, 0.6]])], (1,), 1)
    task = linear_quadratic(model, batch=2, horizon=1, action=0.1, running=0.0)
    now = torch.zeros(2, 1, 1).double()
    task = replace(task, states=now, goal=torch.full((2, 1), 1.3).double())
    start = torch.tensor([[[1.0, 0.0]]]).double().repeat(2, 1, 1)  # the first wants to go further
    state, _ = UNDAMPED.step(task, begun(task, start))
    expected = torch.tensor([1.0, 0.6 * 0.3 / (0.36 + 0.1)]).double()
    torch.testing.assert_close(state.plan.actions[0, 0], expected, rtol=0, atol=1e-5)
    away = torch.tensor([[[-1.0, 0.0]]]).double().repeat(2, 1, 1)  # here it is free: the slope pulls it inside
    state, _ = UNDAMPED.step(task, begun(task, away))
    cost = linear_quadratic_optimum(task)[0]
    np.testing.assert_allclose(state.plan.cost.numpy(), cost, rtol=0.05)


# ----- damping -----


def test_damping_follows_what_was_best_and_grows_when_nothing_improves() -> None:
    task = linear_quadratic(LINEAR["integrator"](), action=0.2, bound=50.0)
    _, actions = linear_quadratic_optimum(task)
    far = begun(task, random_plans(task, size=0.1), GaussNewton(damping=0.1))
    better, _ = GaussNewton().step(task, far)
    torch.testing.assert_close(better.damping, torch.full((2,), 0.01).double())  # less would have been better still
    stuck = begun(task, normalised_units(task, torch.tensor(actions)), GaussNewton(damping=0.1))
    stuck = replace(stuck, plan=replace(stuck.plan, cost=stuck.plan.cost - 1e-9))  # nothing can be cheaper
    after, plans = GaussNewton().step(task, stuck)
    torch.testing.assert_close(after.damping, torch.full((2,), 10.0).double())
    assert torch.equal(after.plan.actions, stuck.plan.actions) and torch.equal(after.plan.cost, stuck.plan.cost)
    assert plans is not None and torch.equal(plans.actions[:, 0], stuck.plan.actions)
    for _ in range(5):
        after, _ = GaussNewton().step(task, after)
    torch.testing.assert_close(after.damping, torch.full((2,), 1e6).double())


def test_no_step_makes_the_plan_costlier() -> None:
    task = pendulum()
    state = begun(task, random_plans(task), GaussNewton())
    for _ in range(12):
        before = state.plan.cost
        state, _ = GaussNewton().step(task, state)
        assert bool((state.plan.cost <= before).all())
        torch.testing.assert_close(state.plan.cost, true_cost(task, state.plan.actions.unsqueeze(1))[0][:, 0].detach())
    assert bool((state.plan.cost < 1.0).all())  # hanging costs 4 at the end alone


def test_several_dampings_are_one_batched_rollout() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=6)
    spy = SpyModel(task.model)
    GaussNewton().step(with_model(task, spy), begun(task, random_plans(task), GaussNewton()))
    assert spy.batches == [2 * 6] + [2 * 3] * 6


def test_a_restart_begins_with_the_first_damping() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    state, _ = GaussNewton().step(task, begun(task, random_plans(task), GaussNewton()))
    other = scored_start(task, random_plans(task, seed=1))
    again = GaussNewton().restart(task, state, other, KEYS)
    assert torch.equal(again.plan.actions, other.actions) and again.damping.tolist() == [0.1, 0.1]
    assert GaussNewton().current(task, again) is again.plan


# ----- models -----


def test_a_model_that_ignores_the_states_is_planned_with() -> None:
    stand_in = LinearModel([np.zeros((2, 2))], [0.8 * np.eye(2)], (2,), 1)
    task = linear_quadratic(stand_in)
    plan, _ = solve(GaussNewton(), with_model(task, ActionsOnly()), Budget(4))
    np.testing.assert_allclose(plan.cost.numpy(), linear_quadratic_optimum(task)[0], rtol=1e-6)


def test_a_latent_too_large_for_jacobians_is_refused() -> None:
    shape, size = (20, 30), 600
    wide = LinearModel([np.eye(size)], [np.random.default_rng(0).standard_normal((size, 2))], shape, 1)
    task = linear_quadratic(wide, horizon=3)
    with pytest.raises(ValueError, match=r"expected a latent of at most 512 numbers, got 600; try GRASP.large_latent"):
        solve(GaussNewton(), task, Budget(1))


def test_bad_hyperparameters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"GaussNewton.damping: expected a finite number above 0, got 0"):
        GaussNewton(damping=0.0)
