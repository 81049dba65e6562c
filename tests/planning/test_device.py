"""No iteration waits for the device: one that runs behind would idle while a number is read back from it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from problems import LINEAR, linear_quadratic

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Problem
from grasp_agent.planning import (
    CEM,
    GRASP,
    LBFGS,
    PLANNERS,
    Alternate,
    GaussNewton,
    GradientDescent,
    Lifted,
    MultiStart,
    RandomShooting,
    RobustChoice,
    TailResample,
    as_planner,
    planner_for,
)

ON_CPU = {"iteration"}
EVERY_PLANNER = [
    *(name for name in PLANNERS if name != "prior"),
    GRASP.large_latent(),
    GRASP.paper(),
    MultiStart(LBFGS(), restarts=6, halving=((1, 3), (2, 1)), resample=TailResample(3)),
    MultiStart(GaussNewton(), restarts=3, select=RobustChoice(0.01), resample=TailResample(2, first=2)),
    Alternate(Lifted(window=2, clip=1.0, balance=True), CEM(samples=4, elites=2)),
    Alternate(GradientDescent(clip=1.0), RandomShooting(samples=4)),
]


def without_numbers(tree: Any) -> Any:
    """The same on the device that holds shapes alone, where reading a number is an error."""
    if isinstance(tree, torch.Tensor):
        return tree.to("meta")
    if not is_dataclass(tree):
        return tree
    names = (f.name for f in fields(tree) if f.name not in ON_CPU | {"model", "objective"})
    return replace(tree, **{name: without_numbers(getattr(tree, name)) for name in names})  # type: ignore[type-var]


def moved(problem: Problem) -> Problem:
    elsewhere: Problem = without_numbers(problem)
    problem.model.to("meta")  # type: ignore[attr-defined]
    return elsewhere


@pytest.mark.parametrize("planner", EVERY_PLANNER, ids=lambda p: p if isinstance(p, str) else type(p).__name__)
def test_iterations_read_nothing_back_from_the_device(planner: Any) -> None:
    problem = linear_quadratic(LINEAR["coasting, history 3"](), horizon=4)
    planner = as_planner(planner_for(planner, problem.model) if isinstance(planner, str) else planner)
    search = planner.begin(problem, make_keys(0, problem.batch))
    problem, search = moved(problem), without_numbers(search)
    with pytest.raises(RuntimeError):  # the device does what the test needs of it
        bool(search.cost.isfinite().all())
    for _ in range(2):
        search = planner.step(problem, search)
    search = planner.evaluate(problem, search)
    plan = planner.finish(problem, search)
    shifted = planner.shift(problem, search, 1)
    assert {search.cost.device.type, plan.actions.device.type, shifted.cost.device.type} == {"meta"}
    assert search.iteration.tolist() == [2, 2] and shifted.iteration.tolist() == [0, 0]
