"""Where planning begins: zero actions, random plans, the model's proposals, the best of several each."""

from __future__ import annotations

import pytest
import torch
from odd_models import Proposes, SpyModel
from problems import LINEAR, linear_quadratic, with_model

from grasp_agent.core.rng import make_keys
from grasp_agent.planning.initial_guesses import initial_guesses, proposed_actions
from grasp_agent.planning.rollout import select_problem, true_cost

KEYS = make_keys(0, 2)


def block_problem():
    return linear_quadratic(LINEAR["integrator, block 2"](), horizon=4)


def assert_rolled_out(task, plans) -> None:
    cost, states = true_cost(task, plans.actions)
    torch.testing.assert_close(plans.cost, cost)
    torch.testing.assert_close(plans.states, states)


def test_zero_actions_first_then_diverse_and_bounded_plans() -> None:
    task = block_problem()
    plans, nothing = initial_guesses(task, KEYS, 6, 1, 2.0, 0.5)
    assert not plans.actions[:, 0].any() and not nothing.actions.any()
    assert nothing.cost.shape == (2, 1) and plans.cost.shape == (2, 6)
    assert float(plans.actions.abs().max()) == 1.0
    assert all(not torch.equal(plans.actions[:, i], plans.actions[:, j]) for i in range(6) for j in range(i))
    assert_rolled_out(task, plans)
    assert_rolled_out(task, nothing)


def test_each_random_plan_is_the_cheapest_of_its_candidates() -> None:
    task = block_problem()
    every, _ = initial_guesses(task, KEYS, 1 + 3 * 5, 1, 0.5, 0.5)
    chosen, _ = initial_guesses(task, KEYS, 4, 5, 0.5, 0.5)
    torch.testing.assert_close(chosen.cost[:, 1:], every.cost[:, 1:].view(2, 3, 5).amin(dim=2))
    torch.testing.assert_close(chosen.cost[:, 0], every.cost[:, 0])
    assert_rolled_out(task, chosen)


def test_a_single_plan_is_the_cheapest_of_zero_actions_and_its_candidates() -> None:
    task = block_problem()
    plans, nothing = initial_guesses(task, KEYS, 1, 9, 0.5, 0.5)
    every, _ = initial_guesses(task, KEYS, 1 + 9, 1, 0.5, 0.5)
    torch.testing.assert_close(plans.cost[:, 0], every.cost.amin(dim=1))
    alone, _ = initial_guesses(task, KEYS, 1, 0, 0.5, 0.5)
    assert not alone.actions.any() and torch.equal(alone.cost, nothing.cost)


def test_all_that_is_tried_is_rolled_out_together() -> None:
    task = block_problem()
    spy = SpyModel(task.model)
    initial_guesses(with_model(task, spy), KEYS, 4, 5, 0.5, 0.5)
    assert spy.batches == [2 * (1 + 3 * 5)] * 4


@pytest.mark.parametrize("restarts", [1, 3])
def test_a_model_that_proposes_gives_them_all(restarts) -> None:
    task = block_problem()
    model = Proposes(task.model)
    task = with_model(task, model)
    plans, nothing = initial_guesses(task, KEYS, restarts, 4, 0.5, 0.5)
    assert model.asked == restarts * 4
    assert ((plans.actions - 0.25).abs() < 0.1).all() and not nothing.actions.any()
    drawn = true_cost(task, proposed_actions(task, torch.zeros_like(KEYS), 50))[0]
    assert bool((plans.cost < drawn.median(dim=1, keepdim=True).values).all())  # the cheapest of four each
    assert_rolled_out(task, plans)
    states, past, goal = model.questions[0]
    assert torch.equal(states, task.states) and torch.equal(past, task.past_actions) and torch.equal(goal, task.goal)


def test_without_candidates_no_proposals_are_asked_for() -> None:
    task = block_problem()
    model = Proposes(task.model)
    plans, _ = initial_guesses(with_model(task, model), KEYS, 3, 0, 0.5, 0.5)
    assert model.asked == 0 and not plans.actions[:, 0].any() and bool(plans.actions[:, 1:].any(dim=(2, 3)).all())


def test_proposals_are_clipped_to_the_bounds_in_blocks() -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"](), horizon=4, bound=0.5)
    model = Proposes(task.model, around=0.25, spread=1.0)
    u = proposed_actions(with_model(task, model), KEYS, 30)
    assert u.shape == (2, 30, 4, 4) and float(u.abs().max()) == 1.0
    assert 0.3 < float(u.median()) < 0.7  # 0.25 is half of the bound
    assert proposed_actions(with_model(task, model), KEYS, 0).shape == (2, 0, 4, 4)


@pytest.mark.parametrize("proposing", [False, True])
def test_a_row_begins_alone_as_in_a_batch(proposing) -> None:
    task = block_problem()
    if proposing:
        task = with_model(task, Proposes(task.model))
    together, _ = initial_guesses(task, KEYS, 3, 4, 0.5, 0.5)
    alone, _ = initial_guesses(select_problem(task, torch.tensor([1])), KEYS[1:], 3, 4, 0.5, 0.5)
    torch.testing.assert_close(alone.actions[0], together.actions[1])
