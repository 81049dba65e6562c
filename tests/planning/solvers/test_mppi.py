"""MPPI: the weights of its samples, the temperature's limits, and what it does with a sample that broke."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from problems import LINEAR, linear_quadratic, linear_quadratic_optimum

from grasp_agent.core.rng import make_keys, split
from grasp_agent.planning import MPPI
from grasp_agent.planning.rollout import normalised_units, true_cost
from grasp_agent.planning.solvers.mppi import path_weights
from grasp_agent.planning.warm_start import shift_actions, smooth_noise

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
    cold = MPPI(temperature=1e-6)
    state = cold.step(task, cold.init(task, keys))
    torch.testing.assert_close(state.mean, state.best.actions)

    hot = MPPI(temperature=1e9, samples=5, correlation=0.8)
    start = hot.init(task, keys)
    noise = smooth_noise(task, split(start.keys, 0), 4, 0.8)
    drawn = (start.mean.unsqueeze(1) + hot.scale * noise).clamp(-1, 1)
    mean = (start.mean + drawn.sum(dim=1)) / 5
    torch.testing.assert_close(hot.step(task, start).mean, mean)


def test_the_mean_is_a_sample_and_the_best_sample_is_kept() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"]())
    cost, actions = linear_quadratic_optimum(task)
    planner = MPPI(temperature=10.0)
    state = planner.init(task, make_keys(0, 2), start=normalised_units(task, torch.tensor(actions)))
    for _ in range(3):
        state = planner.step(task, state)
    torch.testing.assert_close(state.best.cost, torch.tensor(cost))  # while the mean has long gone elsewhere
    assert bool((state.mean - state.best.actions).abs().amax(dim=(1, 2)).gt(0.01).all())


@pytest.mark.parametrize("n", [0, 1, 4])
def test_a_warm_start_goes_on_from_the_shifted_best_plan(n) -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"]())
    planner = MPPI()
    state = planner.step(task, planner.init(task, make_keys(0, 2)))
    shifted = planner.shift(task, state, n)
    assert torch.equal(shifted.mean, shift_actions(task, state.best.actions.unsqueeze(1), n)[:, 0])
    torch.testing.assert_close(shifted.best.cost, true_cost(task, shifted.best.actions.unsqueeze(1))[0][:, 0])
    assert not torch.equal(shifted.keys, state.keys)

    unscored = replace(state, best=replace(state.best, cost=torch.full_like(state.best.cost, math.inf)))
    fallback = planner.shift(task, unscored, n)
    assert torch.equal(fallback.mean, shift_actions(task, state.mean.unsqueeze(1), n)[:, 0])


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
