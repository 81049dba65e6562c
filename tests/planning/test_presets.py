"""Planners by name, and settings by path."""

from __future__ import annotations

from dataclasses import replace

import pytest
from odd_models import Proposes
from problems import LINEAR, linear_quadratic, with_model

from grasp_agent.core.types import Budget
from grasp_agent.planning import GRASP, PLANNERS, GaussNewton, MultiStart, planner_for, solve, with_settings

MODEL = LINEAR["integrator"]()


def test_names_are_those_of_the_solvers() -> None:
    for name, make in PLANNERS.items():
        planner = make(MODEL)
        assert isinstance(planner, MultiStart)
        assert planner == planner_for(name, MODEL)
        if name not in ("grasp", "prior"):
            assert planner.solver.name == name


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_asks_the_model_for_proposals(name) -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=4)
    task = with_model(task, Proposes(task.model))
    plan, _ = solve(planner_for(name, task.model), task, Budget(2))
    assert task.model.asked > 0 and plan.cost.isfinite().all()


def test_settings_are_changed_by_their_path() -> None:
    planner = planner_for("grasp", MODEL, **{"restarts": 7, "solver.first.damping": 0.5, "resample.tails": 3})
    assert planner.restarts == 7 and planner.solver.first == GaussNewton(damping=0.5) and planner.resample.tails == 3
    assert planner.solver.then == GRASP().solver.then and planner.solver.steps == (1, 1)
    assert replace(planner, restarts=4, solver=GRASP().solver, resample=GRASP().resample) == GRASP()
    assert planner_for("gd", MODEL, **{"solver.rate": 0.1, "solver.optimizer": "sgd"}).solver.optimizer == "sgd"
    assert with_settings(GRASP(), {}) == GRASP()
    assert with_settings(GRASP(), {"select": None}).select is None
    many = {"halving": ((2, 6),), "restarts": 20}  # more than the 4 restarts that are there
    assert (
        with_settings(GRASP(), many)
        == with_settings(GRASP(), dict(reversed(many.items())))
        == GRASP(halving=((2, 6),), restarts=20)
    )
    whole = {"solver.damping": 0.5, "solver": GaussNewton(damping=0.1)}
    assert with_settings(GRASP(), whole).solver == GaussNewton(damping=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"restart": 3}, r"setting 'restart': expected one of solver, restarts, .* at 'restart' of GRASP"),
        ({"solver.third.damping": 1.0}, r"'solver.third.damping': expected one of first, then, steps at 'third' of Al"),
        ({"restarts.more": 1}, r"'restarts.more': expected one of no further names at 'more' of int"),
        ({"solver.first.damping": -1.0}, r"GaussNewton.damping: expected a finite number above 0, got -1.0"),
        ({"halving": ((1, 99),)}, r"GRASP.halving: expected pairs"),
    ],
)
def test_settings_that_lead_nowhere_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        planner_for("grasp", MODEL, **settings)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"planner: expected one of grasp, gd, .*, prior, got 'dreamer'"):
        planner_for("dreamer", MODEL)
