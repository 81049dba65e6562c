"""MPPI: the weights of its samples, the temperature's limits, and what it does with a sample that broke."""

from __future__ import annotations

import math

import pytest
import torch
from problems import LINEAR, linear_quadratic, linear_quadratic_optimum, random_plans

from grasp_agent.core.rng import make_keys, split
from grasp_agent.planning import MPPI
from grasp_agent.planning.action_noise import smooth_noise
from grasp_agent.planning.plans import scored_start
from grasp_agent.planning.rollout import normalised_units, true_cost
from grasp_agent.planning.solvers.mppi import path_weights

COSTS = torch.tensor([[3.0, 1.0, 2.0, 9.0, 5.0], [0.4, 0.3, 0.2, 0.1, 0.0]]).double()


def test_a_sample_of_median_cost_weighs_what_the_temperature_says() -> None:
    weights = path_weights(COSTS, 0.5)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2).double())
    ratios = weights / weights.max(dim=1, keepdim=True).values
    excess = torch.tensor([[1.0, 0.0, 0.5, 4.0, 2.0], [2.0, 1.5, 1.0, 0.5, 0.0]]).double()  # in (median - minimum)
    torch.testing.assert_close(ratios, torch.exp(-excess / 0.5))


def test_weights_do_not_depend_on_the_unit_of_the_cost() -> None:
    torch.testing.assert_close(path_weights(1e4 * COSTS - 7.0, 0.3), path_weights(COSTS, 0.3))


def test_the_limits_of_the_temperature() -> None:
    cold, hot = path_weights(COSTS, 1e-6), path_weights(COSTS, 1e6)
    torch.testing.assert_close(cold, torch.eye(5).double()[COSTS.argmin(dim=1)])
    torch.testing.assert_close(hot, torch.full((2, 5), 0.2).double(), rtol=1e-4, atol=0)


def test_broken_samples_weigh_nothing_and_equal_ones_the_same() -> None:
    inf = math.inf
    cost = torch.tensor([[1.0, inf, 3.0, 2.0], [inf, inf, inf, 5.0], [2.0, 2.0, 2.0, 2.0], [inf] * 4])
    weights = path_weights(cost, 0.5)
    assert weights[0, 1] == 0 and weights[0, 0] > weights[0, 3] > weights[0, 2] > 0
    assert weights[1].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert weights[2].tolist() == weights[3].tolist() == [0.25] * 4


def test_a_cold_step_moves_to_the_best_sample_and_a_hot_one_to_the_plain_mean() -> None:
    task, keys = linear_quadratic(LINEAR["coasting, history 3, block 2"]()), make_keys(1, 2)
    start = scored_start(task, random_plans(task))
    cold = MPPI(temperature=1e-6)
    state, plans = cold.step(task, cold.init(task, start, keys))
    torch.testing.assert_close(state.mean, plans.actions[:, 0])

    hot = MPPI(temperature=1e9, samples=5, correlation=0.8)
    begun = hot.init(task, start, keys)
    noise = smooth_noise(task, split(begun.keys, 0), 4, 0.8)
    drawn = (begun.mean.unsqueeze(1) + hot.scale * noise).clamp(-1, 1)
    after, plans = hot.step(task, begun)
    torch.testing.assert_close(after.mean, (begun.mean + drawn.sum(dim=1)) / 5)
    cost = true_cost(task, torch.cat([begun.mean.unsqueeze(1), drawn], dim=1))[0].detach()
    torch.testing.assert_close(plans.cost[:, 0], cost.amin(dim=1))
    assert not torch.equal(after.keys, begun.keys)


def test_the_mean_is_a_sample() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"]())
    cost, actions = linear_quadratic_optimum(task)
    solver = MPPI(temperature=10.0)
    state = solver.init(task, scored_start(task, normalised_units(task, torch.tensor(actions))), make_keys(0, 2))
    after, plans = solver.step(task, state)
    torch.testing.assert_close(plans.cost[:, 0], torch.tensor(cost))
    assert bool((after.mean - state.mean).abs().amax(dim=(1, 2)).gt(0.01).all())  # while the mean goes elsewhere


def test_it_goes_on_from_the_plan_it_is_given() -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"]())
    solver = MPPI()
    state, _ = solver.step(task, solver.init(task, scored_start(task, random_plans(task)), make_keys(0, 2)))
    start = scored_start(task, random_plans(task, seed=1))
    for later in (
        solver.shift(task, state, start, make_keys(1, 2), 1),
        solver.restart(task, state, start, make_keys(1, 2)),
    ):
        assert torch.equal(later.mean, start.actions) and not torch.equal(later.keys, state.keys)
    current = solver.current(task, state)
    assert torch.equal(current.actions, state.mean)
    torch.testing.assert_close(current.cost, true_cost(task, state.mean.unsqueeze(1))[0][:, 0].detach())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: MPPI(samples=1), "MPPI.samples: expected a whole number of at least 2, got 1"),
        (lambda: MPPI(temperature=0.0), "MPPI.temperature: expected a finite number above 0, got 0.0"),
        (lambda: MPPI(scale=-1.0), "MPPI.scale: expected a finite number above 0"),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
