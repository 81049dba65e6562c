"""The model's proposals alone, with no search."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from odd_models import Broken, Proposes
from problems import LINEAR, advanced, linear_quadratic, pendulum, with_model

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget, Status
from grasp_agent.planning import Prior, planner_for, shift, solve
from grasp_agent.planning.rollout import select_problem, true_cost


def proposing(task, **kind):
    return with_model(task, Proposes(task.model, **kind))


@pytest.mark.parametrize("iterations", [1, 5])
def test_the_proposal_is_executed_whatever_it_costs(iterations) -> None:
    task = proposing(linear_quadratic(LINEAR["integrator, block 2"](), action=100.0), around=0.7)
    plan, _ = solve(Prior(), task, Budget(iterations))
    assert task.model.asked == 1
    assert bool(((plan.actions - 0.7).abs() < 0.1).all())
    cost, states = true_cost(task, plan.actions.unsqueeze(1))
    torch.testing.assert_close(plan.cost, cost[:, 0].detach())
    torch.testing.assert_close(plan.states, states[:, 0].detach())
    zero = true_cost(task, torch.zeros_like(plan.actions).unsqueeze(1))[0][:, 0]
    assert bool((plan.cost > zero).all())  # doing nothing would have been cheaper
    assert plan.status.tolist() == [Status.RUNNING] * 2 and not plan.defects.any()


def test_a_decision_is_one_proposal() -> None:
    task = proposing(linear_quadratic(LINEAR["integrator"]()))
    plan, _ = solve(planner_for("prior", task.model), task)
    assert task.model.asked == 1 and plan.iterations == 1


def test_every_decision_draws_anew() -> None:
    task = proposing(linear_quadratic(LINEAR["integrator"]()), spread=0.3)
    plan, search = solve(Prior(), task)
    later = advanced(task, plan.actions)
    again = shift(Prior(), later, search, 1)
    following, _ = solve(Prior(), later, search=again)
    third, _ = solve(Prior(), later, search=shift(Prior(), later, again, 1))
    assert task.model.asked == 3
    states, _, _ = task.model.questions[1]
    torch.testing.assert_close(states, later.states)
    flat = [p.actions.flatten() for p in (plan, following, third)]
    assert not torch.allclose(flat[0], flat[1]) and not torch.allclose(flat[1], flat[2])
    torch.testing.assert_close(following.cost, true_cost(later, following.actions.unsqueeze(1))[0][:, 0].detach())


def test_seeds_and_rows() -> None:
    task = proposing(pendulum(), spread=0.3)
    keys = make_keys(3, 2)
    plan, again, other = (solve(Prior(), task, seed=seed)[0] for seed in (3, keys, 4))
    assert torch.equal(plan.actions, again.actions) and not torch.allclose(plan.actions, other.actions)
    alone, _ = solve(Prior(), select_problem(task, torch.tensor([1])), seed=keys[1:])
    torch.testing.assert_close(alone.actions[0], plan.actions[1])
    assert not torch.allclose(plan.actions[0], plan.actions[1])


def test_a_proposal_that_leads_nowhere_is_not_executed() -> None:
    task = with_model(linear_quadratic(LINEAR["integrator"]()), Broken())
    states = task.states.clone()
    states[0] = 100.0
    plan, _ = solve(Prior(), proposing(replace(task, states=states)))
    assert plan.status.tolist() == [Status.NON_FINITE, Status.RUNNING]
    assert not plan.actions[0].any() and bool(((plan.actions[1] - 0.25).abs() < 0.1).all())
    nan, _ = solve(Prior(), proposing(task, around=math.nan))
    assert nan.status.tolist() == [Status.RUNNING] * 2 and not nan.actions.any()  # zeros have a cost


def test_a_model_without_proposals_is_refused() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    with pytest.raises(ValueError, match=r"Prior: expected a world model that proposes plans.*try GRASP\(\)"):
        solve(Prior(), task)
    silent = proposing(task)
    silent.model.proposes = False
    with pytest.raises(ValueError, match=r"Prior: expected a world model that proposes plans"):
        solve(Prior(), silent)


@pytest.mark.parametrize("change", [{"restarts": 2}, {"candidates": 8}, {"candidates": 0}])
def test_it_does_not_search(change) -> None:
    with pytest.raises(ValueError, match=r"Prior: expected one restart and one candidate.*try MultiStart"):
        Prior(**change)
