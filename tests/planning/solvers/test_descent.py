"""Functional optimisers against torch's own, the rollout's gradient, and models that give none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from odd_models import Broken, Detached, StatesOnly, Wrapped
from problems import LINEAR, linear_quadratic, linear_quadratic_optimum, pendulum, random_plans, with_model

from grasp_agent.core.types import Budget
from grasp_agent.planning import CEM, GRASP, LBFGS, GaussNewton, GradientDescent, LatCo, Lifted, solve
from grasp_agent.planning.rollout import true_cost
from grasp_agent.planning.solvers.descent import clipped, descent, no_moments, norms, rollout_gradient


@pytest.mark.parametrize(("name", "reference"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_descent_is_the_textbook_optimiser(name, reference) -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double()
    theirs = torch.nn.Parameter(x.clone())
    optimizer = reference([theirs], lr=0.1)
    moments = no_moments(name, x)
    for _ in range(20):
        change, moments = descent(name, 0.1, 4 * x**3 - x, moments)
        x = x + change
        theirs.grad = (4 * theirs**3 - theirs).detach()
        optimizer.step()
        torch.testing.assert_close(x, theirs.detach())


def test_every_row_has_its_own_count() -> None:
    gradient = torch.ones(2, 3)
    _, one = descent("adam", 0.1, gradient, no_moments("adam", gradient))
    none = no_moments("adam", gradient)
    moments = type(one)(
        *(torch.stack([a[0], b[1]]) for a, b in zip(vars(one).values(), vars(none).values(), strict=True))
    )
    change, after = descent("adam", 0.1, gradient, moments)
    assert after.count.tolist() == [2, 1]
    torch.testing.assert_close(change, torch.full((2, 3), -0.1))


def test_clipping_shortens_long_rows_only_and_silences_nan() -> None:
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4], [torch.nan, 1.0]])
    torch.testing.assert_close(norms(gradient[:2]), torch.tensor([5.0, 0.5]))
    torch.testing.assert_close(clipped(gradient, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 1.0]]))
    assert torch.equal(clipped(gradient, None)[:2], gradient[:2])
    block = gradient[:2].view(1, 2, 2)  # one row of two actions has one norm
    torch.testing.assert_close(norms(clipped(block, 1.0)), torch.ones(1))


@pytest.mark.parametrize("make", [pendulum, lambda: linear_quadratic(LINEAR["coasting, history 3, block 2"]())])
def test_the_rollout_gradient_agrees_with_finite_differences(make) -> None:
    task = make()
    u = random_plans(task, size=0.3)
    gradient, plans = rollout_gradient(task, u)
    cost, states = true_cost(task, u.unsqueeze(1))
    assert torch.equal(plans.actions[:, 0], u)
    torch.testing.assert_close(plans.cost, cost.detach())
    torch.testing.assert_close(plans.states, states.detach())
    direction = random_plans(task, seed=1)
    step = 1e-6 * direction
    up, down = (true_cost(task, x.unsqueeze(1))[0][:, 0].detach() for x in (u + step, u - step))
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), (up - down) / 2e-6, rtol=1e-5, atol=1e-7)


def test_a_broken_row_has_no_gradient_and_spares_its_neighbours() -> None:
    task = with_model(linear_quadratic(LINEAR["integrator"]()), Broken())
    u = random_plans(task)
    expected, _ = rollout_gradient(task, u)
    states = task.states.clone()
    states[0] = 100.0
    gradient, plans = rollout_gradient(replace(task, states=states), u)
    assert plans.cost[0].isinf() and plans.cost[1].isfinite()
    torch.testing.assert_close(gradient[1], expected[1])


GRADIENT_SOLVERS = [
    GradientDescent(),
    GaussNewton(),
    LBFGS(),
    Lifted(),
    Lifted(stop_gradient=False),
    LatCo(),
    GRASP(),
    GRASP.large_latent(),
    GRASP.paper(),
]


@pytest.mark.parametrize("solver", GRADIENT_SOLVERS)
@pytest.mark.parametrize("model", [Detached(), StatesOnly(), Wrapped(StatesOnly())], ids=lambda m: type(m).__name__)
def test_a_model_that_no_action_gets_a_gradient_from_is_named(solver, model) -> None:
    task = with_model(linear_quadratic(LINEAR["integrator"](), horizon=4, action=0.0), model)
    with pytest.raises(ValueError, match="expected predictions that depend differentiably on the actions"):
        solve(solver, task, Budget(2))


def test_sampling_needs_no_gradient() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    plan, _ = solve(CEM(), with_model(task, Detached()), Budget(20))
    optimum = torch.tensor(linear_quadratic_optimum(task)[0])
    assert bool((plan.cost < 1.3 * optimum).all())
