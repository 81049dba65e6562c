"""Noise along time, and what a shift does to actions and states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from problems import LINEAR, linear_quadratic
from torch import Tensor

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget
from grasp_agent.planning import CEM, GRASP, PLANNERS, GradientDescent, RandomShooting, solve
from grasp_agent.planning.rollout import normalised_units, true_cost
from grasp_agent.planning.solve import unscored
from grasp_agent.planning.warm_start import (
    initial_actions,
    ramp_to_goal,
    shift_actions,
    shift_restarts,
    shift_states,
    shifted_plan,
    smooth_noise,
    starting_plan,
)


def block_problem(batch: int = 2, horizon: int = 4):
    return linear_quadratic(LINEAR["integrator, block 2"](), batch=batch, horizon=horizon)


def counting(batch: int, restarts: int, horizon: int, size: int) -> Tensor:
    count = torch.arange(1, horizon * size + 1).view(horizon, size).double() / 100
    return count.expand(batch, restarts, horizon, size).contiguous()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 100])
def test_actions_move_by_environment_steps_and_end_in_zeros(n) -> None:
    task = block_problem()  # T = 4 blocks of k = 2 actions with 2 numbers each
    u = counting(2, 3, 4, 4)
    flat = u.view(2, 3, 8, 2)
    shifted = shift_actions(task, u, n).view(2, 3, 8, 2)
    kept = max(8 - n, 0)
    assert torch.equal(shifted[:, :, :kept], flat[:, :, n:])
    assert torch.equal(shifted[:, :, kept:], torch.zeros(2, 3, 8 - kept, 2).double())


def test_states_move_by_fractions_of_a_block_and_end_at_the_goal() -> None:
    task = block_problem()
    states = torch.tensor([1.0, 2.0, 4.0]).double().view(1, 1, 3, 1).expand(2, 1, 3, 2)  # s_1, s_2, s_3
    task = replace(task, goal=torch.full((2, 2), 8.0).double())  # s_4
    assert shift_states(task, states, 0)[0, 0, :, 0].tolist() == [1.0, 2.0, 4.0]
    assert shift_states(task, states, 1)[0, 0, :, 0].tolist() == [1.5, 3.0, 6.0]
    assert shift_states(task, states, 2)[0, 0, :, 0].tolist() == [2.0, 4.0, 8.0]
    assert shift_states(task, states, 3)[0, 0, :, 0].tolist() == [3.0, 6.0, 8.0]
    assert shift_states(task, states, 50)[0, 0, :, 0].tolist() == [8.0, 8.0, 8.0]


def test_a_shift_must_fit() -> None:
    task = block_problem()
    with pytest.raises(ValueError, match="expected the horizon the state was made for, 5, got 4"):
        shift_actions(task, counting(2, 1, 5, 4), 1)
    with pytest.raises(ValueError, match="expected 0 or more environment steps, got -1"):
        shift_actions(task, counting(2, 1, 4, 4), -1)


def test_smooth_noise_has_unit_variance_and_the_stated_correlation_across_blocks() -> None:
    task = block_problem(batch=1, horizon=5)
    for correlation in (0.0, 0.8):
        flat = smooth_noise(task, make_keys(0, 1), 40_000, correlation).view(40_000, 10, 2)
        assert flat.var(dim=0).sub(1).abs().max() < 0.05
        for lag in (1, 3):
            measured = (flat[:, lag:] * flat[:, :-lag]).mean(dim=0)
            assert (measured - correlation**lag).abs().max() < 0.05
        assert (flat[..., 0] * flat[..., 1]).mean().abs() < 0.01


def test_initial_actions_are_zeros_first_then_diverse_and_bounded() -> None:
    task = block_problem()
    u = initial_actions(task, make_keys(0, 2), 6, 2.0, 0.5)
    assert torch.equal(u[:, 0], torch.zeros(2, 4, 4).double())
    assert float(u.abs().max()) == 1.0
    assert all(not torch.equal(u[:, i], u[:, j]) for i in range(6) for j in range(i))


def test_screening_keeps_the_cheapest_of_each_group() -> None:
    task = block_problem()
    many = initial_actions(task, make_keys(0, 2), 1 + 3 * 5, 0.5, 0.5)
    chosen = initial_actions(task, make_keys(0, 2), 4, 0.5, 0.5, screen=5)
    cost = true_cost(task, many)[0][:, 1:].view(2, 3, 5)
    assert torch.equal(true_cost(task, chosen)[0][:, 1:], cost.amin(dim=2))
    assert torch.equal(chosen[:, 0], many[:, 0])


def test_restarts_after_a_shift_keep_the_cheapest_and_refresh_the_last() -> None:
    task = block_problem()
    u = counting(2, 6, 4, 4) * torch.arange(1, 7).view(1, 6, 1, 1) / 6
    best = replace(unscored(task, -u[:, 2]), cost=torch.tensor([1.0, torch.inf]).double())
    warm = shift_restarts(task, best, u, 2, make_keys(0, 2), refresh=3, scale=1e-3, correlation=0.0)
    new, others = warm.actions, warm.came_from
    cost, states = true_cost(task, new)
    torch.testing.assert_close(warm.cost, cost)
    torch.testing.assert_close(warm.states, states)
    nothing = true_cost(task, torch.zeros_like(new[:, :1]))[0]
    torch.testing.assert_close(warm.best.cost, torch.cat([nothing, cost], dim=1).amin(dim=1))
    moved = shift_actions(task, u, 2)
    assert torch.equal(new[0, 0], -moved[0, 2])  # the best plan
    assert torch.equal(new[1, 0], moved[1, 0])  # none was ever scored: what restart 0 had
    ranking = true_cost(task, moved[:, 1:])[0].argsort(dim=1) + 1
    assert torch.equal(others, ranking[:, :2])
    assert torch.equal(new[:, 1:3], torch.take_along_dim(moved, others[:, :, None, None], dim=1))
    for around, i in ((new[:, 0], 3), (new[:, 0], 4), (torch.zeros(2, 4, 4).double(), 5)):
        gap = (new[:, i] - around).abs()
        assert 0 < float(gap.max()) < 1e-2
    assert not torch.equal(new[:, 3], new[:, 4])
    everything = shift_restarts(task, best, u, 2, make_keys(0, 2), refresh=99, scale=1e-3, correlation=0.0)
    assert torch.equal(everything.actions[:, 0], new[:, 0]) and everything.came_from.shape == (2, 0)
    nobody = shift_restarts(task, best, u, 2, make_keys(0, 2), refresh=0, scale=1e-3, correlation=0.0)
    assert torch.equal(nobody.actions[:, 1:], moved[:, 1:]) and nobody.came_from.tolist() == [[1, 2, 3, 4, 5]] * 2


class Proposes:
    """A model that proposes to do `noise` / 10 towards the goal, and counts what it is asked for."""

    proposes = True

    def __init__(self, model: Any) -> None:
        self.model, self.asked = model, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        self.asked += noise.shape[1]
        assert (
            noise.shape[2] % 2 == 0 and noise.shape[2] <= 8 and noise.shape[3] == 2
        )  # whole blocks of k = 2, at most T = 4
        return 0.25 + noise / 100


def test_what_the_model_proposes_is_among_the_beginnings() -> None:
    task = block_problem()
    model = Proposes(task.model)
    task = replace(task, model=model)  # type: ignore[arg-type]
    u = initial_actions(task, make_keys(0, 2), 3, 0.0, 0.5, screen=2)
    first = normalised_units(task, torch.full((4,), 0.25).double())[0]
    assert model.asked == 6
    assert ((u - first).abs() < 0.2).all() and not torch.equal(u[:, 1], u[:, 2])
    model.asked = 0
    given = torch.full_like(u[:, 0], -0.5)
    u = initial_actions(task, make_keys(0, 2), 6, 0.0, 0.5, start=given)  # beside a given plan, half of the restarts
    assert model.asked == 3 and (u[:, 0] == -0.5).all() and (u[:, 4:] == -0.5).all()
    assert ((u[:, 1:4] - first).abs() < 0.2).all()
    silent = initial_actions(task, make_keys(0, 2), 3, 0.5, 0.5, screen=0)
    assert model.asked == 3 and not silent[:, 0].any() and silent[:, 1:].any()
    assert not GRASP.paper().init(task, make_keys(0, 2)).actions.any() and model.asked == 3
    warm = starting_plan(task, make_keys(0, 2), 5, 0.5, 0.5)
    assert model.asked == 3 + 5 and (warm[1] == 0).all()  # here doing nothing is cheaper than any proposal
    model.asked = 0

    u = torch.zeros_like(u)
    best = replace(unscored(task, u[:, 0]), cost=torch.zeros(2).double())
    new = shift_restarts(task, best, u, 1, make_keys(1, 2), refresh=4, scale=0.0, correlation=0.5, screen=3).actions
    assert model.asked == 2 * 3
    assert not new[:, 2:4].any() and ((new[:, 4:] - first).abs() < 0.2).all()
    kept, better = shifted_plan(task, replace(best, actions=warm), warm, 0, make_keys(1, 2), 7)
    torch.testing.assert_close(better.cost, true_cost(task, better.actions.unsqueeze(1))[0][:, 0])
    assert (
        model.asked == 2 * 3 + 7 and (true_cost(task, kept.unsqueeze(1))[0] <= true_cost(task, warm[:, None])[0]).all()
    )
    pair = shift_restarts(task, best, u[:, :2], 1, make_keys(1, 2), refresh=4, scale=0.0, correlation=0.5, screen=3)
    assert pair.actions.shape == (2, 2, 4, 4)  # one fresh restart, near the best plan: no room for a proposal
    for planner in (kind() for kind in PLANNERS.values()):
        model.asked = 0
        plan, _ = solve(planner, task, planner.init(task, make_keys(0, 2)), Budget(iterations=4))
        assert model.asked > 0 and plan.cost.isfinite().all()


def test_ramp_to_goal_spreads_the_gap_evenly() -> None:
    task = replace(block_problem(batch=1), goal=torch.tensor([[4.0, 0.0]]).double())
    still = torch.zeros(1, 2, 5, 2).double()
    assert ramp_to_goal(task, still, 1.0)[0, 1, :, 0].tolist() == [1.0, 2.0, 3.0]
    assert ramp_to_goal(task, still, 0.5)[0, 1, :, 0].tolist() == [0.5, 1.0, 1.5]
    path = torch.arange(5).double().view(1, 1, 5, 1).expand(1, 2, 5, 2)
    assert torch.equal(ramp_to_goal(task, path, 0.0), path[:, :, 1:-1])


@pytest.mark.parametrize("planner", [GRASP(), GRASP(restarts=1), GradientDescent(), CEM(), RandomShooting()])
@pytest.mark.parametrize("n", [1, 2])
def test_the_warm_start_is_a_candidate_and_the_old_cost_is_not(planner, n) -> None:
    task = linear_quadratic(LINEAR["coasting, history 3, block 2"](), horizon=6)
    plan, state = solve(planner, task, planner.init(task, make_keys(0, 2)), Budget(30))
    shifted = planner.shift(task, state, n)
    known = true_cost(task, shifted.best.actions.unsqueeze(1))[0][:, 0]
    assert bool((shifted.best.cost.isinf() | shifted.best.cost.isclose(known)).all())
    k, dim = 2, 2
    flat = plan.actions.view(2, 12, dim)
    warm = torch.cat([flat[:, n:], torch.zeros(2, n, dim).double()], dim=1).view(2, 1, 6, k * dim)
    expected, _ = true_cost(task, warm)  # bounds are [-1, 1]: normalised actions are actions
    first, _ = solve(planner, task, shifted, Budget(1))
    assert bool((first.cost_trace[:, 0] <= expected[:, 0] + 1e-12).all())


def test_a_warm_start_beats_a_cold_one_after_one_iteration() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=12)
    for planner in (GRASP(), GradientDescent(), CEM()):
        plan, state = solve(planner, task, planner.init(task, make_keys(0, 2)), Budget(100))
        frames = torch.cat([task.states[:, 1:], plan.states[:, 1:2]], dim=1)
        past = torch.cat([task.past_actions[:, 1:], plan.actions[:, :1]], dim=1)
        later = replace(task, states=frames, past_actions=past)
        warm, _ = solve(planner, later, planner.shift(later, state, 1), Budget(1))
        cold, _ = solve(planner, later, planner.init(later, make_keys(1, 2)), Budget(1))
        assert bool((warm.cost < cold.cost).all())


def test_two_shifts_without_planning_in_between_keep_the_plan() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=6)
    for planner in (GRASP(), GradientDescent(), CEM(), RandomShooting()):
        plan, state = solve(planner, task, planner.init(task, make_keys(0, 2)), Budget(20))
        twice = planner.shift(task, planner.shift(task, state, 1), 1)
        again, _ = solve(planner, task, twice, Budget(1))
        direct, _ = solve(planner, task, planner.shift(task, state, 2), Budget(1))
        assert bool((again.cost_trace[:, 0] < torch.inf).all())
        warm = torch.cat([plan.actions[:, 2:], torch.zeros(2, 2, 2).double()], dim=1)
        assert bool((again.cost_trace[:, 0] <= true_cost(task, warm.unsqueeze(1))[0][:, 0] + 1e-12).all())
        assert bool((direct.cost_trace[:, 0] <= true_cost(task, warm.unsqueeze(1))[0][:, 0] + 1e-12).all())
