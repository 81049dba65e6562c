"""Where planning goes on when time has moved on: which plans, whose, and how much of them."""

from __future__ import annotations

import pytest
import torch
from odd_models import Proposes
from problems import LINEAR, advanced, linear_quadratic, random_plans, with_model

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget
from grasp_agent.planning import PLANNERS, planner_for, shift, solve
from grasp_agent.planning.plans import score
from grasp_agent.planning.rollout import select_problem, true_cost, zero_plan
from grasp_agent.planning.warm_start import WarmStart, shift_actions, warm_start

KEYS = make_keys(0, 2)
SEARCHING = [name for name in PLANNERS if name != "prior"]


def block_problem(horizon: int = 4):
    return linear_quadratic(LINEAR["integrator, block 2"](), horizon=horizon)


def warm(task, kept, steps=2, refresh=3, candidates=1, scale=1e-3, keys=KEYS) -> WarmStart:
    best = kept.cost.argmin(dim=1)
    return warm_start(task, kept, kept.cheapest(), best, steps, keys, refresh, candidates, scale, 0.0)


# ----- actions -----


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 100])
def test_actions_move_by_environment_steps_and_end_in_zeros(n) -> None:
    task = block_problem()  # T = 4 blocks of k = 2 actions with 2 numbers each
    u = torch.arange(1.0, 17.0).double().view(4, 4).expand(2, 3, 4, 4) / 100
    flat = u.reshape(2, 3, 8, 2)
    shifted = shift_actions(task, u, n).view(2, 3, 8, 2)
    kept = max(8 - n, 0)
    assert torch.equal(shifted[:, :, :kept], flat[:, :, n:])
    assert torch.equal(shifted[:, :, kept:], torch.zeros(2, 3, 8 - kept, 2).double())


def test_a_shift_must_fit() -> None:
    task = block_problem()
    with pytest.raises(ValueError, match="expected the horizon the state was made for, 5, got 4"):
        shift_actions(task, torch.zeros(2, 1, 5, 4).double(), 1)
    with pytest.raises(ValueError, match="expected 0 or more environment steps, got -1"):
        shift_actions(task, torch.zeros(2, 1, 4, 4).double(), -1)


# ----- restarts -----


def test_the_best_plan_leads_the_cheapest_others_follow_and_the_last_begin_anew() -> None:
    task = block_problem()
    u = random_plans(task, 6)
    kept = score(task, u)
    best = kept.cost.argmin(dim=1)
    assert best.tolist() != [0, 0]
    start = warm(task, kept)
    cost, states = true_cost(task, start.plans.actions)
    torch.testing.assert_close(start.plans.cost, cost)
    torch.testing.assert_close(start.plans.states, states)
    torch.testing.assert_close(start.nothing.cost, score(task, zero_plan(task).unsqueeze(1)).cost)

    moved = shift_actions(task, u, 2)
    rows = torch.arange(2)
    later = true_cost(task, moved)[0]
    later[rows, best] = torch.inf
    expected = torch.cat([best.unsqueeze(1), later.argsort(dim=1)[:, :2]], dim=1)
    assert torch.equal(start.parent_index, expected)
    assert torch.equal(start.plans.actions[:, :3], moved[rows.unsqueeze(1), expected])
    for around, i in ((start.plans.actions[:, 0], 3), (start.plans.actions[:, 0], 4), (zero_plan(task), 5)):
        gap = (start.plans.actions[:, i] - around).abs()
        assert 0 < float(gap.max()) < 1e-2
    assert not torch.equal(start.plans.actions[:, 3], start.plans.actions[:, 4])


def test_restart_0_never_begins_anew() -> None:
    task = block_problem()
    kept = score(task, random_plans(task, 6))
    first = shift_actions(task, kept.cheapest().actions, 2)[:, 0]
    everything = warm(task, kept, refresh=99)
    assert torch.equal(everything.plans.actions[:, 0], first)
    assert torch.equal(everything.parent_index, kept.cost.argmin(dim=1, keepdim=True))
    nobody = warm(task, kept, refresh=0)
    assert nobody.parent_index.sort(dim=1).values.tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    assert torch.equal(nobody.plans.actions[:, 0], first)


def test_a_new_plan_is_the_cheapest_of_its_candidates() -> None:
    task = block_problem()
    kept = score(task, random_plans(task, 4))
    # the same noise is drawn for 2 restarts with 10 candidates each (one near, one elsewhere) as for one restart's 10
    few, many = warm(task, kept, refresh=2, scale=0.5), warm(task, kept, refresh=2, candidates=10, scale=0.5)
    assert bool((many.plans.cost[:, 2:] <= few.plans.cost[:, 2:] + 1e-12).all())
    assert bool((many.plans.cost[:, 2:] < few.plans.cost[:, 2:]).any())
    torch.testing.assert_close(many.plans.cost, true_cost(task, many.plans.actions)[0])


def test_half_of_the_new_plans_are_what_the_model_proposes() -> None:
    task = block_problem()
    model = Proposes(task.model)
    task = with_model(task, model)
    kept = score(task, torch.zeros(2, 6, 4, 4).double())
    start = warm(task, kept, refresh=4, candidates=3, scale=0.0)
    assert model.asked == 2 * 3
    assert not start.plans.actions[:, :4].any() and ((start.plans.actions[:, 4:] - 0.25).abs() < 0.1).all()
    pair = warm(task, score(task, torch.zeros(2, 2, 4, 4).double()), refresh=4, candidates=3, scale=0.0)
    assert not pair.plans.actions.any()  # one new plan, near the best: no room for a proposal
    model.asked = 0
    assert warm(task, kept, refresh=4, candidates=0, scale=0.5).plans.actions[:, 4:].any() and model.asked == 0


def test_a_single_restart_takes_the_cheapest_of_its_plan_and_the_proposals() -> None:
    task = block_problem()
    good = solve(planner_for("gauss_newton", task.model), task, Budget(5))[0].actions.unsqueeze(1)
    model = Proposes(task.model)
    proposing = with_model(task, model)
    stays = warm(proposing, score(task, good), steps=0, candidates=7)
    assert model.asked == 7 and torch.equal(stays.plans.actions, good)
    poor = warm(proposing, score(task, -good), steps=0, candidates=7)
    assert ((poor.plans.actions - 0.25).abs() < 0.1).all() and poor.parent_index.tolist() == [[0], [0]]
    torch.testing.assert_close(poor.plans.cost, true_cost(task, poor.plans.actions)[0])
    torch.testing.assert_close(poor.nothing.cost[:, 0], true_cost(task, zero_plan(task).unsqueeze(1))[0][:, 0])
    assert torch.equal(warm(task, score(task, good), candidates=7).plans.actions, shift_actions(task, good, 2))


def test_a_row_goes_on_alone_as_in_a_batch() -> None:
    task = block_problem()
    kept = score(task, random_plans(task, 6))
    together = warm(task, kept, candidates=3, scale=0.5)
    row = torch.tensor([1])
    solo = select_problem(task, row)
    alone = warm(solo, score(solo, random_plans(task, 6)[1:]), candidates=3, scale=0.5, keys=KEYS[1:])
    assert torch.equal(alone.parent_index[0], together.parent_index[1])
    torch.testing.assert_close(alone.plans.actions[0], together.plans.actions[1])


# ----- planners -----


@pytest.mark.parametrize("name", SEARCHING)
@pytest.mark.parametrize("n", [1, 2])
def test_the_shifted_plan_is_a_candidate_and_its_old_cost_is_not(name, n) -> None:
    task = linear_quadratic(LINEAR["coasting, history 3, block 2"](), horizon=6)
    planner = planner_for(name, task.model)
    plan, search = solve(planner, task, Budget(5))
    later = advanced(task, plan.actions)
    shifted = shift(planner, later, search, n)
    for plans in (shifted.kept, shifted.nothing, shifted.best):
        torch.testing.assert_close(plans.cost, true_cost(later, plans.actions)[0])
    flat = search.best.actions.view(2, 12, 2)
    moved = torch.cat([flat[:, n:], torch.zeros(2, n, 2).double()], dim=1).view(2, 1, 6, 4)
    expected = true_cost(later, moved)[0][:, 0]  # bounds are [-1, 1]: normalised actions are actions
    first, _ = solve(planner, later, Budget(1), search=shifted)
    assert bool((first.cost_trace[:, 0] <= expected + 1e-9).all())


@pytest.mark.parametrize("name", ["grasp", "gd", "cem"])
def test_a_warm_start_beats_a_cold_one_after_one_iteration(name) -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=12)
    planner = planner_for(name, task.model)
    plan, search = solve(planner, task, Budget(25))
    later = advanced(task, plan.actions)
    warmed, _ = solve(planner, later, Budget(1), search=shift(planner, later, search, 1))
    cold, _ = solve(planner, later, Budget(1), seed=1)
    assert bool((warmed.cost < cold.cost).all())


@pytest.mark.parametrize("name", SEARCHING)
def test_two_shifts_without_planning_in_between_keep_the_plan(name) -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=6)
    planner = planner_for(name, task.model)
    _, search = solve(planner, task, Budget(5))
    moved = torch.cat([search.best.actions[:, 0, 2:], torch.zeros(2, 2, 2).double()], dim=1)
    expected = true_cost(task, moved.unsqueeze(1))[0][:, 0]
    for twice in (shift(planner, task, shift(planner, task, search, 1), 1), shift(planner, task, search, 2)):
        assert bool((twice.cost <= expected + 1e-9).all())


def test_every_warm_start_draws_anew() -> None:
    task = block_problem()
    planner = planner_for("gd", task.model)
    _, search = solve(planner, task, Budget(5))
    once, again = shift(planner, task, search, 0), shift(planner, task, search, 0)
    assert torch.equal(once.kept.actions, again.kept.actions)
    later = shift(planner, task, once, 0)
    torch.testing.assert_close(later.kept.actions[:, 0], once.kept.cheapest().actions[:, 0])
    assert not torch.allclose(later.kept.actions[:, -1], once.kept.actions[:, -1])
