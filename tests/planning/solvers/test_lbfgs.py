"""L-BFGS: its curvature pairs against the textbook's dense update, what it forgets, and how fast that makes it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from problems import LINEAR, linear_quadratic, linear_quadratic_optimum, pendulum, random_plans
from torch import Tensor

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget
from grasp_agent.planning import LBFGS, GradientDescent, solve
from grasp_agent.planning.plans import scored_start
from grasp_agent.planning.rollout import normalised_units, true_cost
from grasp_agent.planning.solvers.descent import rollout_gradient
from grasp_agent.planning.solvers.lbfgs import _two_loops

KEYS = make_keys(0, 2)


def begun(task, u, solver=None):
    return (solver or LBFGS()).init(task, scored_start(task, u), KEYS)


def flat_gradient(task, u) -> Tensor:
    return rollout_gradient(task, u)[0].flatten(1)


# ----- curvature -----


def test_two_loops_are_the_dense_update() -> None:
    """H <- (I - rho s y') H (I - rho y s') + rho s s', from H_0 = (s . y / y . y) I of the newest pair."""
    generator = torch.Generator().manual_seed(0)
    d, m = 6, 4
    half = torch.randn(d, d, generator=generator).double()
    hessian = half @ half.T + 0.5 * torch.eye(d).double()
    steps = torch.randn(2, m, d, generator=generator).double()
    changes = steps @ hessian
    steps[1, 0] = changes[1, 0] = 0  # one row has a pair less
    g = torch.randn(2, d, generator=generator).double()
    found = _two_loops(g, steps, changes)
    for b in range(2):
        s, y = steps[b, -1], changes[b, -1]
        inverse = (s @ y) / (y @ y) * torch.eye(d).double()
        for s, y in zip(steps[b], changes[b], strict=True):
            if not s.any():
                continue
            rho = 1 / (s @ y)
            left = torch.eye(d).double() - rho * torch.outer(s, y)
            inverse = left @ inverse @ left.T + rho * torch.outer(s, s)
        torch.testing.assert_close(found[b], inverse @ g[b])
    torch.testing.assert_close(_two_loops(changes[:, -1], steps, changes), steps[:, -1])  # the secant condition
    assert torch.equal(_two_loops(g, 0 * steps, 0 * changes), g)


@pytest.mark.parametrize("name", ["integrator", "double integrator", "patches"])
def test_it_is_far_ahead_of_plain_descent(name) -> None:
    task = linear_quadratic(LINEAR[name](), action=0.01, bound=5.0)
    cost = linear_quadratic_optimum(task)[0]

    def left(solver) -> float:
        """How much of the way to the optimum is left undone."""
        plan, _ = solve(solver, task, Budget(25))
        return float(np.max((plan.cost.numpy() - cost) / (plan.cost_trace[:, 0].numpy() - cost)))

    plain = [GradientDescent(rate=rate, optimizer="sgd") for rate in (0.003, 0.01, 0.1)]
    assert left(LBFGS()) < min(1e-3, 0.05 * min(left(solver) for solver in (*plain, GradientDescent())))


def test_a_step_without_memory_goes_straight_down() -> None:
    task = pendulum(horizon=6)
    u = random_plans(task, size=0.1)
    state, plans = LBFGS().step(task, begun(task, u))
    gradient = flat_gradient(task, u)
    torch.testing.assert_close(state.gradient, gradient)
    cosine = torch.nn.functional.cosine_similarity(state.moved, -gradient)
    torch.testing.assert_close(cosine, torch.ones(2).double())
    # the cheapest of five lengths, of which the first changes an action by 0.6
    lengths = torch.tensor([2.0, 1.0, 0.3, 0.1, 0.01]).double() * 0.3
    tried = u.unsqueeze(1) - (
        lengths.view(-1, 1, 1) * (gradient / gradient.abs().amax(1, keepdim=True)).view(2, 1, 6, 1)
    )
    cost = true_cost(task, tried.clamp(-1, 1))[0].detach()
    torch.testing.assert_close(state.plan.cost, cost.amin(dim=1))
    assert plans is not None
    torch.testing.assert_close(plans.cost[:, 0], state.plan.cost)


def test_the_last_pairs_are_remembered_newest_last() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), action=0.1, bound=2.0)
    solver = LBFGS(memory=2)
    state = begun(task, random_plans(task), solver)
    plans, gradients = [], []
    for _ in range(4):
        plans.append(state.plan.actions.flatten(1))
        gradients.append(flat_gradient(task, state.plan.actions))
        state, _ = solver.step(task, state)
    assert state.steps.shape == (2, 2, 16)
    for i, at in enumerate((1, 2)):  # the pair of the fourth step is formed in the fifth
        torch.testing.assert_close(state.steps[:, i], plans[at + 1] - plans[at])
        torch.testing.assert_close(state.changes[:, i], gradients[at + 1] - gradients[at])


def test_a_pair_without_positive_curvature_is_not_remembered() -> None:
    task = linear_quadratic(LINEAR["integrator"](), action=0.1, bound=2.0)
    u = random_plans(task)
    g, step = flat_gradient(task, u), random_plans(task, seed=1).flatten(1)
    state = replace(begun(task, u), moved=step, gradient=torch.stack([g[0] - step[0], g[1] + step[1]]))
    after, _ = LBFGS().step(task, state)
    torch.testing.assert_close(after.steps[0, -1], step[0])
    torch.testing.assert_close(after.changes[0, -1], step[0])
    assert not after.steps[1].any() and not after.changes[1].any()


# ----- failure -----


def test_when_nothing_improves_the_plan_stays_and_the_memory_goes() -> None:
    task = linear_quadratic(LINEAR["integrator"](), action=0.2, bound=2.0)
    state = begun(task, random_plans(task))
    pair = 0.1 * random_plans(task, seed=2).flatten(1)
    steps = state.steps.clone()
    steps[:, -1] = pair
    cost = torch.stack([torch.tensor(-1.0).double(), state.plan.cost[1]])  # row 0 claims what nothing can beat
    state = replace(state, plan=replace(state.plan, cost=cost), steps=steps, changes=steps)
    after, plans = LBFGS().step(task, state)
    assert torch.equal(after.plan.actions[0], state.plan.actions[0]) and not after.moved[0].any()
    assert not after.steps[0].any() and not after.changes[0].any()
    torch.testing.assert_close(after.steps[1, -1], pair[1])
    assert after.plan.cost[1] < state.plan.cost[1] and after.moved[1].any()
    assert plans is not None and torch.equal(plans.cost[:, 0], after.plan.cost)


def test_steps_without_memory_get_shorter_until_one_fits() -> None:
    task = linear_quadratic(LINEAR["integrator"](), action=0.2, bound=100.0)  # steep in units of the bound
    cost, actions = linear_quadratic_optimum(task)
    near = normalised_units(task, torch.tensor(actions)) + 1e-5 * random_plans(task, seed=3)
    state = begun(task, near)
    start = state.plan.cost
    for _ in range(2):
        state, _ = LBFGS().step(task, state)
        assert torch.equal(state.plan.cost, start)
    for _ in range(12):
        state, _ = LBFGS().step(task, state)
    assert bool((state.plan.cost - torch.tensor(cost) < 0.01 * (start - torch.tensor(cost))).all())


def test_no_step_makes_the_plan_costlier_where_the_model_bends() -> None:
    task = pendulum()
    state = begun(task, random_plans(task))
    for _ in range(25):
        before = state.plan.cost
        state, _ = LBFGS().step(task, state)
        assert bool((state.plan.cost <= before).all())
    torch.testing.assert_close(state.plan.cost, true_cost(task, state.plan.actions.unsqueeze(1))[0][:, 0].detach())
    assert bool((state.plan.cost < 1.0).all())


# ----- bounds and going on -----


@pytest.mark.parametrize("name", ["double integrator", "coasting, history 3, block 2", "patches"])
@pytest.mark.parametrize("bound", [0.4, 1.0])
def test_it_finds_which_bounds_bind(name, bound) -> None:
    task = linear_quadratic(LINEAR[name](), bound=bound)
    cost, actions = linear_quadratic_optimum(task)
    assert (np.abs(actions) > bound - 1e-6).any() and (np.abs(actions) < 0.9 * bound).any()
    state = begun(task, random_plans(task))
    for _ in range(40):
        state, _ = LBFGS().step(task, state)
        assert float(state.plan.actions.abs().max()) <= 1.0
    np.testing.assert_allclose(state.plan.cost.numpy(), cost, rtol=1e-3, atol=1e-9)


def test_a_restart_keeps_the_pairs_but_makes_none_of_the_jump() -> None:
    task = linear_quadratic(LINEAR["integrator"](), action=0.2, bound=2.0)
    state = begun(task, random_plans(task))
    for _ in range(3):
        state, _ = LBFGS().step(task, state)
    other = scored_start(task, random_plans(task, seed=1))
    again = LBFGS().restart(task, state, other, KEYS)
    assert torch.equal(again.plan.actions, other.actions) and torch.equal(again.steps, state.steps)
    after, _ = LBFGS().step(task, again)
    torch.testing.assert_close(after.steps, state.steps)
    moved = LBFGS().shift(task, state, other, KEYS, 1)
    assert torch.equal(moved.plan.actions, other.actions) and not moved.steps.any()
    assert LBFGS().current(task, again) is again.plan


def test_bad_hyperparameters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"LBFGS.memory: expected a whole number of at least 1, got 0"):
        LBFGS(memory=0)
