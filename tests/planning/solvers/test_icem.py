"""iCEM: the colour of its noise, and what it remembers from iteration to iteration and decision to decision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from problems import LINEAR, linear_quadratic, linear_quadratic_optimum

from grasp_agent.core.rng import make_keys
from grasp_agent.planning import ICEM
from grasp_agent.planning.rollout import normalised_units, true_cost
from grasp_agent.planning.solvers.icem import coloured_noise
from grasp_agent.planning.warm_start import shift_actions


@pytest.mark.parametrize("steps", [31, 32])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5])
def test_coloured_noise_has_unit_variance_and_the_stated_spectrum_across_blocks(steps, exponent) -> None:
    blocks = {31: "integrator", 32: "integrator, block 2"}[steps]
    task = linear_quadratic(LINEAR[blocks](), batch=1, horizon=steps // LINEAR[blocks]().action_block)
    flat = coloured_noise(task, make_keys(0, 1), 4000, exponent).view(4000, steps, 2)
    assert flat.square().mean(dim=0).sub(1).abs().max() < 0.1
    power = torch.fft.rfft(flat, dim=1).abs().square().mean(dim=(0, 2))[1:]
    frequency = np.arange(1, len(power) + 1)
    slope, _ = np.polyfit(np.log(frequency), np.log(power.numpy()), 1)
    assert slope == pytest.approx(-exponent, abs=0.05)
    assert (flat[..., 0] * flat[..., 1]).mean().abs() < 0.05  # one number of the action knows nothing of another


def test_coloured_noise_belongs_to_its_row() -> None:
    task, keys = linear_quadratic(LINEAR["integrator, block 2"](), batch=3), make_keys(4, 3)
    together = coloured_noise(task, keys, 5, 1.0)
    assert together.shape == (3, 5, 8, 4)
    alone = coloured_noise(linear_quadratic(LINEAR["integrator, block 2"](), batch=1), keys[2:], 5, 1.0)
    torch.testing.assert_close(alone[0], together[2])


def solved():
    """A problem, its exact optimum as a normalised plan [B, T, A], and its cost [B]."""
    task = linear_quadratic(LINEAR["coasting, history 3"]())
    cost, actions = linear_quadratic_optimum(task)
    return task, normalised_units(task, torch.tensor(actions)), torch.tensor(cost)


def test_a_kept_elite_survives_as_long_as_nothing_beats_it() -> None:
    task, optimum, cost = solved()
    planner = ICEM(screen=0)
    state = planner.init(task, make_keys(0, 2))
    assert state.elites.shape == (2, 2, 8, 2)  # 0.3 of 8, rounded down
    state = replace(state, elites=torch.stack([state.elites[:, 0], optimum], dim=1))
    for _ in range(4):
        state = planner.step(task, state)
        torch.testing.assert_close(state.elites[:, 0], optimum)
        torch.testing.assert_close(state.best.cost, cost)
        later = true_cost(task, state.elites)[0]
        assert bool((later.diff(dim=1) > 0).all())  # cheapest first


def test_without_keeping_the_elites_are_forgotten() -> None:
    task, _, _ = solved()
    planner = ICEM(keep=0.0)
    state = planner.step(task, planner.init(task, make_keys(0, 2)))
    assert state.elites.shape == planner.shift(task, state, 1).elites.shape == (2, 0, 8, 2)


def test_the_mean_is_always_a_sample() -> None:
    task, optimum, cost = solved()
    planner = ICEM()
    state = planner.step(task, planner.init(task, make_keys(0, 2), start=optimum))
    torch.testing.assert_close(state.best.actions, optimum)
    torch.testing.assert_close(state.best.cost, cost)


def test_momentum_keeps_a_part_of_mean_and_deviation() -> None:
    task, _, _ = solved()
    greedy, heavy = ICEM(momentum=0.0), ICEM(momentum=0.75)
    start = greedy.init(task, make_keys(0, 2))
    target, state = greedy.step(task, start), heavy.step(task, start)
    torch.testing.assert_close(state.mean, 0.75 * start.mean + 0.25 * target.mean)
    torch.testing.assert_close(state.deviation, 0.75 * start.deviation + 0.25 * target.deviation)
    assert bool((target.deviation.mean(dim=(1, 2)) < 0.8 * greedy.init_scale).all())


@pytest.mark.parametrize("n", [1, 3])
def test_a_warm_start_shifts_the_best_plan_and_the_elites_and_widens_again(n) -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"]())
    planner = ICEM()
    state = planner.init(task, make_keys(0, 2))
    for _ in range(3):
        state = planner.step(task, state)
    shifted = planner.shift(task, state, n)
    assert torch.equal(shifted.mean, shift_actions(task, state.best.actions.unsqueeze(1), n)[:, 0])
    assert torch.equal(shifted.elites, shift_actions(task, state.elites, n))
    assert bool((shifted.deviation == planner.init_scale).all())
    torch.testing.assert_close(shifted.best.cost, true_cost(task, shifted.best.actions.unsqueeze(1))[0][:, 0])
    assert not torch.equal(shifted.keys, state.keys)

    following = planner.step(task, shifted)
    moved = torch.cat([shifted.mean.unsqueeze(1), shifted.elites], dim=1)
    assert bool((following.best.cost <= true_cost(task, moved)[0].min(dim=1).values).all())


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
