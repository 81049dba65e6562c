"""The mathematics of LatCo: its Lagrangian, where gradients go, and when multipliers grow."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from problems import LINEAR, SpyModel, linear_quadratic, pendulum, with_model
from torch import Tensor

from grasp_agent.core.rng import make_keys
from grasp_agent.core.rows import replace_rows
from grasp_agent.core.types import Budget, Problem
from grasp_agent.planning import LatCo, rollout, select_rows, solve
from grasp_agent.planning.rollout import environment_units, one_step, stand_still, zero_plan
from grasp_agent.planning.warm_start import shift_actions


def lagrangian_by_hand(problem: Problem, planner: LatCo, u: Tensor, s: Tensor, weight: Tensor) -> Tensor:
    """L as loops over restarts and time, with one weight [T] for defects and, tripled, for bounds."""
    h, total = problem.model.history, torch.zeros((), dtype=u.dtype)
    actions = environment_units(problem, u)
    still = stand_still(problem)[:, 1:]
    unit = problem.objective.trajectory_cost(still, environment_units(problem, zero_plan(problem)), problem.goal)
    for b in range(problem.batch):
        scale = (problem.goal[b] - problem.states[b, -1]).square().mean()
        for r in range(u.shape[1]):
            cost = problem.objective.trajectory_cost(s[b, r][None], actions[b, r][None], problem.goal[b][None])
            total = total + cost[0] / unit[b]
            frames, blocks = [*problem.states[b], *s[b, r]], [*problem.past_actions[b], *actions[b, r]]
            for t in range(problem.horizon):
                window = torch.stack(frames[t : t + h])[None], torch.stack(blocks[t : t + h])[None]
                defect = (problem.model.predict(*window)[0] - s[b, r, t]).square().mean() / scale
                beyond = (u[b, r, t].square() - 1).clamp(min=0).sum()
                total = total + weight[t] * defect + 3 * weight[t] * beyond
    return total


@pytest.mark.parametrize("name", ["integrator, block 2", "coasting, history 3", "patches"])
def test_a_step_is_adams_first_step_down_the_lagrangian(name) -> None:
    task = linear_quadratic(LINEAR[name](), horizon=4)
    planner = LatCo(restarts=3, action_rate=0.02, state_rate=0.03)
    state = planner.init(task, make_keys(0, 2))
    weight = torch.tensor([0.5, 2.0, 1.0, 4.0]).double()
    state = replace(
        state,
        actions=1.7 * state.actions + 0.01,  # some beyond the bounds
        states=0.9 * state.states,
        defect_weights=weight.expand(2, 3, 4),
        bound_weights=3 * weight.expand(2, 3, 4),
    )
    assert bool((state.actions.abs() > 1).any()) and bool((state.actions.abs() < 1).any())
    u, s = state.actions.clone().requires_grad_(True), state.states.clone().requires_grad_(True)
    to_u, to_s = torch.autograd.grad(lagrangian_by_hand(task, planner, u, s, weight), (u, s))
    clear = to_u.abs() > 1e-4, to_s.abs() > 1e-4  # signs far from rounding
    assert all(float(some.double().mean()) > 0.9 for some in clear)
    after = planner.step(task, state)
    scale = (task.goal - task.states[:, -1]).flatten(1).square().mean(1).sqrt()
    scale = scale.view(-1, *[1] * (s.ndim - 1))
    u, s = u.detach() - 0.02 * to_u.sign(), s.detach() - 0.03 * scale * to_s.sign()
    torch.testing.assert_close(after.actions[clear[0]], u[clear[0]], rtol=0, atol=2e-5)
    torch.testing.assert_close(after.states[clear[1]], s[clear[1]], rtol=0, atol=2e-5)


@pytest.mark.parametrize("make", [pendulum, lambda: linear_quadratic(LINEAR["coasting, history 3"]())])
def test_an_iteration_is_one_model_call_that_states_and_actions_differentiate(make) -> None:
    task = make()
    spy = SpyModel(task.model)
    planner = LatCo(restarts=5, screen=1, init_states="line", score_every=100)
    task = with_model(task, spy)
    state = planner.init(task, make_keys(0, 2))
    assert spy.calls == 0
    for i in range(3):
        state = planner.step(task, state)
        assert spy.calls == i + 1
    assert spy.batches == [2 * 5 * task.horizon] * 3
    assert spy.state_inputs_with_grad == spy.action_inputs_with_grad == [True] * 3


def test_along_a_rollout_one_step_predicts_the_rollout() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3, block 2"](), horizon=5)
    u = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    states = rollout(task, environment_units(task, u))
    torch.testing.assert_close(one_step(task, u, states[:, :, 1:-1]), states[:, :, 1:])


def test_multipliers_grow_where_constraints_are_violated_and_shrink_where_they_hold() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=6)
    planner = LatCo(restarts=2, dual_rate=0.2, tolerance=1e-3, init_defect_weight=5.0, init_bound_weight=2.0)
    state = planner.init(task, make_keys(0, 2))
    actions = 0.9 * state.actions
    actions[:, 0, 2, 0] = 101**0.5  # v = 100: five decades above the tolerance
    states = rollout(task, actions)[:, :, 1:]
    jump = task.goal - task.states[:, -1]  # one unit of the states
    states[:, 1, 3:] += jump.unsqueeze(1)  # only the step from s_3 to s_4 is torn, and by a defect of 1: three decades
    after = planner.step(task, replace(state, actions=actions, states=states))

    wanted = torch.full((2, 2, 6), 5.0 * (1 - 0.2)).double()
    wanted[:, 1, 3] = 5.0 * (1 + 0.2 * 3)
    torch.testing.assert_close(after.defect_weights, wanted, rtol=1e-4, atol=0)
    wanted = torch.full((2, 2, 6), 2.0 * (1 - 0.2)).double()
    wanted[:, 0, 2] = 2.0 * (1 + 0.2 * 5)
    torch.testing.assert_close(after.bound_weights, wanted, rtol=1e-4, atol=0)


def test_multipliers_find_their_way_back_from_either_end() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=3)
    planner = LatCo(restarts=1, dual_rate=0.9)
    start = state = planner.init(task, make_keys(0, 2))
    torn = start.states + 1e6 * torch.arange(3).double().view(1, 1, 3, 1)
    for _ in range(100):
        state = planner.step(task, replace(state, actions=start.actions, states=start.states))
    assert bool((state.defect_weights < 1e-5).all())  # the starting states are a rollout
    for _ in range(20):
        state = planner.step(task, replace(state, states=torn))
    assert bool((state.defect_weights[..., 1:] > 1e5).all()) and bool(state.defect_weights.isfinite().all())
    for _ in range(20):
        state = planner.step(task, replace(state, actions=start.actions, states=start.states))
    assert bool((state.defect_weights < 1e-5).all())


def test_dual_descent_ends_in_a_trajectory_of_the_model_within_the_bounds() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"]())
    planner = LatCo()
    start = planner.init(task, make_keys(0, 2))
    before, _ = solve(planner, task, start, Budget(20))
    after, state = solve(planner, task, start, Budget(400))
    assert bool((after.defects.amax(dim=1) < 0.3 * before.defects.amax(dim=1)).all())
    assert float(after.defects.max()) < 1e-3 and float(state.actions.abs().max()) < 1.2
    assert after.restarts.shape == (2, 8)
    assert bool((after.restarts.min(dim=1).values >= after.cost).all())


def test_plans_are_scored_on_the_way_row_by_row() -> None:
    task, keys = linear_quadratic(LINEAR["integrator"](), action=0.01), make_keys(0, 2)
    planner = LatCo(score_every=3)
    state = planner.init(task, keys)
    row = torch.tensor([1])
    later = planner.step(task, state)
    mixed = replace_rows(state, row, select_rows(later, row))  # row 1 is one iteration ahead
    scored = []
    for _ in range(3):
        mixed = planner.step(task, mixed)
        scored.append(mixed.best.cost.isfinite().tolist())
    assert scored == [[False, False], [False, True], [True, True]]


@pytest.mark.parametrize("init_states", ["line", "rollout"])
def test_virtual_states_begin_on_the_line_or_on_the_rollout(init_states) -> None:
    task = linear_quadratic(LINEAR["patches"](), horizon=4)
    start = torch.full((2, 4, 2), 0.3).double()
    state = LatCo(init_states=init_states).init(task, make_keys(0, 2), start=start)
    assert torch.equal(state.actions[:, 0], start)
    if init_states == "rollout":
        expected = rollout(task, environment_units(task, state.actions))[:, :, 1:]
    else:
        t = torch.arange(1, 5).double().view(1, 1, 4, 1, 1) / 4
        now, goal = task.states[:, -1, None, None], task.goal[:, None, None]
        expected = (now + t * (goal - now)).expand(-1, 8, -1, -1, -1)
    torch.testing.assert_close(state.states, expected)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 50])
def test_a_warm_start_moves_actions_and_virtual_states_on_to_the_goal(n) -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"](), horizon=4)  # T = 4 blocks of 2 environment steps
    planner = LatCo(restarts=3, refresh=0)
    _, state = solve(planner, task, planner.init(task, make_keys(0, 2)), Budget(10))
    state = replace(state, actions=4 * state.actions)
    assert bool((state.actions.abs() > 1).any())
    shifted = planner.shift(task, state, n)
    assert torch.equal(shifted.actions[:, :1], shift_actions(task, state.best.actions.unsqueeze(1), n))
    assert torch.equal(shifted.actions[:, 1:], shift_actions(task, state.actions[:, 1:].clamp(-1, 1), n))
    path = torch.cat([state.states, task.goal[:, None, None].expand(-1, 3, 6, -1)], dim=2)  # s_1..s_T, g, g, ...
    path[:, 0] = path[[0, 1], state.best.candidate]
    at = min(n, 8) / 2 + torch.arange(4)
    low = at.floor().long()
    weight = (at - low).double().view(4, 1)
    torch.testing.assert_close(shifted.states, (1 - weight) * path[:, :, low] + weight * path[:, :, low + 1])
    assert bool((shifted.defect_weights == planner.init_defect_weight).all())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: LatCo(restarts=0), "LatCo.restarts: expected a whole number of at least 1, got 0"),
        (lambda: LatCo(dual_rate=1.0), "LatCo.dual_rate: expected a number from 0 up to, but not including, 1"),
        (lambda: LatCo(tolerance=0.0), "LatCo.tolerance: expected a finite number above 0"),
        (lambda: LatCo(init_states="zero"), "LatCo.init_states: expected one of 'line', 'rollout', got 'zero'"),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
