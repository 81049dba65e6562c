"""GRASP as a composition: what its presets are made of, and that the parts work together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from odd_models import Forked, Proposes, SpyModel
from problems import (
    LINEAR,
    LinearModel,
    linear_quadratic,
    linear_quadratic_optimum,
    obstacle,
    pendulum,
    with_model,
)

from grasp_agent.core.types import Budget, Problem
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import (
    GRASP,
    Alternate,
    GaussNewton,
    GradientDescent,
    Lifted,
    RobustChoice,
    begin,
    planner_for,
    rollout,
    solve,
)
from grasp_agent.planning.plans import score


def wide_problem(horizon: int = 3):
    """A latent of 600 numbers."""
    mix = np.random.default_rng(0).standard_normal((600, 2))
    return linear_quadratic(LinearModel([np.eye(600)], [mix], (20, 30), 1), horizon=horizon)


def test_the_papers_preset_is_the_papers_algorithm() -> None:
    paper = GRASP.paper()
    lifted, serial = paper.solver.first, paper.solver.then
    assert paper.solver.steps == (100, 10) and paper.decision_iterations == 110
    assert (paper.restarts, paper.candidates, paper.resample, paper.select, paper.halving) == (1, 0, None, None, ())
    assert lifted.optimizer == "sgd" and lifted.state_scale == 1.0 and lifted.stop_gradient
    assert lifted.goal_weight == 1.0 and not lifted.anneal_goal and lifted.anneal is None
    assert lifted.init_states == "line" and lifted.clip is None and not lifted.balance and lifted.resample == 1
    assert serial == GradientDescent(rate=0.05, optimizer="sgd")


def test_the_papers_algorithm_makes_progress_from_zero_actions_and_a_line() -> None:
    task = linear_quadratic(LINEAR["patches"](), running=0.0, action=0.0)
    search = begin(GRASP.paper(), task)
    assert not search.kept.actions.any()
    plan, _ = solve(GRASP.paper(), task, Budget(220))
    still = task.objective.state_cost(rollout(task, torch.zeros_like(plan.actions))[:, -1], task.goal)
    assert bool((plan.cost < 0.7 * still).all())


def test_the_papers_algorithm_asks_for_no_proposals() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    task = with_model(task, Proposes(task.model))
    begin(GRASP.paper(), task)
    assert task.model.asked == 0


def test_a_papers_cycle_is_a_hundred_calls_and_ten_rollouts() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=6)
    spy = SpyModel(task.model)
    search = begin(GRASP.paper(), task)
    spied = with_model(task, spy)
    calls = []
    for _ in range(111):
        before = spy.calls
        search = GRASP.paper().step(spied, search)
        calls.append(spy.calls - before)
    handed = 6  # a change of solvers rolls the plan out
    assert calls == [1] * 100 + [6 + handed] + [6] * 9 + [1 + handed]


def test_the_default_is_gauss_newton_in_turn_with_the_lifted_iteration() -> None:
    planner = GRASP()
    assert planner.solver == Alternate(GaussNewton(), Lifted(init_states="rollout"), steps=(1, 1))
    assert planner.decision_iterations == 3
    task = linear_quadratic(LINEAR["coasting, history 3"]())
    plan, _ = solve(planner, task)
    optimum = linear_quadratic_optimum(task)[0]
    zero = plan.cost_trace[:, 0].numpy()
    assert np.all(plan.cost.numpy() - optimum < 0.05 * (zero - optimum))


def test_a_latent_too_large_for_jacobians_gets_gradient_descent() -> None:
    task = wide_problem()
    assert GRASP.for_model(task.model) == GRASP.large_latent() == planner_for("grasp", task.model)
    assert GRASP.for_model(LINEAR["integrator"]()) == GRASP()
    large = GRASP.large_latent()
    assert isinstance(large.solver.first, GradientDescent) and large.select is None and large.resample.tails == 8
    plan, _ = solve(large, task)
    assert bool((plan.cost < plan.cost_trace[:, 0]).all())
    assert plan.iterations == 17  # two turns of the serial solver around a lifted iteration


def test_for_large_latents_every_gradient_step_counts() -> None:
    """Plans return to their cheapest version before the lifted iteration: the step just made is among them."""
    task = pendulum(horizon=8)
    large = GRASP.large_latent()
    assert large.resample is not None
    planner = replace(large, resample=replace(large.resample, tails=0))
    serial = planner_for("gd", task.model, restarts=4)
    search = begin(planner, task)
    begun = begin(serial, task)
    torch.testing.assert_close(begun.kept.actions, search.kept.actions)
    for _ in range(8):
        search, begun = planner.step(task, search), serial.step(task, begun)
    torch.testing.assert_close(search.kept.cost, serial.evaluate(task, begun).kept.cost)


def test_the_way_round_the_obstacle_is_found_at_once() -> None:
    task = obstacle()
    plan, _ = solve(GRASP(), task)
    assert bool((task.objective.state_cost(plan.states[:, -1], task.goal) < 0.2).all())


@pytest.mark.parametrize(("noise", "wanted"), [(1e-9, 1), (0.02, 0)])
def test_the_plan_that_noise_does_not_upset_is_returned(noise, wanted) -> None:
    one = torch.ones(2, dtype=torch.float64)
    nothing = torch.zeros(1, 0, 2, dtype=torch.float64)
    start, goal = torch.zeros(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    task = Problem(Forked(), GoalDistance(running=0.0), start, nothing, goal, 2, -one, one)
    calm = torch.tensor([[0.52, 0.0], [0.52, 0.0]]).double()  # arrives at 1.04
    bold = torch.tensor([[0.0, 0.5], [0.0, 0.5]]).double()  # arrives at 1 exactly, if nothing comes between
    planner = GRASP(restarts=2, select=RobustChoice(noise))
    search = begin(planner, task)
    kept = score(task, torch.stack([calm, bold]).unsqueeze(0))
    plan = planner.finish(task, type(search)(search.keys, search.iteration, search.inner, kept, search.nothing))
    torch.testing.assert_close(plan.actions[0], (calm, bold)[wanted])
    torch.testing.assert_close(plan.cost, kept.cost[:, wanted])
    torch.testing.assert_close(plan.restarts[0, 0], torch.tensor(0.04**2).double())
    assert plan.restart.tolist() == [wanted]
