"""iCEM: what it remembers from iteration to iteration and decision to decision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from problems import LINEAR, linear_quadratic, linear_quadratic_optimum, random_plans

from grasp_agent.core.rng import make_keys, split
from grasp_agent.planning import ICEM
from grasp_agent.planning.action_noise import coloured_noise
from grasp_agent.planning.plans import scored_start
from grasp_agent.planning.rollout import normalised_units, true_cost
from grasp_agent.planning.warm_start import shift_actions

KEYS = make_keys(0, 2)


def solved():
    """A problem, its exact optimum as a normalised plan [B, T, A], and its cost [B]."""
    task = linear_quadratic(LINEAR["coasting, history 3"]())
    cost, actions = linear_quadratic_optimum(task)
    return task, normalised_units(task, torch.tensor(actions)), torch.tensor(cost)


def begun(task, solver, u=None):
    return solver.init(task, scored_start(task, random_plans(task) if u is None else u), KEYS)


def test_a_step_goes_by_the_elites_among_mean_kept_and_fresh_samples() -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"](), horizon=4)
    solver = ICEM(samples=9, elites=4, keep=0.5, momentum=0.25, exponent=2.0)
    state = begun(task, solver)
    assert state.elites.shape == (2, 2, 4, 4)
    noise = coloured_noise(task, split(state.keys, 0), 6, 2.0)
    fresh = (state.mean.unsqueeze(1) + state.deviation.unsqueeze(1) * noise).clamp(-1, 1)
    samples = torch.cat([state.mean.unsqueeze(1), state.elites, fresh], dim=1)
    cost = true_cost(task, samples)[0].detach()
    after, plans = solver.step(task, state)
    for b in range(2):
        elites = samples[b, cost[b].argsort()[:4]]
        torch.testing.assert_close(after.mean[b], 0.25 * state.mean[b] + 0.75 * elites.mean(dim=0))
        spread = elites.std(dim=0, correction=0)
        torch.testing.assert_close(after.deviation[b], 0.25 * state.deviation[b] + 0.75 * spread)
        torch.testing.assert_close(after.elites[b], elites[:2])
        torch.testing.assert_close(plans.actions[b, 0], elites[0])
    assert not torch.equal(after.keys, state.keys)


def test_a_kept_elite_stays_as_long_as_nothing_beats_it() -> None:
    task, optimum, cost = solved()
    solver = ICEM()
    state = begun(task, solver)
    assert state.elites.shape == (2, 2, 8, 2)  # 0.3 of 8, rounded down
    state = replace(state, elites=torch.stack([state.elites[:, 0], optimum], dim=1))
    for _ in range(4):
        state, plans = solver.step(task, state)
        torch.testing.assert_close(state.elites[:, 0], optimum)
        torch.testing.assert_close(plans.cost[:, 0], cost)
        assert bool((true_cost(task, state.elites)[0].diff(dim=1) >= -1e-12).all())  # cheapest first


def test_without_keeping_the_elites_are_forgotten() -> None:
    task, _, _ = solved()
    solver = ICEM(keep=0.0)
    state, _ = solver.step(task, begun(task, solver))
    shifted = solver.shift(task, state, scored_start(task, state.mean), KEYS, 1)
    assert state.elites.shape == shifted.elites.shape == (2, 0, 8, 2)
    solver.step(task, shifted)


def test_the_mean_is_always_a_sample() -> None:
    task, optimum, cost = solved()
    _, plans = ICEM().step(task, begun(task, ICEM(), optimum))
    torch.testing.assert_close(plans.actions[:, 0], optimum)
    torch.testing.assert_close(plans.cost[:, 0], cost)


@pytest.mark.parametrize("n", [1, 3])
def test_a_warm_start_shifts_the_elites_and_widens_again(n) -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"]())
    solver = ICEM()
    state = begun(task, solver)
    for _ in range(3):
        state, _ = solver.step(task, state)
    start = scored_start(task, random_plans(task, seed=1))
    shifted = solver.shift(task, state, start, make_keys(1, 2), n)
    assert torch.equal(shifted.mean, start.actions)
    assert torch.equal(shifted.elites, shift_actions(task, state.elites, n))
    assert bool((shifted.deviation == solver.init_scale).all())
    assert not torch.equal(shifted.keys, state.keys)

    following, plans = solver.step(task, shifted)
    moved = torch.cat([shifted.mean.unsqueeze(1), shifted.elites], dim=1)
    assert bool((plans.cost[:, 0] <= true_cost(task, moved)[0].amin(dim=1) + 1e-9).all())
    current = solver.current(task, following)
    torch.testing.assert_close(current.cost, true_cost(task, following.mean.unsqueeze(1))[0][:, 0].detach())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: ICEM(elites=65), "ICEM.elites: expected at most samples = 64, got 65"),
        (lambda: ICEM(keep=1.0), "ICEM.keep: expected a number from 0 up to, but not including, 1"),
        (lambda: ICEM(momentum=-0.1), "ICEM.momentum: expected a number from 0"),
        (lambda: ICEM(exponent=-1.0), "ICEM.exponent: expected a finite number of at least 0"),
        (
            lambda: ICEM(samples=4, elites=4, keep=0.9),
            "ICEM.keep: expected room for a fresh sample .* got 3 kept of 4 samples; try more samples",
        ),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
