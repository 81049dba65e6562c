"""No iteration waits for the device: one that runs behind would idle while a number is read back from it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from problems import LINEAR, linear_quadratic

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Problem
from grasp_agent.planning import PLANNERS, GradientDescent
from grasp_agent.planning.grasp import GRASP

ON_CPU = {"iteration", "scored"}
EVERY_PLANNER = [
    *(kind() for kind in PLANNERS.values()),
    GRASP(sync=GradientDescent(restarts=1)),
    GRASP(restarts=6, survivors=2, sync_steps=2),
    GRASP.patches(),
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


@pytest.mark.parametrize("planner", EVERY_PLANNER, ids=lambda planner: planner.name)
def test_iterations_read_nothing_back_from_the_device(planner: Any) -> None:
    problem = linear_quadratic(LINEAR["coasting, history 3"](), horizon=4)
    state = planner.evaluate(problem, planner.init(problem, make_keys(0, problem.batch)))
    problem, state = moved(problem), without_numbers(state)
    with pytest.raises(RuntimeError):  # the device does what the test needs of it
        bool(state.best.cost.isfinite().all())
    for _ in range(3):
        state = planner.step(problem, state)
    assert state.best.cost.device.type == "meta"
