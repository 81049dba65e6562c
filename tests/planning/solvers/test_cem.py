"""CEM: samples, elites and the deviation, which a doubtful plan widens."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from problems import LINEAR, linear_quadratic, linear_quadratic_optimum, random_plans

from grasp_agent.core.rng import make_keys, split
from grasp_agent.planning import CEM
from grasp_agent.planning.action_noise import smooth_noise
from grasp_agent.planning.plans import scored_start
from grasp_agent.planning.rollout import normalised_units, true_cost

KEYS = make_keys(0, 2)


def block_problem():
    return linear_quadratic(LINEAR["coasting, history 3, block 2"](), horizon=4)


def test_mean_and_deviation_are_those_of_the_elites() -> None:
    task = block_problem()
    solver = CEM(samples=7, elites=3, init_scale=0.4, correlation=0.8, floor=0.0)
    state = solver.init(task, scored_start(task, random_plans(task)), KEYS)
    assert float(state.deviation.min()) == float(state.deviation.max()) == 0.4
    noise = smooth_noise(task, split(state.keys, 0), 6, 0.8)
    drawn = (state.mean.unsqueeze(1) + 0.4 * noise).clamp(-1, 1)
    assert bool((drawn.abs() == 1).any())
    samples = torch.cat([state.mean.unsqueeze(1), drawn], dim=1)
    cost = true_cost(task, samples)[0].detach()
    after, plans = solver.step(task, state)
    for b in range(2):
        elites = samples[b, cost[b].argsort()[:3]]
        torch.testing.assert_close(after.mean[b], elites.mean(dim=0))
        torch.testing.assert_close(after.deviation[b], elites.std(dim=0, correction=0))
        torch.testing.assert_close(plans.actions[b, 0], elites[0])
        torch.testing.assert_close(plans.cost[b, 0], cost[b].min())
    assert not torch.equal(after.keys, state.keys)
    again, _ = solver.step(task, after)
    assert not torch.equal(again.keys, after.keys)


def test_every_number_is_sampled_with_its_own_deviation() -> None:
    task = block_problem()
    solver = CEM(samples=5, elites=5)
    state = solver.init(task, scored_start(task, torch.zeros(2, 4, 4).double()), KEYS)
    tight = torch.full((2, 4, 4), 1e-6).double()
    tight[1, 2, 3] = 0.1
    after, _ = solver.step(task, replace(state, deviation=tight))
    moved = after.mean.abs() > 1e-4
    assert moved[1, 2, 3] and moved.sum() == 1


def test_the_mean_is_always_a_sample() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"]())
    cost, actions = linear_quadratic_optimum(task)
    solver = CEM()
    state = solver.init(task, scored_start(task, normalised_units(task, torch.tensor(actions))), KEYS)
    _, plans = solver.step(task, state)
    torch.testing.assert_close(plans.cost[:, 0], torch.tensor(cost))
    torch.testing.assert_close(plans.actions[:, 0], state.mean)


def test_the_deviation_does_not_fall_below_the_floor() -> None:
    task = block_problem()
    solver = CEM(samples=16, elites=1, floor=0.05)  # a single elite has no deviation of its own
    state = solver.init(task, scored_start(task, random_plans(task)), KEYS)
    after, plans = solver.step(task, state)
    assert bool((after.deviation == 0.05).all())
    torch.testing.assert_close(after.mean, plans.actions[:, 0])


def test_a_restart_searches_where_the_plan_is_in_doubt() -> None:
    task = block_problem()
    solver = CEM(floor=0.02)
    state, _ = solver.step(task, solver.init(task, scored_start(task, random_plans(task)), KEYS))
    start = scored_start(task, random_plans(task, seed=1))
    sure = solver.restart(task, state, start, KEYS)
    assert torch.equal(sure.mean, start.actions) and torch.equal(sure.deviation, state.deviation)
    doubt = torch.tensor([[0.0, 0.3, 7.0, 0.1], [0.5, 0.0, 0.0, 1.0]]).double()
    unsure = solver.restart(task, state, replace(start, doubt=doubt), KEYS)
    assert torch.equal(unsure.mean, start.actions)
    torch.testing.assert_close(unsure.deviation, doubt.clamp(0.02, 1.0).unsqueeze(2).expand(2, 4, 4))
    solver.step(task, unsure)


def test_a_warm_start_widens_again() -> None:
    task = block_problem()
    solver = CEM()
    state = solver.init(task, scored_start(task, random_plans(task)), KEYS)
    for _ in range(3):
        state, _ = solver.step(task, state)
    start = scored_start(task, random_plans(task, seed=1))
    shifted = solver.shift(task, state, start, make_keys(1, 2), 1)
    assert torch.equal(shifted.mean, start.actions) and bool((shifted.deviation == solver.init_scale).all())
    current = solver.current(task, state)
    assert torch.equal(current.actions, state.mean)
    torch.testing.assert_close(current.cost, true_cost(task, state.mean.unsqueeze(1))[0][:, 0].detach())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: CEM(elites=65), "CEM.elites: expected at most samples = 64, got 65"),
        (lambda: CEM(floor=math.inf), "CEM.floor: expected a finite number of at least 0"),
        (lambda: CEM(samples=1), "CEM.samples: expected a whole number of at least 2"),
        (lambda: CEM(correlation=1.0), "CEM.correlation: expected a number from 0"),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
