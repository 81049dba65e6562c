"""The mathematics of LatCo: its Lagrangian, where gradients go, and when multipliers grow."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from odd_models import SpyModel
from problems import LINEAR, linear_quadratic, pendulum, random_plans, with_model
from torch import Tensor

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget, Problem
from grasp_agent.planning import LatCo, MultiStart, rollout, solve
from grasp_agent.planning.plans import scored_start
from grasp_agent.planning.rollout import environment_units, true_cost, zero_plan

KEYS = make_keys(0, 2)


def begun(task: Problem, solver: LatCo | None = None, size: float = 0.8):
    return (solver or LatCo()).init(task, scored_start(task, random_plans(task, size=size)), KEYS)


def random_like(x: Tensor) -> Tensor:
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)


def lagrangian_by_hand(problem: Problem, u: Tensor, s: Tensor, weight: Tensor) -> Tensor:
    """L as loops over rows and time, with one weight [T] for defects and, tripled, for bounds."""
    h, total = problem.model.history, torch.zeros((), dtype=u.dtype)
    actions = environment_units(problem, u)
    still = problem.states[:, -1:].expand_as(s)
    unit = problem.objective.trajectory_cost(still, environment_units(problem, zero_plan(problem)), problem.goal)
    for b in range(problem.batch):
        scale = (problem.goal[b] - problem.states[b, -1]).square().mean()
        cost = problem.objective.trajectory_cost(s[b][None], actions[b][None], problem.goal[b][None])
        total = total + cost[0] / unit[b]
        frames, blocks = [*problem.states[b], *s[b]], [*problem.past_actions[b], *actions[b]]
        for t in range(problem.horizon):
            window = torch.stack(frames[t : t + h])[None], torch.stack(blocks[t : t + h])[None]
            defect = (problem.model.predict(*window)[0] - s[b, t]).square().mean() / scale
            beyond = (u[b, t].square() - 1).clamp(min=0).sum()
            total = total + weight[t] * defect + 3 * weight[t] * beyond
    return total


@pytest.mark.parametrize("name", ["integrator, block 2", "coasting, history 3", "patches"])
def test_a_step_is_adams_first_step_down_the_lagrangian(name) -> None:
    task = linear_quadratic(LINEAR[name](), horizon=4)
    solver = LatCo(action_rate=0.02, state_rate=0.03)
    weight = torch.tensor([0.5, 2.0, 1.0, 4.0]).double()
    state = begun(task, solver)
    state = replace(
        state,
        actions=1.7 * state.actions + 0.01,  # some beyond the bounds
        states=0.9 * state.states + 0.1 * random_like(state.states),
        defect_weights=weight.expand(2, 4),
        bound_weights=3 * weight.expand(2, 4),
    )
    assert bool((state.actions.abs() > 1).any()) and bool((state.actions.abs() < 1).any())
    u, s = state.actions.clone().requires_grad_(True), state.states.clone().requires_grad_(True)
    to_u, to_s = torch.autograd.grad(lagrangian_by_hand(task, u, s, weight), (u, s))
    clear = to_u.abs() > 1e-3, to_s.abs() > 1e-3  # signs far from rounding
    assert all(float(some.double().mean()) > 0.8 for some in clear)
    after, _ = solver.step(task, state)
    scale = (task.goal - task.states[:, -1]).flatten(1).square().mean(1).sqrt()
    scale = scale.view(-1, *[1] * (s.ndim - 1))
    u, s = u.detach() - 0.02 * to_u.sign(), s.detach() - 0.03 * scale * to_s.sign()
    torch.testing.assert_close(after.actions[clear[0]], u[clear[0]], rtol=0, atol=2e-5)
    torch.testing.assert_close(after.states[clear[1]], s[clear[1]], rtol=0, atol=2e-5)


@pytest.mark.parametrize("make", [pendulum, lambda: linear_quadratic(LINEAR["coasting, history 3"]())])
def test_an_iteration_is_one_model_call_that_states_and_actions_differentiate(make) -> None:
    task = make()
    spy = SpyModel(task.model)
    solver = LatCo(init_states="line", score_every=100)
    state = begun(task, solver)
    for _ in range(3):
        state, plans = solver.step(with_model(task, spy), state)
        assert plans is None
    assert spy.batches == [2 * task.horizon] * 3
    assert len(spy.into_states) == len(spy.into_actions) == 3
    assert all(bool(g.any()) for g in (*spy.into_states, *spy.into_actions))


def test_multipliers_grow_where_constraints_are_violated_and_shrink_where_they_hold() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=6)
    solver = LatCo(dual_rate=0.2, tolerance=1e-3, init_defect_weight=5.0, init_bound_weight=2.0)
    state = begun(task, solver)
    actions = state.actions.clone()
    actions[0, 2, 0] = 101**0.5  # v = 100: five decades above the tolerance
    states = rollout(task, actions)[:, 1:]
    jump = task.goal - task.states[:, -1]  # one unit of the states
    states[1, 3:] += jump[1]  # only the step from s_3 to s_4 is torn, and by a defect of 1: three decades
    after, _ = solver.step(task, replace(state, actions=actions, states=states.detach()))

    wanted = torch.full((2, 6), 5.0 * (1 - 0.2)).double()
    wanted[1, 3] = 5.0 * (1 + 0.2 * 3)
    torch.testing.assert_close(after.defect_weights, wanted, rtol=1e-4, atol=0)
    wanted = torch.full((2, 6), 2.0 * (1 - 0.2)).double()
    wanted[0, 2] = 2.0 * (1 + 0.2 * 5)
    torch.testing.assert_close(after.bound_weights, wanted, rtol=1e-4, atol=0)


def test_multipliers_find_their_way_back_from_either_end() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=3)
    solver = LatCo(dual_rate=0.9)
    start = state = begun(task, solver)
    torn = start.states + 1e6 * torch.arange(3).double().view(1, 3, 1)
    for _ in range(100):
        state, _ = solver.step(task, replace(state, actions=start.actions, states=start.states))
    assert bool((state.defect_weights < 1e-5).all())  # the starting states are a rollout
    for _ in range(20):
        state, _ = solver.step(task, replace(state, states=torn))
    assert bool((state.defect_weights[:, 1:] > 1e5).all()) and bool(state.defect_weights.isfinite().all())
    for _ in range(20):
        state, _ = solver.step(task, replace(state, actions=start.actions, states=start.states))
    assert bool((state.defect_weights < 1e-5).all())


def test_dual_descent_ends_in_a_trajectory_of_the_model_within_the_bounds() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"]())
    planner = MultiStart(LatCo(), restarts=4)
    before, _ = solve(planner, task, Budget(20))
    after, search = solve(planner, task, Budget(300))
    assert bool((after.defects.amax(dim=1) < 0.3 * before.defects.amax(dim=1)).all())
    assert float(after.defects.max()) < 1e-3 and float(search.inner.actions.abs().max()) < 1.2


def test_plans_are_scored_now_and_then_clipped_to_the_bounds() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    solver = LatCo(score_every=3)
    state = begun(task, solver)
    state = replace(state, actions=3 * state.actions)
    scored = []
    for _ in range(7):
        state, plans = solver.step(task, state)
        scored.append(plans is not None)
        if plans is not None:
            clipped = state.actions.clamp(-1, 1)
            assert torch.equal(plans.actions[:, 0], clipped) and not torch.equal(clipped, state.actions)
            torch.testing.assert_close(plans.cost, true_cost(task, clipped.unsqueeze(1))[0].detach())
    assert scored == [False, False, True, False, False, True, False]


@pytest.mark.parametrize("init_states", ["line", "rollout"])
def test_virtual_states_begin_on_the_line_or_on_the_rollout(init_states) -> None:
    task = linear_quadratic(LINEAR["patches"](), horizon=4)
    start = scored_start(task, random_plans(task))
    state = LatCo(init_states=init_states).init(task, start, KEYS)
    assert torch.equal(state.actions, start.actions)
    if init_states == "rollout":
        expected = rollout(task, environment_units(task, state.actions))[:, 1:]
    else:
        t = torch.arange(1, 5).double().view(1, 4, 1, 1) / 4
        now, goal = task.states[:, -1, None], task.goal[:, None]
        expected = now + t * (goal - now)
    torch.testing.assert_close(state.states, expected)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 50])
def test_a_warm_start_moves_the_virtual_states_on_to_the_goal(n) -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"](), horizon=4)  # T = 4 blocks of 2 environment steps
    solver = LatCo()
    state = begun(task, solver)
    for _ in range(10):
        state, _ = solver.step(task, state)
    other = scored_start(task, random_plans(task, seed=1))
    shifted = solver.shift(task, state, other, KEYS, n)
    assert torch.equal(shifted.actions, other.actions)
    path = torch.cat([state.states, task.goal[:, None].expand(-1, 6, -1)], dim=1)  # s_1..s_T, g, g, ...
    at = min(n, 8) / 2 + torch.arange(4)
    low = at.floor().long()
    weight = (at - low).double().view(4, 1)
    torch.testing.assert_close(shifted.states, (1 - weight) * path[:, low] + weight * path[:, low + 1])
    assert bool((shifted.defect_weights == solver.init_defect_weight).all())
    assert shifted.iteration.tolist() == [0, 0] and shifted.state_moments.count.tolist() == [0, 0]


def test_what_it_has_found() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=4)
    state = begun(task)
    state = replace(state, actions=3 * state.actions)
    found = LatCo().trajectory(task, state)
    assert torch.equal(found.actions, state.actions.clamp(-1, 1))
    assert torch.equal(found.states[:, 0], task.states[:, -1]) and torch.equal(found.states[:, 1:], state.states)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: LatCo(score_every=0), "LatCo.score_every: expected a whole number of at least 1, got 0"),
        (lambda: LatCo(dual_rate=1.0), "LatCo.dual_rate: expected a number from 0 up to, but not including, 1"),
        (lambda: LatCo(tolerance=0.0), "LatCo.tolerance: expected a finite number above 0"),
        (lambda: LatCo(init_states="zero"), "LatCo.init_states: expected one of 'line', 'rollout', got 'zero'"),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
