"""Restarts of a solver: rows of its batch, of which the cheapest plans are kept, dropped, improved and chosen."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import pairwise

import pytest
import torch
from odd_models import Proposes, SpyModel
from problems import (
    LINEAR,
    advanced,
    linear_quadratic,
    linear_quadratic_optimum,
    pendulum,
    random_plans,
    with_model,
)
from torch import Tensor
from walker import Walker

from grasp_agent.core.rng import make_keys
from grasp_agent.core.rows import replace_rows, select_rows, where_rows
from grasp_agent.core.types import Budget
from grasp_agent.planning import (
    CEM,
    GRASP,
    ICEM,
    LBFGS,
    PLANNERS,
    Alternate,
    GaussNewton,
    GradientDescent,
    LatCo,
    Lifted,
    MultiStart,
    RobustChoice,
    TailResample,
    begin,
    iterate,
    planner_for,
    shift,
    solve,
)
from grasp_agent.planning.plans import Plans, score
from grasp_agent.planning.rollout import one_step, select_problem, true_cost, zero_plan
from grasp_agent.planning.solve import finish
from grasp_agent.planning.virtual_states import shift_states
from grasp_agent.planning.warm_start import shift_actions

KEYS = make_keys(0, 2)
SEARCHING = [name for name in PLANNERS if name != "prior"]
ROWS = torch.arange(2)


def problem(horizon: int = 6):
    return linear_quadratic(LINEAR["coasting, history 3"](), horizon=horizon)


def steps(planner, task, search, count: int):
    for _ in range(count):
        search = planner.step(task, search)
    return search


def leaves(tree) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    assert is_dataclass(tree)
    return [leaf for f in fields(tree) if getattr(tree, f.name) is not None for leaf in leaves(getattr(tree, f.name))]


def assert_true(task, plans: Plans) -> None:
    """Plans know their true rollouts and costs."""
    cost, states = true_cost(task, plans.actions)
    torch.testing.assert_close(plans.cost, cost.detach())
    torch.testing.assert_close(plans.states, states.detach())


# ----- restarts as rows -----


def test_restarts_are_rows_of_the_solver_and_share_its_model_calls() -> None:
    task = problem()
    spy = SpyModel(task.model)
    planner = MultiStart(GradientDescent(), restarts=5)
    search = planner.begin(task, KEYS)
    planner.step(with_model(task, spy), search)
    assert spy.batches == [2 * 5] * 6
    assert search.inner.actions.shape == (2, 5, 6, 2) and search.inner.moments.count.shape == (2, 5)


def test_each_restart_goes_as_it_would_alone() -> None:
    task = problem()
    planner = MultiStart(GradientDescent(), restarts=3)
    search = planner.begin(task, KEYS)
    together = steps(planner, task, search, 4)
    alone = MultiStart(GradientDescent(), restarts=1)
    for r in range(3):
        one = torch.tensor([[r], [r]])
        solo = replace(
            search,
            inner=replace(
                search.inner,
                actions=search.inner.actions[:, r : r + 1],
                moments=type(search.inner.moments)(*(x[:, r : r + 1] for x in vars(search.inner.moments).values())),
            ),
            kept=search.kept.take(one),
        )
        solo = steps(alone, task, solo, 4)
        torch.testing.assert_close(solo.inner.actions[:, 0], together.inner.actions[:, r])
        torch.testing.assert_close(solo.kept.cost[:, 0], together.kept.cost[:, r])


def test_every_restart_has_a_key_of_its_own() -> None:
    search = MultiStart(Walker(), restarts=4).begin(problem(), KEYS)
    assert len(search.inner.keys.unique()) == 8
    shifted = MultiStart(Walker(), restarts=4, refresh=2).shift(problem(), search, 1)
    assert len(torch.cat([search.inner.keys, shifted.inner.keys]).unique()) == 16
    assert not torch.equal(shifted.keys, search.keys)


@pytest.mark.parametrize("name", SEARCHING)
def test_every_leaf_of_a_search_is_a_row_table(name) -> None:
    task = linear_quadratic(LINEAR["coasting, history 3, block 2"](), batch=3, horizon=4)
    planner = planner_for(name, task.model)
    start = begin(planner, task)
    _, later = solve(planner, task, Budget(3), search=start)
    for search in (start, later, shift(planner, task, later, 1)):
        assert all(len(leaf) == 3 for leaf in leaves(search))
        assert all(leaf.shape[:2] == (3, planner.restarts) for leaf in leaves(search.inner))
        assert search.kept.cost.shape == (3, planner.restarts) and search.nothing.cost.shape == (3, 1)


@pytest.mark.parametrize("planner", [GRASP(), MultiStart(LBFGS(), restarts=3), MultiStart(ICEM(), restarts=2)])
def test_rows_of_a_search_can_be_selected_and_replaced(planner) -> None:
    task = linear_quadratic(LINEAR["integrator"](), batch=3)
    _, search = solve(planner, task, Budget(3))
    rows, mask = torch.tensor([1]), torch.tensor([False, True, False])
    fresh = begin(planner, select_problem(task, rows), make_keys(9, 1))
    mixed = replace_rows(search, rows, fresh)
    for old, new, reset in zip(leaves(search), leaves(mixed), leaves(fresh), strict=True):
        assert torch.equal(new[[0, 2]], old[[0, 2]]) and torch.equal(new[1], reset[0])
    for same in (replace_rows(search, mask, fresh), where_rows(mask, mixed, search)):
        assert all(torch.equal(a, b) for a, b in zip(leaves(same), leaves(mixed), strict=True))
    for a, b in zip(leaves(select_rows(mixed, rows)), leaves(fresh), strict=True):
        assert torch.equal(a, b)


# ----- what is kept -----


@pytest.mark.parametrize("name", SEARCHING)
def test_what_is_kept_never_gets_costlier_and_is_a_true_rollout(name) -> None:
    task = pendulum(horizon=8)
    planner = planner_for(name, task.model)
    search = begin(planner, task)
    for _ in range(6):
        before = search
        search = planner.step(task, search)
        # restarts change places only where some are dropped
        assert bool((search.kept.cost <= before.kept.cost).all())
        assert torch.equal(search.cost, search.best.cost[:, 0])
    search = planner.evaluate(task, search)
    assert bool((search.kept.cost <= before.kept.cost).all())
    assert_true(task, search.kept)
    assert_true(task, search.nothing)


ANYTIME = [
    *SEARCHING,
    MultiStart(GaussNewton(), restarts=6, halving=((2, 3), (4, 1))),
    MultiStart(GradientDescent(), restarts=6, halving=((2, 3), (4, 1)), resample=TailResample(4, first=3, every=2)),
    MultiStart(Alternate(GradientDescent(), Lifted(), steps=(2, 1)), restarts=3, resample=TailResample(4, every=2)),
    GRASP.large_latent(),
]


@pytest.mark.parametrize("planner", [p for p in ANYTIME if p != "latco"], ids=str)
def test_planning_can_be_stopped_at_any_time(planner) -> None:
    task = pendulum(horizon=8)
    planner = planner_for(planner, task.model) if isinstance(planner, str) else planner
    planner = replace(planner, select=None)  # which may take a costlier plan
    costs = [finish(planner, task, progress.search)[0].cost for progress in iterate(planner, task, Budget(9))]
    assert all(bool((b <= a + 1e-9).all()) for a, b in pairwise(costs))


def test_a_late_evaluation_adds_the_plans_that_were_not_rolled_out() -> None:
    task = problem()
    planner = MultiStart(Walker(0.02), restarts=3)
    search = steps(planner, task, planner.begin(task, KEYS), 2)
    begun = planner.begin(task, KEYS).kept
    assert torch.equal(search.kept.cost, begun.cost)
    after = planner.evaluate(task, search)
    expected = torch.minimum(begun.cost, true_cost(task, search.inner.actions)[0].detach())
    torch.testing.assert_close(after.kept.cost, expected)
    assert not torch.equal(expected, begun.cost)
    assert_true(task, after.kept)


@pytest.mark.parametrize("name", SEARCHING)
def test_the_zero_plan_is_a_candidate(name) -> None:
    task = linear_quadratic(LINEAR["integrator"](), action=100.0)  # doing anything at all costs more than it brings
    task = with_model(task, Proposes(task.model))
    plan, search = solve(planner_for(name, task.model, select=None), task, Budget(1))
    zero = true_cost(task, zero_plan(task).unsqueeze(1))[0][:, 0]
    assert bool((plan.cost <= zero + 1e-12).all()) and bool((plan.cost_trace <= zero.unsqueeze(1) + 1e-12).all())
    assert torch.equal(search.cost, search.best.cost[:, 0])


# ----- successive halving -----


def test_the_costly_restarts_are_dropped_and_the_others_go_on_as_before() -> None:
    task = problem()
    every = MultiStart(GradientDescent(), restarts=6)
    few = replace(every, halving=((2, 2),))
    search = every.begin(task, KEYS)
    # a gradient step rolls out where it was, not where it came to: halving must know that, too
    whole = every.evaluate(task, steps(every, task, search, 2))
    halved = steps(few, task, search, 2)
    order = whole.kept.cost.argsort(dim=1)
    assert order.tolist() != [[*range(6)]] * 2
    torch.testing.assert_close(halved.kept.cost, whole.kept.cost.gather(1, order))
    for b in range(2):
        torch.testing.assert_close(halved.kept.actions[b], whole.kept.actions[b, order[b]])
        torch.testing.assert_close(halved.inner.actions[b], whole.inner.actions[b, order[b]])
        torch.testing.assert_close(halved.inner.moments.first[b], whole.inner.moments.first[b, order[b]])
    later = steps(few, task, halved, 3)
    assert torch.equal(later.inner.actions[:, 2:], halved.inner.actions[:, 2:])  # these wait
    assert later.inner.moments.count.tolist() == [[5, 5, 2, 2, 2, 2]] * 2
    plain = steps(every, task, whole, 3)
    for b in range(2):  # and those go on as if nobody had been dropped
        torch.testing.assert_close(later.inner.actions[b, :2], plain.inner.actions[b, order[b, :2]])
    assert bool((later.kept.cost[:, :2] < halved.kept.cost[:, :2]).any(dim=1).all())
    torch.testing.assert_close(later.kept.cost[:, 2:], halved.kept.cost[:, 2:])


def test_dropped_restarts_are_not_rolled_out_any_more() -> None:
    task = problem()
    spy = SpyModel(task.model)
    planner = MultiStart(GradientDescent(), restarts=6, halving=((1, 4), (3, 2)))
    search = planner.begin(task, KEYS)
    widths = []
    for _ in range(5):
        spy.batches.clear()
        search = planner.step(with_model(task, spy), search)
        widths.append([n // 2 for n in spy.batches[::6]])
    assert widths == [[6, 6], [4], [4, 4], [2], [2]]  # before a rung all that take part are evaluated
    spy.batches.clear()
    planner.evaluate(with_model(task, spy), search)
    assert spy.batches == [2 * 2] * 6


def test_halving_knows_what_a_solver_has_not_rolled_out() -> None:
    task = problem()
    cost, actions = linear_quadratic_optimum(task)
    planner = MultiStart(Walker(0.0), restarts=4, candidates=0, halving=((1, 1),))
    search = planner.begin(task, KEYS)
    standing = search.inner.actions.clone()
    standing[:, 3] = torch.tensor(actions)  # bounds are [-1, 1]: actions are normalised
    halved = planner.step(task, replace(search, inner=replace(search.inner, actions=standing)))
    torch.testing.assert_close(halved.kept.cost[:, 0], torch.tensor(cost))
    torch.testing.assert_close(halved.inner.actions[:, 0], standing[:, 3])


def test_halving_keeps_the_best_plan_and_a_warm_start_wakes_everybody() -> None:
    task = problem()
    planner = MultiStart(GradientDescent(), restarts=6, refresh=0, halving=((1, 3), (2, 1)))
    search = planner.begin(task, KEYS)
    best = search.cost
    for _ in range(5):
        search = planner.step(task, search)
        assert bool((search.cost <= best).all()) and search.kept.cost.shape == (2, 6)
        best = search.cost
    shifted = planner.shift(task, search, 1)
    assert shifted.iteration.tolist() == [0, 0]
    assert planner.step(task, shifted).inner.moments.count.tolist() == [[1] * 6] * 2


def test_halving_counts_iterations_of_a_row_whatever_its_neighbours_do() -> None:
    task = problem()
    planner = MultiStart(GradientDescent(), restarts=4, halving=((2, 1),), select=RobustChoice(0.01))
    fresh = begin(planner, task, KEYS)
    _, ahead = solve(planner, task, Budget(2), search=fresh)
    row = torch.tensor([1])
    mixed = replace_rows(fresh, row, select_rows(ahead, row))
    for count in (1, 2, 3):
        plan, search = solve(planner, task, Budget(count), search=mixed)
        for b, search_of in ((0, fresh), (1, ahead)):
            at = torch.tensor([b])
            alone, other = solve(planner, select_problem(task, at), Budget(count), search=select_rows(search_of, at))
            torch.testing.assert_close(plan.actions[b], alone.actions[0])
            torch.testing.assert_close(search.kept.cost[b], other.kept.cost[0])


# ----- other endings -----


@dataclass(frozen=True)
class Noted(TailResample):
    """Writes down when it is asked, and about how many plans."""

    notes: list = field(default_factory=list)

    def improved(self, problem, plans, keys, turn):
        self.notes.append((turn, plans.cost.shape[1]))
        return super().improved(problem, plans, keys, turn)


def test_endings_are_resampled_on_time_for_those_that_take_part() -> None:
    task = problem()
    resample = Noted(3, first=2, every=3)
    planner = MultiStart(GradientDescent(), restarts=4, halving=((4, 2),), resample=resample)
    search = planner.begin(task, KEYS)
    seen = []
    for _ in range(9):
        search = planner.step(task, search)
        seen.append(len(resample.notes))
    assert seen == [0, 1, 1, 1, 2, 2, 2, 3, 3] and resample.notes == [(1, 4), (2, 2), (3, 2)]


def test_after_it_each_restart_stands_at_its_cheapest_version() -> None:
    task = problem()
    improved = 0
    for solver in (GradientDescent(), GaussNewton(), LBFGS(), Lifted(), LatCo(), CEM(), Walker(0.05)):
        planner = MultiStart(solver, restarts=3, resample=TailResample(6))
        plain = replace(planner, resample=None)
        search = planner.begin(task, KEYS)
        after, without = planner.step(task, search), plain.evaluate(task, plain.step(task, search))
        assert bool((after.kept.cost <= without.kept.cost + 1e-12).all())
        improved += bool((after.kept.cost < without.kept.cost).any())
        assert_true(task, after.kept)
        now = planner.solver.current(
            replace(task, **{n: getattr(task, n).repeat_interleave(3, 0) for n in ("states", "past_actions", "goal")}),
            type(after.inner)(*(_rows(getattr(after.inner, f.name)) for f in fields(after.inner))),
        )
        torch.testing.assert_close(now.cost.view(2, 3), after.kept.cost)
    assert improved >= 5


def _rows(tree):
    """A part of a search's inner state, its restarts as rows."""
    if isinstance(tree, Tensor):
        return tree.flatten(0, 1)
    return None if tree is None else type(tree)(*(_rows(getattr(tree, f.name)) for f in fields(tree)))


def test_with_no_endings_plans_return_to_their_cheapest_version() -> None:
    task = problem()
    planner = MultiStart(Walker(0.2), restarts=3, resample=TailResample(0, first=2, every=2))
    search = planner.begin(task, KEYS)
    start = search.kept
    away = planner.step(task, search)
    assert not torch.equal(away.inner.actions, start.actions)
    back = planner.step(task, away)
    assert torch.equal(back.inner.actions, back.kept.actions)
    assert bool((back.kept.cost <= start.cost).all())


def test_what_the_solver_has_not_rolled_out_is_not_thrown_away() -> None:
    """The plan after the last gradient step may be the cheapest: it is known before plans return."""
    task = problem()
    planner = MultiStart(GradientDescent(), restarts=2, resample=TailResample(0, first=3, every=3))
    plain = replace(planner, resample=None)
    search = planner.begin(task, KEYS)
    three = plain.evaluate(task, steps(plain, task, search, 3))
    returned = steps(planner, task, search, 3)
    torch.testing.assert_close(returned.kept.cost, three.kept.cost)
    torch.testing.assert_close(returned.inner.actions, three.kept.actions)


def test_every_turn_draws_other_noise() -> None:
    task = problem(horizon=2)
    planner = MultiStart(Walker(0.0), restarts=1, candidates=0, resample=TailResample(3))
    search = planner.begin(task, KEYS)
    search = replace(search, kept=replace(search.kept, cost=search.kept.cost + 1e9))  # every ending is cheaper
    first = planner.step(task, search)
    third = planner.step(task, replace(search, iteration=search.iteration + 2))  # cut at the same place
    assert bool(first.kept.actions[..., 1, :].all()) and not first.kept.actions[..., 0, :].any()
    assert not third.kept.actions[..., 0, :].any()
    assert not torch.allclose(first.kept.actions, third.kept.actions)


# ----- the choice in the end -----


@dataclass(frozen=True)
class Takes(RobustChoice):
    """Chooses the plan of one place, and writes down among how many."""

    place: int = 0
    notes: list = field(default_factory=list)

    def choose(self, problem, plans, keys):
        self.notes.append(plans.cost.tolist())
        return torch.full((problem.batch,), self.place)


def test_the_chosen_plan_is_returned_whatever_it_costs() -> None:
    task = problem()
    select = Takes(place=2)
    planner = MultiStart(GradientDescent(), restarts=4, select=select)
    search = steps(planner, task, planner.begin(task, KEYS), 2)
    plan = planner.finish(task, search)
    assert select.notes == [search.kept.cost.tolist()]
    assert plan.restart.tolist() == [2, 2]
    assert torch.equal(plan.actions, search.kept.actions[:, 2]) and torch.equal(plan.cost, search.kept.cost[:, 2])
    assert torch.equal(plan.states, search.kept.states[:, 2]) and torch.equal(plan.restarts, search.kept.cost)
    cheapest = replace(planner, select=None).finish(task, search)
    assert torch.equal(cheapest.restart, search.kept.cost.argmin(dim=1))
    assert torch.equal(cheapest.cost, search.kept.cost.amin(dim=1))


def test_a_dropped_restart_is_no_plan_to_choose() -> None:
    task = problem()
    select = Takes()
    planner = MultiStart(GradientDescent(), restarts=5, halving=((1, 2),), select=select)
    search = steps(planner, task, planner.begin(task, KEYS), 1)
    planner.finish(task, search)
    assert [len(row) for row in select.notes[0]] == [2, 2]
    alone = replace(planner, halving=((1, 1),))
    search = steps(alone, task, alone.begin(task, KEYS), 1)
    plan = alone.finish(task, search)
    assert len(select.notes) == 1 and torch.equal(plan.cost, search.cost)  # one is left: no choice


def test_what_a_row_has_dropped_is_no_plan_to_choose_whatever_its_neighbours_have() -> None:
    task = problem()
    select = Takes()
    planner = MultiStart(GradientDescent(), restarts=4, halving=((2, 2), (3, 1)), select=select)
    early = steps(planner, task, planner.begin(task, KEYS), 1)
    late = steps(planner, task, early, 1)
    row = torch.tensor([1])
    plan = planner.finish(task, replace_rows(early, row, select_rows(late, row)))
    first, second = select.notes[0]
    assert first == early.kept.cost[0].tolist()
    assert second == [*late.kept.cost[1, :2].tolist(), torch.inf, torch.inf]
    assert plan.cost.tolist() == [first[0], second[0]]


def test_where_no_restart_has_a_finite_cost_the_zero_plan_is_returned() -> None:
    task = problem()
    planner = MultiStart(GradientDescent(), restarts=3, select=RobustChoice(0.01))
    search = planner.begin(task, KEYS)
    cost = search.kept.cost.clone()
    cost[0] = torch.inf
    search = replace(search, kept=replace(search.kept, cost=cost))
    plan = planner.finish(task, search)
    assert not plan.actions[0].any() and torch.equal(plan.cost[0], search.nothing.cost[0, 0])
    assert plan.cost[1] in cost[1]


def test_the_plan_is_in_environment_units() -> None:
    task = problem()
    task = replace(task, low=torch.tensor([-3.0, 0.25]).double(), high=torch.tensor([1.0, 0.25]).double())
    plan, search = solve(MultiStart(GradientDescent(), restarts=2), task, Budget(4))
    u = search.best.actions[:, 0]
    torch.testing.assert_close(plan.actions[..., 0], -1 + 2 * u[..., 0])
    assert bool((plan.actions[..., 1] == 0.25).all())
    states, cost = plan.states[:, 1:], plan.cost
    torch.testing.assert_close(task.objective.trajectory_cost(states, plan.actions, task.goal), cost)


# ----- virtual states -----


def test_defects_are_those_of_the_restart_that_the_plan_is_from() -> None:
    task = problem(horizon=5)
    planner = MultiStart(Lifted(init_states="rollout"), restarts=3, select=Takes(place=1))
    plan, search = solve(planner, task, Budget(5))
    actions, virtual = planner.virtual_states(task, search)
    assert torch.equal(virtual[:, :, 1:-1], search.inner.states) and torch.equal(actions, search.inner.actions)
    assert torch.equal(virtual[:, 1, -1], task.goal) and torch.equal(virtual[:, 1, 0], task.states[:, -1])
    predicted = one_step(task, search.inner.actions[:, 1], search.inner.states[:, 1])
    following = torch.cat([search.inner.states[:, 1], task.goal.unsqueeze(1)], dim=1)
    torch.testing.assert_close(plan.defects, (predicted - following).square().mean(dim=2).detach())
    assert float(plan.defects.min()) > 0


def test_solvers_without_virtual_states_have_no_defects() -> None:
    plan, search = solve(MultiStart(GradientDescent(), restarts=2), problem(), Budget(1))
    assert plan.defects.shape == (2, 6) and not plan.defects.any()
    assert MultiStart(GradientDescent(), restarts=2).virtual_states(problem(), search) is None


@pytest.mark.parametrize("refresh", [0, 2])
def test_a_warm_start_hands_virtual_states_down_from_parents(refresh) -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"](), horizon=6)
    planner = MultiStart(Lifted(init_noise=0.3, noise=0.1), restarts=5, refresh=refresh)
    _, search = solve(planner, task, Budget(4))
    best = search.kept.cost.argmin(dim=1)
    assert best.tolist() != [0, 0]
    later = true_cost(task, shift_actions(task, search.kept.actions, 1))[0].detach()
    later[ROWS, best] = torch.inf
    parents = torch.cat([best.unsqueeze(1), later.argsort(dim=1)[:, : 4 - refresh]], dim=1)
    shifted = planner.shift(task, search, 1)
    going_on = 5 - refresh
    for r in range(going_on):
        old = search.inner.states[ROWS, parents[:, r]]
        torch.testing.assert_close(shifted.inner.states[:, r], shift_states(task, old, 1))
        moved = shift_actions(task, search.kept.actions, 1)[ROWS, parents[:, r]]
        torch.testing.assert_close(shifted.inner.actions[:, r], moved)
    fresh = planner.solver.init_noise
    line = torch.stack([task.states[:, -1] + i / 6 * (task.goal - task.states[:, -1]) for i in range(1, 6)], dim=1)
    for r in range(going_on, 5):  # these begin anew, on a noised line
        gap = (shifted.inner.states[:, r] - line).abs().flatten(1).amax(dim=1)
        assert bool((gap < 5 * fresh).all()) and bool((gap > 0).all())
    assert torch.equal(shifted.inner.actions, shifted.kept.actions)
    assert shifted.inner.iteration.tolist() == [[0] * 5] * 2


def test_a_single_restart_hands_its_virtual_states_on() -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"](), horizon=6)
    planner = MultiStart(Lifted(), restarts=1, candidates=0)
    _, search = solve(planner, task, Budget(4))
    shifted = planner.shift(task, search, 3)
    torch.testing.assert_close(shifted.inner.states[:, 0], shift_states(task, search.inner.states[:, 0], 3))
    assert_true(task, shifted.kept)


# ----- where it begins -----


def test_restarts_begin_with_the_initial_guesses() -> None:
    task = problem()
    planner = MultiStart(Walker(), restarts=3, candidates=4)
    search = planner.begin(task, KEYS)
    assert torch.equal(search.inner.actions, search.kept.actions) and not search.nothing.actions.any()
    (start,) = planner.solver.starts
    torch.testing.assert_close(start.cost.view(2, 3), search.kept.cost)
    torch.testing.assert_close(start.states.view(2, 3, 7, 2), search.kept.states)
    assert search.iteration.tolist() == [0, 0] and search.iteration.device.type == "cpu"
    assert_true(task, search.kept)


def test_more_candidates_begin_cheaper() -> None:
    task = pendulum()
    few, many = (MultiStart(Walker(), restarts=4, candidates=n).begin(task, KEYS) for n in (1, 20))
    assert bool((many.kept.cost[:, 1:].mean(dim=1) < few.kept.cost[:, 1:].mean(dim=1)).all())


def test_refreshed_restarts_are_new_to_the_solver() -> None:
    task = problem()
    walker = Walker(0.02)
    planner = MultiStart(walker, restarts=5, refresh=2)
    search = steps(planner, task, planner.begin(task, KEYS), 3)
    walker.log.clear()
    shifted = planner.shift(task, search, 2)
    assert walker.log == ["shift a by 2", "init a"]
    assert shifted.inner.count.tolist() == [[103, 103, 103, 0, 0]] * 2
    walker.log.clear()
    planner = replace(planner, refresh=0)
    assert planner.shift(task, search, 2).inner.count.tolist() == [[103] * 5] * 2 and walker.log == ["shift a by 2"]


def test_the_warm_start_of_a_solved_problem_is_nearly_solved() -> None:
    task = problem(horizon=10)
    planner = MultiStart(GaussNewton(), restarts=3)
    plan, search = solve(planner, task, Budget(6))
    later = advanced(task, plan.actions)
    optimum = torch.tensor(linear_quadratic_optimum(later)[0])
    begun = shift(planner, later, search, 1)
    nothing = begun.nothing.cost[:, 0]
    assert bool((begun.cost - optimum < 0.2 * (nothing - optimum)).all())
    for progress in iterate(planner, later, Budget(3), search=begun):
        last = progress
    torch.testing.assert_close(last.cost, optimum, rtol=1e-4, atol=0)


# ----- checks -----


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: MultiStart(GaussNewton(), restarts=0), "MultiStart.restarts: expected a whole number of at least 1"),
        (lambda: MultiStart(GaussNewton(), restarts=1.5), "MultiStart.restarts: expected a whole number"),
        (lambda: MultiStart(GaussNewton(), candidates=-1), "MultiStart.candidates: expected a whole number of at"),
        (lambda: MultiStart(GaussNewton(), iterations=0), "MultiStart.iterations: expected a whole number of at"),
        (lambda: MultiStart(GaussNewton(), correlation=1.0), "MultiStart.correlation: expected a number from 0"),
        (lambda: GRASP(restarts=0), "GRASP.restarts: expected a whole number of at least 1, got 0"),
        *(
            (
                lambda rungs=rungs: MultiStart(GaussNewton(), restarts=8, halving=rungs),
                r"MultiStart.halving: expected pairs \(iterations, restarts to keep\), iterations growing and restarts",
            )
            for rungs in (((0, 4),), ((2, 9),), ((2, 0),), ((2, 4), (2, 2)), ((2, 4), (3, 5)))
        ),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()


def test_it_takes_a_solver_only() -> None:
    with pytest.raises(TypeError, match=r"MultiStart.solver: expected a solver such as GaussNewton"):
        MultiStart(MultiStart(GaussNewton()))
    assert MultiStart(GaussNewton()).decision_iterations == GaussNewton().decision_iterations
    assert MultiStart(GaussNewton(), iterations=9).decision_iterations == 9


def test_scores_are_what_was_asked_for() -> None:
    """The plans of a search are scored with the problem at hand, whoever made them."""
    task = problem()
    u = random_plans(task, 2)
    assert_true(task, score(task, u))
