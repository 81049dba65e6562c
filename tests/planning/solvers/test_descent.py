"""Functional optimisers against torch's own, and the rollout's gradient against finite differences."""

from __future__ import annotations

import pytest
import torch
from problems import LINEAR, linear_quadratic, pendulum

from grasp_agent.planning.rollout import true_cost
from grasp_agent.planning.solvers.descent import clipped, descent, no_moments, rollout_gradient


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
    moments = type(one)(
        *(
            torch.stack([a[0], b[1]])
            for a, b in zip(vars(one).values(), vars(no_moments("adam", gradient)).values(), strict=True)
        )
    )
    change, after = descent("adam", 0.1, gradient, moments)
    assert after.count.tolist() == [2, 1]
    torch.testing.assert_close(change, torch.full((2, 3), -0.1))


def test_clipping_shortens_long_rows_only_and_silences_nan() -> None:
    gradient = torch.tensor([[[3.0, 4.0], [0.3, 0.4], [torch.nan, 1.0]]])
    out = clipped(gradient, 1.0)
    torch.testing.assert_close(out, torch.tensor([[[0.6, 0.8], [0.3, 0.4], [0.0, 1.0]]]))
    assert torch.equal(clipped(gradient, None)[0, 0], gradient[0, 0])


@pytest.mark.parametrize("make", [pendulum, lambda: linear_quadratic(LINEAR["coasting, history 3, block 2"]())])
def test_the_rollout_gradient_agrees_with_finite_differences(make) -> None:
    task = make()
    generator = torch.Generator().manual_seed(1)
    shape = (2, 3, task.horizon, task.action_size)
    u = 0.3 * torch.randn(shape, generator=generator).double()
    gradient, cost, states = rollout_gradient(task, u)
    expected_cost, expected_states = true_cost(task, u)
    torch.testing.assert_close(cost, expected_cost.detach())
    torch.testing.assert_close(states, expected_states.detach())
    direction = torch.randn(shape, generator=generator).double()
    step = 1e-6 * direction
    slope = (true_cost(task, u + step)[0] - true_cost(task, u - step)[0]) / 2e-6
    torch.testing.assert_close((gradient * direction).flatten(2).sum(2), slope.detach(), rtol=1e-5, atol=1e-7)
