"""The one solve loop: anytime, in time, row by row, and honest about what it could not do."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
from problems import LINEAR, linear_quadratic, linear_quadratic_optimum, obstacle, pendulum, with_model
from torch import nn

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget, Problem, Status
from grasp_agent.planning import (
    CEM,
    GRASP,
    PLANNERS,
    GradientDescent,
    RandomShooting,
    replace_rows,
    rollout,
    select_problem,
    select_rows,
    solve,
    where_rows,
)
from grasp_agent.planning.rollout import zero_plan

ALL = [
    GRASP(sync_every=3, sync_steps=2),
    GRASP(sync=CEM(), sync_every=3, sync_steps=2, reseed=None, branches=0),
    *(P() for P in PLANNERS.values()),
]


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    assert is_dataclass(tree)
    return [leaf for f in fields(tree) for leaf in leaves(getattr(tree, f.name))]


class Slow(nn.Module):
    """The integrator, but every call takes a while."""

    state_shape, history, action_dim, action_block = (2,), 1, 2, 1

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def encode(self, obs):
        return obs

    def predict(self, states, actions):
        time.sleep(self.seconds)
        return states[:, -1] + 0.2 * actions[:, -1]


@dataclass
class Broken:
    """The integrator, but rows whose latent is marked come out as NaN."""

    state_shape: ClassVar = (2,)
    history: ClassVar = 1
    action_dim: ClassVar = 2
    action_block: ClassVar = 1

    def encode(self, obs):
        return obs

    def predict(self, states, actions):
        broken = states[:, -1, :1] > 50
        return torch.where(broken, math.nan, states[:, -1] + 0.2 * actions[:, -1])


# ----- anytime -----


@pytest.mark.parametrize("planner", ALL)
def test_the_zero_plan_is_a_candidate(planner) -> None:
    task = linear_quadratic(LINEAR["integrator"](), action=100.0)  # doing anything at all costs more than it brings
    plan, _ = solve(planner, task, planner.init(task, make_keys(0, 2)), Budget(1))
    still = rollout(task, torch.zeros_like(plan.actions))
    zero = task.objective.trajectory_cost(still[:, 1:], torch.zeros_like(plan.actions), task.goal)
    assert bool((plan.cost <= zero).all())


@pytest.mark.parametrize("planner", [GradientDescent(), CEM(), RandomShooting()])  # they score every iterate
def test_more_iterations_never_cost_more(planner) -> None:
    task = pendulum()
    costs = [solve(planner, task, planner.init(task, make_keys(1, 2)), Budget(n))[0].cost for n in (1, 2, 5, 11, 20)]
    assert all(bool((b <= a).all()) for a, b in pairwise(costs))


@pytest.mark.parametrize("planner", ALL)
def test_solving_goes_on_where_it_stopped(planner) -> None:
    task = pendulum()
    whole, _ = solve(planner, task, planner.init(task, make_keys(2, 2)), Budget(14))
    _, state = solve(planner, task, planner.init(task, make_keys(2, 2)), Budget(6))
    rest, _ = solve(planner, task, state, Budget(8))
    assert bool((rest.cost <= whole.cost + 1e-12).all())  # scoring in between can only add candidates


# ----- the clock -----


@pytest.mark.parametrize("planner", [GradientDescent(restarts=1), CEM(samples=8, elites=2), RandomShooting(samples=4)])
def test_a_wall_clock_budget_is_not_overshot(planner) -> None:
    task = with_model(linear_quadratic(LINEAR["integrator"](), horizon=5), Slow(0.004))  # 20 ms a rollout
    plan, _ = solve(planner, task, planner.init(task, make_keys(0, 2)), Budget(10_000, seconds=0.3))
    # counted in rollouts: each takes at least 20 ms, so no more than 15 fit, two of them to score
    assert 1 <= plan.iterations <= 13


def test_the_starting_plans_are_scored_however_short_the_budget() -> None:
    task = with_model(linear_quadratic(LINEAR["integrator"](), horizon=5), Slow(0.002))
    plan, state = solve(GRASP(), task, GRASP().init(task, make_keys(0, 2)), Budget(100, seconds=1e-6))
    assert plan.iterations == 0
    assert bool(plan.cost.isfinite().all()) and torch.equal(plan.cost, state.best.cost)


# ----- early stop -----


def test_converged_rows_stop_and_do_not_wait_for_their_neighbours() -> None:
    planner, keys = GradientDescent(restarts=2, rate=0.3, optimizer="sgd"), make_keys(0, 2)
    task = linear_quadratic(LINEAR["integrator"](), action=0.2)
    goal = task.goal.clone()
    goal[0] = task.states[0, -1]  # row 0 is at its goal already
    task = replace(task, goal=goal)
    budget = Budget(500, patience=5, tolerance=1e-4)
    plan, state = solve(planner, task, planner.init(task, keys), budget)
    assert plan.status.tolist() == [Status.CONVERGED, Status.CONVERGED]
    assert plan.iterations < 500
    np.testing.assert_allclose(plan.cost.numpy(), linear_quadratic_optimum(task)[0], rtol=0.01, atol=1e-6)
    assert torch.equal(plan.cost_trace[:, -1], plan.cost) and bool((plan.cost_trace.diff(dim=1) <= 0).all())
    for i in range(2):
        row = torch.tensor([i])
        solo = select_problem(task, row)
        alone, _ = solve(planner, solo, planner.init(solo, keys[row]), budget)
        torch.testing.assert_close(alone.actions[0], plan.actions[i], rtol=0, atol=1e-6)
    assert alone.iterations == plan.iterations  # the second row took longest
    assert torch.equal(state.best.cost, plan.cost)


def test_without_patience_every_iteration_is_spent() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    plan, _ = solve(CEM(), task, CEM().init(task, make_keys(0, 2)), Budget(40))
    assert plan.iterations == 40 and plan.status.tolist() == [Status.RUNNING] * 2


# ----- failures -----


@pytest.mark.parametrize("planner", ALL)
def test_a_model_that_breaks_is_a_status_and_spares_the_neighbours(planner) -> None:
    task = with_model(linear_quadratic(LINEAR["integrator"]()), Broken())
    healthy, keys = select_problem(task, torch.tensor([1])), make_keys(0, 2)
    states = task.states.clone()
    states[0] = 100.0
    broken = replace(task, states=states, low=task.low + 1.5, high=task.high + 1.5)
    plan, state = solve(planner, broken, planner.init(broken, keys), Budget(10))
    assert plan.status.tolist() == [Status.NON_FINITE, Status.RUNNING]
    assert math.isinf(plan.cost[0]) and torch.equal(plan.actions[0], broken.low.expand(8, 2))  # zero, clipped

    both, _ = solve(planner, replace(task, states=states), planner.init(replace(task, states=states), keys), Budget(10))
    alone, _ = solve(planner, healthy, planner.init(healthy, keys[1:]), Budget(10))
    torch.testing.assert_close(both.actions[1], alone.actions[0], rtol=0, atol=1e-6)

    recovered, _ = solve(planner, task, planner.shift(task, state, 1), Budget(10))
    assert recovered.status.tolist() == [Status.RUNNING] * 2


@pytest.mark.parametrize("bound", [math.inf, math.nan])
def test_bounds_must_be_finite(bound) -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    bad = replace(task, high=torch.tensor([1.0, bound]).double())
    with pytest.raises(ValueError, match=r"expected finite action bounds with low <= high.*try an action space"):
        solve(CEM(), bad, CEM().init(task, make_keys(0, 2)), Budget(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"goal": torch.zeros(2, 3).double()}, r"Problem.goal: expected shape \[2, 2\], got \[2, 3\]"),
        (
            {"states": torch.zeros(2, 2, 2).double()},
            r"Problem.states: expected shape \[2, 1, 2\], got \[2, 2, 2\]",
        ),
        (
            {"past_actions": torch.zeros(2, 1, 2).double()},
            r"Problem.past_actions: expected shape \[2, 0, 2\]",
        ),
        ({"low": torch.zeros(3).double()}, r"Problem.low: expected shape \[2\], got \[3\]"),
        ({"horizon": 0}, "Problem.horizon: expected at least 1"),
        ({"horizon": 9}, r"state: expected one for plans \[B, T, A\] = \[2, 9, 2\], got \[2, 8, 2\]"),
    ],
)
def test_what_does_not_fit_is_refused(change, message) -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    state = CEM().init(task, make_keys(0, 2))
    with pytest.raises(ValueError, match=message):
        solve(CEM(), replace(task, **change), state, Budget(1))


def test_a_model_without_action_gradients_is_named() -> None:
    class Detached(Slow):
        def predict(self, states, actions):
            return super().predict(states, actions).detach()

    task = with_model(linear_quadratic(LINEAR["integrator"]()), Detached(0.0))
    for planner in (GradientDescent(), GRASP()):
        with pytest.raises(ValueError, match="expected predictions that depend differentiably on the actions"):
            solve(planner, task, planner.init(task, make_keys(0, 2)), Budget(1))
    plan, _ = solve(CEM(), task, CEM().init(task, make_keys(0, 2)), Budget(20))
    assert np.all(plan.cost.numpy() < linear_quadratic_optimum(linear_quadratic(LINEAR["integrator"]()))[0] * 1.3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: Budget(0), "iterations: expected at least 1"),
        (lambda: Budget(1, seconds=0.0), "seconds: expected a positive number"),
        (lambda: Budget(1, patience=0), "patience: expected at least 1"),
        (lambda: Budget(1, tolerance=-1.0), "tolerance: expected 0 or more"),
        (lambda: GRASP(restarts=0), "GRASP.restarts: expected a whole number of at least 1, got 0"),
        (lambda: GRASP(restarts=1.5), "GRASP.restarts: expected a whole number"),
        (lambda: GRASP(noise=-0.1), "GRASP.noise: expected a finite number of at least 0"),
        (lambda: GRASP(state_rate=0.0), "GRASP.state_rate: expected a finite number above 0"),
        (lambda: GRASP(optimizer="lbfgs"), "GRASP.optimizer: expected one of 'adam', 'sgd', got 'lbfgs'"),
        (lambda: GRASP(sync=GradientDescent()), "GRASP.sync: expected a planner of one restart, got 8"),
        (lambda: GRASP(init_states="zero"), "GRASP.init_states: expected one of 'line', 'rollout'"),
        (lambda: GRASP(sync_every=0), "GRASP.sync_every: expected a whole number of at least 1"),
        (lambda: GRASP(reseed=None), "GRASP.branches: expected 0 with reseed=None"),
        (lambda: GRASP(reseed=2.0), "GRASP.reseed: expected a fraction from 0 to 1"),
        (lambda: GradientDescent(correlation=1.0), "GradientDescent.correlation: expected a number from 0"),
        (lambda: GradientDescent(clip=math.nan), "GradientDescent.clip: expected a finite number above 0"),
        (lambda: CEM(elites=65), "CEM.elites: expected at most samples = 64, got 65"),
        (lambda: CEM(floor=math.inf), "CEM.floor: expected a finite number of at least 0"),
        (
            lambda: RandomShooting(scale="big"),
            "RandomShooting.scale: expected a finite number above 0, got 'big'",
        ),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()


# ----- rows -----


@pytest.mark.parametrize("planner", ALL)
def test_every_leaf_of_a_state_is_a_row_table(planner) -> None:
    task = linear_quadratic(LINEAR["coasting, history 3, block 2"](), batch=3)
    start = planner.init(task, make_keys(0, 3))
    _, later = solve(planner, task, start, Budget(5))
    for state in (start, later, planner.shift(task, later, 1)):
        assert all(len(leaf) == 3 for leaf in leaves(state))


@pytest.mark.parametrize("planner", ALL)
def test_rows_can_be_selected_and_replaced(planner) -> None:
    task, keys = linear_quadratic(LINEAR["integrator"](), batch=3), make_keys(0, 3)
    _, state = solve(planner, task, planner.init(task, keys), Budget(5))
    rows = torch.tensor([1])
    fresh = planner.init(select_problem(task, rows), make_keys(9, 1))
    mixed = replace_rows(state, rows, fresh)
    for old, new, reset in zip(leaves(state), leaves(mixed), leaves(fresh), strict=True):
        assert torch.equal(new[[0, 2]], old[[0, 2]]) and torch.equal(new[1], reset[0])
    mask = torch.tensor([False, True, False])
    for a, b in zip(leaves(mixed), leaves(replace_rows(state, mask, fresh)), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(leaves(where_rows(mask, mixed, state)), leaves(mixed), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(leaves(select_rows(mixed, rows)), leaves(fresh), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("planner", ALL)
def test_rows_at_different_iterations_go_their_own_ways(planner) -> None:
    task, keys = linear_quadratic(LINEAR["integrator"](), batch=2), make_keys(0, 2)
    row = torch.tensor([1])
    solo = select_problem(task, row)
    _, state = solve(planner, task, planner.init(task, keys), Budget(2))
    mixed = replace_rows(state, row, planner.init(solo, make_keys(7, 1)))
    together, _ = solve(planner, task, mixed, Budget(6))
    alone, _ = solve(planner, solo, planner.init(solo, make_keys(7, 1)), Budget(6))
    torch.testing.assert_close(together.actions[1], alone.actions[0], rtol=0, atol=1e-6)
    other = select_problem(task, torch.tensor([0]))
    first, _ = solve(planner, other, select_rows(state, torch.tensor([0])), Budget(6))
    torch.testing.assert_close(together.actions[0], first.actions[0], rtol=0, atol=1e-6)


# ----- rollouts -----


def test_rollout_reads_the_whole_history() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), batch=2, horizon=3)
    actions = torch.randn(2, 4, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    states = rollout(task, actions)
    assert states.shape == (2, 4, 4, 2)
    for b in range(2):
        for r in range(4):
            frames, past = list(task.states[b]), [*task.past_actions[b], *actions[b, r]]
            for t in range(3):
                window = torch.stack(frames[-3:])[None], torch.stack(past[t : t + 3])[None]
                frames.append(task.model.predict(*window)[0])
            torch.testing.assert_close(states[b, r], torch.stack(frames[2:]))
    torch.testing.assert_close(rollout(task, actions[:, 0]), states[:, 0])


def test_the_zero_plan_is_clipped_to_the_bounds() -> None:
    task = replace(obstacle(), low=torch.tensor([0.25, -1.0]).double(), high=torch.tensor([2.0, 3.0]).double())
    assert isinstance(task, Problem)
    u = zero_plan(task)
    assert u.shape == (2, task.horizon, 2)
    assert u[0, 0].tolist() == [
        -1.0,
        -0.5,
    ]  # 0.25 is as near to zero as allowed; zero is a quarter into [-1, 3]
