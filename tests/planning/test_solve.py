"""The one planning loop: anytime, in time, row by row, and honest about what it could not do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from odd_models import Broken, Slow
from problems import (
    LINEAR,
    at_the_goal,
    linear_quadratic,
    linear_quadratic_optimum,
    pendulum,
    with_model,
)
from walker import Walker

from grasp_agent.core.rng import make_keys
from grasp_agent.core.rows import replace_rows, select_rows
from grasp_agent.core.types import Budget, Status
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import (
    CEM,
    GRASP,
    LBFGS,
    PLANNERS,
    Alternate,
    GaussNewton,
    GradientDescent,
    LatCo,
    Lifted,
    MultiStart,
    RandomShooting,
    RobustChoice,
    TailResample,
    as_planner,
    begin,
    iterate,
    planner_for,
    shift,
    solve,
)
from grasp_agent.planning.rollout import select_problem, true_cost, zero_plan
from grasp_agent.planning.solve import finish

SEARCHING = [name for name in PLANNERS if name != "prior"]
TURNS = Alternate(Lifted(), GradientDescent(), steps=(3, 2))
HALVED = MultiStart(
    Alternate(GaussNewton(), Lifted()),
    restarts=4,
    halving=((3, 2),),
    resample=TailResample(4, first=2, every=2),
    select=RobustChoice(0.01),
)
PLAIN = GradientDescent(rate=0.3, optimizer="sgd")


def name_of(planner) -> str:
    return planner if isinstance(planner, str) else type(planner).__name__


def rows_of(task, *rows: int):
    return select_problem(task, torch.tensor(rows))


# ----- the loop -----


@pytest.mark.parametrize("planner", [GRASP(), HALVED, TURNS, CEM()], ids=name_of)
def test_iterate_yields_what_solve_returns(planner) -> None:
    task = pendulum(horizon=8)
    plan, search = solve(planner, task, Budget(7))
    costs, last = [], None
    for i, progress in enumerate(iterate(planner, task, Budget(7))):
        assert progress.iteration == i and not progress.converged.any()
        assert torch.equal(progress.cost, progress.search.cost)
        costs.append(progress.cost)
        last = progress
    again, known = finish(planner, task, last.search)
    assert plan.iterations == len(costs) - 1 == 7
    torch.testing.assert_close(plan.cost_trace, torch.stack([*costs, known.cost], dim=1))
    torch.testing.assert_close(again.actions, plan.actions)
    torch.testing.assert_close(known.kept.cost, search.kept.cost)


def test_looking_at_the_plan_in_between_changes_nothing() -> None:
    task = pendulum(horizon=8)
    plan, _ = solve(HALVED, task, Budget(6))
    for progress in iterate(HALVED, task, Budget(6)):
        looked, _ = finish(HALVED, task, progress.search)
    torch.testing.assert_close(looked.actions, plan.actions)


@pytest.mark.parametrize("name", SEARCHING)
def test_the_trace_falls_to_the_best_known_cost(name) -> None:
    task = pendulum(horizon=8)
    planner = planner_for(name, task.model)
    plan, search = solve(planner, task, Budget(5))
    assert plan.cost_trace.shape == (2, 7) and bool((plan.cost_trace.diff(dim=1) <= 0).all())
    assert torch.equal(plan.cost_trace[:, -1], search.cost)
    assert bool((plan.cost >= search.cost).all())
    torch.testing.assert_close(plan.restarts, search.kept.cost)
    assert plan.status.tolist() == [Status.RUNNING] * 2 and plan.seconds > 0


@pytest.mark.parametrize("planner", [*SEARCHING, TURNS, HALVED, Lifted(), LatCo()], ids=name_of)
def test_solving_goes_on_where_it_stopped(planner) -> None:
    task = pendulum(horizon=8)
    planner = planner_for(planner, task.model) if isinstance(planner, str) else planner
    start = begin(planner, task, 2)
    whole = max((p for p in iterate(planner, task, Budget(8), search=start)), key=lambda p: p.iteration)
    half = max((p for p in iterate(planner, task, Budget(3), search=start)), key=lambda p: p.iteration)
    rest = max((p for p in iterate(planner, task, Budget(5), search=half.search)), key=lambda p: p.iteration)
    torch.testing.assert_close(rest.search.kept.actions, whole.search.kept.actions)
    assert rest.search.iteration.tolist() == [8, 8] and rest.iteration == 5
    _, search = solve(planner, task, Budget(3), search=start)
    final, _ = solve(replace(as_planner(planner), select=None), task, Budget(5), search=search)
    assert bool((final.cost <= whole.cost + 1e-9).all())  # to score in between can only add candidates


def test_an_agents_budget_is_the_default() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    assert solve(GaussNewton(), task)[0].iterations == GaussNewton().decision_iterations
    assert solve(GRASP(), task)[0].iterations == 3
    assert solve(MultiStart(CEM(), restarts=1, iterations=2), task)[0].iterations == 2


def test_a_bare_solver_improves_one_plan_from_zero_actions() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    walker = Walker(0.02)
    plan, search = solve(walker, task, Budget(3))
    assert plan.restarts.shape == (2, 1) and not walker.starts[0].actions.any()
    torch.testing.assert_close(search.inner.actions, torch.full((2, 1, 8, 2), 0.06).double())
    zero = true_cost(task, zero_plan(task).unsqueeze(1))[0][:, 0]
    torch.testing.assert_close(plan.cost_trace[:, 0], zero.detach())
    planner = GRASP()
    assert as_planner(planner) is planner
    with pytest.raises(TypeError, match=r"planner: expected a planner such as GRASP\(\) or a solver such as CEM\(\)"):
        solve("grasp", task)


@pytest.mark.parametrize("name", SEARCHING)
def test_the_same_seed_gives_the_same_plan_and_another_another(name) -> None:
    task = pendulum(horizon=8)
    planner = planner_for(name, task.model)
    first, again, other = (solve(planner, task, Budget(3), seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first.actions, again.actions) and torch.equal(first.cost_trace, again.cost_trace)
    assert not torch.allclose(first.restarts, other.restarts, rtol=1e-9, atol=0)
    keyed, _ = solve(planner, task, Budget(3), seed=make_keys(3, 2))
    assert torch.equal(keyed.actions, first.actions)


# ----- the clock -----


@pytest.mark.parametrize(
    "planner",
    [
        GradientDescent(),
        CEM(samples=8, elites=2),
        RandomShooting(samples=4),
        MultiStart(GaussNewton(), restarts=2, select=RobustChoice()),
        MultiStart(Lifted(), restarts=2, select=RobustChoice()),
    ],
    ids=["gd", "cem", "shooting", "robust choice", "robust choice, unscored"],
)
def test_a_wall_clock_budget_is_not_overshot(planner) -> None:
    model = Slow(0.004)  # 20 ms a rollout
    task = with_model(linear_quadratic(LINEAR["integrator"](), horizon=5), model)
    plan, _ = solve(planner, task, Budget(10_000, seconds=0.4))
    # counted in model calls, each of at least 4 ms: no more than 100 fit, whatever they are for
    assert plan.iterations >= 1 and model.calls <= 100


@dataclass(frozen=True)
class Ponders(RobustChoice):
    """A choice that takes 60 model calls."""

    def choose(self, problem, plans, keys):
        for _ in range(60):
            problem.model.predict(problem.states, torch.zeros_like(problem.low).expand(problem.batch, -1))
        return super().choose(problem, plans, keys)


def test_the_choice_of_the_plan_has_its_time_too() -> None:
    model = Slow(0.004)
    task = with_model(linear_quadratic(LINEAR["integrator"](), horizon=5), model)
    solve(MultiStart(GradientDescent(), restarts=2, select=Ponders()), task, Budget(10_000, seconds=0.6))
    assert model.calls <= 150  # the first choice, which shows how long it takes, among them


def test_the_starting_plans_are_returned_however_short_the_budget() -> None:
    task = with_model(linear_quadratic(LINEAR["integrator"](), horizon=5), Slow(0.002))
    plan, search = solve(GRASP(select=None), task, Budget(100, seconds=1e-6))
    assert plan.iterations == 0
    assert bool(plan.cost.isfinite().all()) and torch.equal(plan.cost, search.cost)


# ----- early stop -----


def test_converged_rows_stop_and_do_not_wait_for_their_neighbours() -> None:
    task = at_the_goal(linear_quadratic(LINEAR["integrator"](), action=0.2), 0)
    budget = Budget(500, patience=5, tolerance=1e-4)
    plan, search = solve(PLAIN, task, budget)
    assert plan.status.tolist() == [Status.CONVERGED, Status.CONVERGED]
    first, second = search.iteration.tolist()
    assert first == 5 and first < second == plan.iterations < 500
    np.testing.assert_allclose(plan.cost.numpy(), linear_quadratic_optimum(task)[0], rtol=0.01, atol=1e-6)
    assert torch.equal(plan.cost_trace[:, -1], plan.cost) and bool((plan.cost_trace.diff(dim=1) <= 0).all())
    shown = [p.converged.tolist() for p in iterate(PLAIN, task, budget)]
    assert shown[4:6] == [[False, False], [True, False]] and shown[-1] == [True, True]


def test_patience_counts_iterations_without_enough_progress() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    costs = [1.0, 0.9, 0.8, 0.795, 0.79, 0.785, 0.78, *[0.5] * 8]

    class Scripted(MultiStart):
        def step(self, problem, search):
            i = int(search.iteration[0]) + 1
            cost = torch.full_like(search.kept.cost, costs[i])
            return replace(search, iteration=search.iteration + 1, kept=replace(search.kept, cost=cost))

    planner = Scripted(Walker(), restarts=1, candidates=0)
    search = begin(planner, task)
    start = replace(search, kept=replace(search.kept, cost=torch.full((2, 1), 1.0).double()))

    def iterations(patience: int, tolerance: float) -> int:
        return solve(planner, task, Budget(14, patience=patience, tolerance=tolerance), search=start)[0].iterations

    assert iterations(3, 0.02) == 5  # 0.785 is not yet 2 % below 0.8
    assert iterations(4, 0.02) == 11  # but 0.78 is: slow progress adds up
    assert iterations(3, 0.0) == 10  # the last progress was in the seventh iteration
    assert iterations(8, 0.0) == 14


PATIENT = Budget(30, patience=6, tolerance=0.02)  # some roll out in every fifth iteration only


@pytest.mark.parametrize("planner", [*SEARCHING, TURNS, HALVED, PLAIN], ids=name_of)
def test_a_neighbour_that_converges_changes_nothing(planner) -> None:
    task = at_the_goal(linear_quadratic(LINEAR["coasting, history 3"](), batch=3, horizon=5, action=0.2), 1)
    planner = planner_for(planner, task.model) if isinstance(planner, str) else planner
    keys = make_keys(0, 3)
    plan, search = solve(planner, task, PATIENT, seed=keys)
    assert len(set(search.iteration.tolist())) > 1
    for i in range(3):
        alone, one = solve(planner, rows_of(task, i), PATIENT, seed=keys[i : i + 1])
        assert one.iteration[0] == search.iteration[i] and alone.status[0] == plan.status[i]
        torch.testing.assert_close(alone.cost[0], plan.cost[i], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(alone.actions[0], plan.actions[i], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.restarts[0], plan.restarts[i], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("planner", [PLAIN, LBFGS(), HALVED], ids=name_of)
def test_rows_may_converge_in_the_callers_context(planner, context) -> None:
    task = at_the_goal(linear_quadratic(LINEAR["integrator"](), horizon=5, action=0.2), 0)
    expected, _ = solve(planner, task, PATIENT)
    with context():
        plan, search = solve(planner, task, PATIENT)
        later, _ = solve(planner, task, Budget(2), search=shift(planner, task, search, 1))
    torch.testing.assert_close(plan.actions, expected.actions)
    assert bool(later.cost.isfinite().all())


def test_without_patience_every_iteration_is_spent() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    plan, _ = solve(CEM(samples=8, elites=2), task, Budget(40))
    assert plan.iterations == 40 and plan.status.tolist() == [Status.RUNNING] * 2


# ----- rows -----


@pytest.mark.parametrize("planner", [*SEARCHING, TURNS, HALVED], ids=name_of)
def test_rows_at_different_iterations_go_their_own_ways(planner) -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=5)
    planner = planner_for(planner, task.model) if isinstance(planner, str) else planner
    row = torch.tensor([1])
    solo, key = rows_of(task, 1), make_keys(7, 1)
    _, search = solve(planner, task, Budget(2))
    mixed = replace_rows(search, row, begin(planner, solo, key))
    together, after = solve(planner, task, Budget(3), search=mixed)
    assert after.iteration.tolist() == [5, 3]
    alone, _ = solve(planner, solo, Budget(3), seed=key)
    torch.testing.assert_close(together.actions[1], alone.actions[0], rtol=0, atol=1e-6)
    first, _ = solve(planner, rows_of(task, 0), Budget(3), search=select_rows(search, torch.tensor([0])))
    torch.testing.assert_close(together.actions[0], first.actions[0], rtol=0, atol=1e-6)


# ----- the caller's context -----


@pytest.mark.parametrize("name", SEARCHING)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_planning_works_inside_the_callers_context(name, context) -> None:
    task = pendulum(horizon=8)
    planner = planner_for(name, task.model)
    expected, _ = solve(planner, task, Budget(4))
    with context():
        inside = pendulum(horizon=8)
        plan, search = solve(planner, inside, Budget(4, seconds=1e6))
        later, _ = solve(planner, inside, Budget(4), search=shift(planner, inside, search, 1))
    assert torch.equal(plan.actions, expected.actions)
    assert not plan.actions.requires_grad and bool(later.cost.isfinite().all())


class Product(GoalDistance):
    """Rewards going the goal's way; its gradient in the states is the goal, which the graph must hold."""

    def state_cost(self, states, goal):
        return -(states * goal).flatten(1).sum(1)


@pytest.mark.parametrize("planner", [GradientDescent(), LBFGS(), GaussNewton(), LatCo(), Lifted()], ids=name_of)
def test_a_goal_encoded_in_inference_mode_may_take_part_in_gradients(planner) -> None:
    with torch.inference_mode():
        task = replace(pendulum(horizon=4), objective=Product(running=0.0))
        plan, search = solve(planner, task, Budget(2))
    later, _ = solve(planner, task, Budget(2), search=shift(planner, task, search, 1))  # outside, with what is left
    assert bool(plan.cost.isfinite().all() and later.cost.isfinite().all())


@pytest.mark.parametrize("name", SEARCHING)
def test_parameters_end_as_they_were(name) -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=4)
    task.model.on_states.requires_grad_(False)
    inside = []

    class Watched(type(task.model)):
        def predict(self, states, actions):
            inside.append(any(p.requires_grad for p in self.parameters()))
            return super().predict(states, actions)

    task.model.__class__ = Watched
    planner = planner_for(name, task.model, select=RobustChoice())
    _, search = solve(planner, task, Budget(3))
    shift(planner, task, search, 1)
    assert inside and not any(inside)
    assert [p.requires_grad for p in task.model.parameters()] == [False, True]
    assert all(p.grad is None for p in task.model.parameters())


def test_the_callers_graph_is_left_alone() -> None:
    """Encoded observations may hang on an encoder that is being trained."""
    task = pendulum(horizon=4)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    task = replace(task, states=weight * task.states, goal=weight * task.goal)
    plan, search = solve(GRASP(), task, Budget(2))
    shifted = shift(GRASP(), task, search, 1)
    for x in (plan.actions, plan.states, plan.cost, plan.defects, search.kept.states, shifted.kept.cost):
        assert not x.requires_grad
    assert weight.grad is None


# ----- failures -----


@pytest.mark.parametrize("planner", [*SEARCHING, TURNS, HALVED], ids=name_of)
def test_a_model_that_breaks_is_a_status_and_spares_the_neighbours(planner) -> None:
    task = with_model(linear_quadratic(LINEAR["integrator"](), horizon=5), Broken())
    planner = planner_for(planner, task.model) if isinstance(planner, str) else planner
    keys = make_keys(0, 2)
    states = task.states.clone()
    states[0] = 100.0
    broken = replace(task, states=states, low=task.low + 1.5, high=task.high + 1.5)
    plan, search = solve(planner, broken, Budget(4), seed=keys)
    assert plan.status.tolist() == [Status.NON_FINITE, Status.RUNNING]
    assert math.isinf(plan.cost[0]) and torch.equal(plan.actions[0], broken.low.expand(5, 2))  # zero, clipped
    assert bool(plan.defects[1].isfinite().all())

    both, _ = solve(planner, replace(task, states=states), Budget(4), seed=keys)
    alone, _ = solve(planner, rows_of(task, 1), Budget(4), seed=keys[1:])
    torch.testing.assert_close(both.actions[1], alone.actions[0], rtol=0, atol=1e-6)

    recovered, _ = solve(planner, task, Budget(4), search=shift(planner, task, search, 1))
    assert recovered.status.tolist() == [Status.RUNNING] * 2


@pytest.mark.parametrize("bound", [math.inf, math.nan])
def test_bounds_must_be_finite(bound) -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    bad = replace(task, high=torch.tensor([1.0, bound]).double())
    with pytest.raises(ValueError, match=r"expected finite action bounds with low <= high.*try an action space"):
        solve(CEM(), bad, Budget(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"goal": torch.zeros(2, 3).double()}, r"Problem.goal: expected shape \[2, 2\], got \[2, 3\]"),
        ({"states": torch.zeros(2, 2, 2).double()}, r"Problem.states: expected shape \[2, 1, 2\], got \[2, 2, 2\]"),
        ({"past_actions": torch.zeros(2, 1, 2).double()}, r"Problem.past_actions: expected shape \[2, 0, 2\]"),
        ({"low": torch.zeros(3).double()}, r"Problem.low: expected shape \[2\], got \[3\]"),
        ({"horizon": 0}, r"Problem.horizon: expected a whole number from 1 to 10000 \(model steps\), got 0"),
        ({"horizon": 9}, r"search: expected one for plans \[B, T, A\] = \[2, 9, 2\], got \[2, 8, 2\]; try begin"),
    ],
)
def test_what_does_not_fit_is_refused(change, message) -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    search = begin(CEM(), task)
    with pytest.raises(ValueError, match=message):
        solve(CEM(), replace(task, **change), Budget(1), search=search)


def test_a_search_of_another_batch_is_refused() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    search = begin(CEM(), rows_of(task, 0))
    with pytest.raises(ValueError, match=r"search: expected one for plans \[B, T, A\] = \[2, 8, 2\], got \[1, 8, 2\]"):
        solve(CEM(), task, Budget(1), search=search)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: Budget(0), "iterations: expected a whole number of at least 1, got 0"),
        (lambda: Budget(1, seconds=0.0), "seconds: expected a finite number above 0, got 0.0"),
        (lambda: Budget(1, patience=0), "patience: expected a whole number of at least 1, got 0"),
        (lambda: Budget(1, tolerance=-1.0), "tolerance: expected a finite number of at least 0, got -1.0"),
        (lambda: Budget(math.inf), "iterations: expected a whole number of at least 1, got inf"),
        (lambda: Budget(True), "iterations: expected a whole number of at least 1, got True"),
        (lambda: Budget(2.0), "iterations: expected a whole number of at least 1, got 2.0"),
        (lambda: Budget(10**400), "iterations: expected a whole number of at least 1, got 1000"),
        (lambda: Budget(1, seconds=math.nan), "seconds: expected a finite number above 0, got nan"),
        (lambda: Budget(1, seconds="1"), "seconds: expected a finite number above 0, got '1'"),
        (lambda: Budget(1, patience=1.5), "patience: expected a whole number of at least 1, got 1.5"),
        (lambda: Budget(1, tolerance=math.inf), "tolerance: expected a finite number of at least 0, got inf"),
    ],
)
def test_bad_budgets_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
