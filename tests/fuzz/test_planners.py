"""Planners, budgets and problems: what is accepted plans, what is not accepted is refused in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from odd_models import Proposes, StatesOnly
from odd_values import ODD, SEEDS, SMALL, answered, examples, some_fields
from problems import coasting, integrator, linear_quadratic, with_model

from grasp_agent.core.types import Budget, Plan, Problem, Status
from grasp_agent.planning import (
    CEM,
    GRASP,
    ICEM,
    LBFGS,
    MPPI,
    PLANNERS,
    Alternate,
    GaussNewton,
    GradientDescent,
    LatCo,
    Lifted,
    MultiStart,
    Prior,
    RandomShooting,
    RobustChoice,
    TailResample,
    begin,
    planner_for,
    shift,
    solve,
    with_settings,
)
from grasp_agent.planning.prior import Stay

SOLVERS = (CEM, ICEM, MPPI, RandomShooting, LatCo, Lifted, GaussNewton, GradientDescent, LBFGS)
KINDS = (*SOLVERS, Alternate, MultiStart, GRASP, Prior, TailResample, RobustChoice)
NEEDED: dict[type, dict[str, Any]] = {
    MultiStart: {"solver": Stay(), "restarts": 3, "candidates": 2},
    GRASP: {"restarts": 3, "candidates": 2},
    Alternate: {"first": GradientDescent(), "then": Lifted()},
    **{kind: {"samples": 8} for kind in (MPPI, RandomShooting)},
    **{kind: {"samples": 8, "elites": 4} for kind in (CEM, ICEM)},
}
TWO = Budget(iterations=2)


def in_single(problem: Problem) -> Problem:
    """The problem in single precision."""
    problem.model.float()  # type: ignore[attr-defined]
    parts = ("states", "past_actions", "goal", "low", "high")
    return replace(problem, **{name: getattr(problem, name).float() for name in parts})


PROBLEMS = (
    in_single(linear_quadratic(integrator(), batch=1, horizon=3)),
    linear_quadratic(coasting(block=2), batch=2, horizon=3),
)
PROPOSING = with_model(PROBLEMS[1], Proposes(PROBLEMS[1].model))
MATCHING = st.sampled_from((*PROBLEMS, PROPOSING))


def check_plan(problem: Problem, plan: Plan) -> None:
    """Of the declared shape, within the bounds, and finite, or else it says that it is not."""
    b, steps, size, shape = problem.batch, problem.horizon, problem.action_size, problem.model.state_shape
    assert plan.actions.shape == (b, steps, size) and plan.states.shape == (b, steps + 1, *shape)
    assert plan.cost.shape == plan.status.shape == (b,)
    assert bool(plan.actions.isfinite().all())
    assert bool(((plan.actions >= problem.low) & (plan.actions <= problem.high)).all())
    assert bool((plan.cost.isfinite() | (plan.status == Status.NON_FINITE)).all())


def make(kind: type, changed: dict[str, Any]) -> Any:
    return kind(**{**NEEDED.get(kind, {}), **changed})


def as_part(part: Any) -> Any:
    """A planner that has the part."""
    if isinstance(part, TailResample):
        return replace(GRASP(), resample=part)
    return replace(GRASP(), select=part) if isinstance(part, RobustChoice) else part


@examples(400)
@given(st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), some_fields(kind))), MATCHING, SEEDS)
def test_every_field_of_every_planner(made: tuple[type, dict[str, Any]], problem: Problem, seed: Any) -> None:
    kind, changed = made
    part = answered(lambda: make(kind, changed))
    if part is None:
        return
    # The plan alone would not tell: the best one so far is kept, whatever a solver does with NaN.
    assert all(math.isfinite(value) for value in changed.values() if isinstance(value, int | float)), changed
    flags = {f.name for f in fields(kind) if f.type == "bool"}
    assert all(name in flags for name, value in changed.items() if isinstance(value, bool)), changed
    solved = answered(lambda: solve(as_part(part), problem, TWO, seed=seed))
    if solved is not None:
        check_plan(problem, solved[0])
        assert bool(solved[0].cost.isfinite().all())


@examples(150)
@given(some_fields(Budget, ODD | st.integers() | st.floats()))
def test_every_field_of_a_budget(changed: dict[str, Any]) -> None:
    budget = answered(lambda: Budget(**changed))
    if budget is not None and budget.iterations < 100:
        plan, _ = solve(GradientDescent(), PROBLEMS[0], budget)
        check_plan(PROBLEMS[0], plan)
        assert plan.iterations <= budget.iterations


@examples(200)
@given(MATCHING, st.dictionaries(st.sampled_from([f.name for f in fields(Problem)]), ODD, min_size=1, max_size=2))
def test_every_part_of_a_problem(problem: Problem, changed: dict[str, Any]) -> None:
    odd = replace(problem, **changed)
    solved = answered(lambda: solve(GRASP(), odd, TWO))
    if solved is not None:
        check_plan(odd, solved[0])


@examples(150)
@given(MATCHING, st.data())
def test_every_number_of_a_problem(problem: Problem, data: st.DataObject) -> None:
    """NaN, infinity and huge numbers in the tensors, and tensors of other dtypes and shapes."""
    name = data.draw(st.sampled_from(["states", "past_actions", "goal", "low", "high"]))
    whole = getattr(problem, name)
    kind = data.draw(st.sampled_from(["number", "dtype", "fewer", "longer", "batched", "graph"]))
    if kind == "number":
        odd = whole.clone()
        if odd.numel():
            odd.view(-1)[data.draw(st.integers(0, odd.numel() - 1))] = data.draw(st.floats(width=32))
    elif kind == "dtype":
        odd = whole.to(data.draw(st.sampled_from([torch.int64, torch.float16, torch.float32, torch.bool])))
    elif kind == "graph":
        odd = whole.clone().requires_grad_(True)
    else:
        odd = {"fewer": whole[:0], "longer": torch.cat([whole, whole]), "batched": whole.unsqueeze(0)}[kind]
    changed = replace(problem, **{name: odd})
    planner = data.draw(st.sampled_from([GRASP(), MultiStart(CEM()), MultiStart(LatCo())]))
    solved = answered(lambda: solve(planner, changed, TWO))
    if solved is not None:
        check_plan(changed, solved[0])


KNOWN = begin(GRASP(), PROBLEMS[0])


@examples(70)
@given(ODD | st.just(GRASP()), ODD | st.just(TWO), SEEDS, ODD)
def test_every_argument_of_solve(planner: Any, budget: Any, seed: Any, search: Any) -> None:
    problem = PROBLEMS[0]
    asked: tuple[Callable[[], Any], ...] = (
        lambda: solve(planner, problem, TWO),
        lambda: solve(GRASP(), problem, budget),
        lambda: solve(GRASP(), problem, TWO, seed=seed),
        lambda: solve(GRASP(), problem, TWO, search=search),
        lambda: solve(GRASP(), problem, TWO, search=shift(GRASP(), problem, KNOWN, seed)),
    )
    for solved in filter(None, map(answered, asked)):
        check_plan(problem, solved[0])
    answered(lambda: begin(planner, problem, seed))
    answered(lambda: shift(planner, problem, search, 1))


ANYONE = st.sampled_from(
    [
        *(make(kind, {}) for kind in (*SOLVERS, Alternate, MultiStart, GRASP)),
        *(GradientDescent(optimizer="sgd"), Lifted(optimizer="sgd"), LBFGS(memory=3), ICEM(keep=0.0)),
        *(Alternate(Lifted(), GradientDescent()), replace(GRASP(), restarts=2), MultiStart(GaussNewton(), restarts=3)),
    ]
)


@examples(100)
@given(ANYONE, ANYONE, st.sampled_from(PROBLEMS), st.sampled_from(PROBLEMS), st.booleans())
def test_going_on_from_what_another_planner_knows(
    one: Any, other: Any, problem: Problem, posed: Problem, moved: bool
) -> None:
    _, search = solve(one, problem, TWO)
    if moved:
        search = answered(lambda: shift(other, posed, search, 1))
    if search is not None:
        solved = answered(lambda: solve(other, posed, TWO, search=search))
        if solved is not None:
            check_plan(posed, solved[0])


NAMES = st.sampled_from([*PLANNERS, "Grasp", "prior "]) | ODD
PATHS = st.sampled_from(["restarts", "solver.damping", "solver.first.damping", "solver", "resample.tails", "a.b", ""])


@examples(150)
@given(NAMES, st.dictionaries(PATHS, ODD, max_size=2), MATCHING)
def test_every_planner_by_its_name(name: Any, settings: dict[str, Any], problem: Problem) -> None:
    planner = answered(lambda: planner_for(name, problem.model, problem.objective, **settings))
    if planner is not None:
        solved = answered(lambda: solve(planner, problem, TWO))
        if solved is not None:
            check_plan(problem, solved[0])


@examples(60)
@given(ODD, ODD | st.dictionaries(ODD.filter(lambda x: getattr(x, "__hash__", None)), SMALL, max_size=1))
def test_settings_of_anything(planner: Any, settings: Any) -> None:
    answered(lambda: with_settings(planner, settings))
    answered(lambda: with_settings(GRASP(), settings))


@examples(40)
@given(st.sampled_from([make(kind, {}) for kind in (*SOLVERS, Alternate, GRASP)]))
def test_a_model_that_ignores_the_actions(planner: Any) -> None:
    problem = with_model(PROBLEMS[0], StatesOnly().float())
    solved = answered(lambda: solve(planner, problem, TWO))
    if solved is not None:
        check_plan(problem, solved[0])
