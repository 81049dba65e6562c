"""What planning refuses to begin with, each in one sentence with what was expected and what came."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from problems import integrator, linear_quadratic

from grasp_agent.core.types import Budget
from grasp_agent.planning import (
    CEM,
    GRASP,
    ICEM,
    LBFGS,
    Alternate,
    GaussNewton,
    GradientDescent,
    Lifted,
    MultiStart,
    RandomShooting,
    begin,
    planner_for,
    shift,
    solve,
    with_settings,
)
from grasp_agent.planning.checks import check_world_model

PROBLEM = linear_quadratic(integrator(), batch=1, horizon=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lifted(balance=1), "Lifted.balance: expected True or False, got 1"),
        (lambda: Lifted(anneal_goal="no"), "Lifted.anneal_goal: expected True or False, got 'no'"),
        (lambda: Lifted(stop_gradient="x"), "Lifted.stop_gradient: expected True or False, got 'x'"),
        (lambda: Lifted(optimizer=["adam"]), "Lifted.optimizer: expected one of 'adam', 'sgd', got"),
        (lambda: CEM(samples=True), "CEM.samples: expected a whole number of at least 2, got True"),
        (lambda: CEM(samples=10**400), "CEM.samples: expected a whole number of at least 2, got 1000"),
        (
            lambda: CEM(floor=1e39),
            "CEM.floor: expected a finite number of at least 0, got 1e.39; numbers end at 3.4e.38",
        ),
        (lambda: RandomShooting(scale=math.nan), "RandomShooting.scale: expected a finite number above 0, got nan"),
        (lambda: MultiStart(CEM(), halving=5), "MultiStart.halving: expected pairs .* got 5"),
        (lambda: MultiStart(CEM(), halving=((1,),)), "MultiStart.halving: expected pairs"),
        (lambda: MultiStart(CEM(), halving=((1, True),)), "MultiStart.halving: expected pairs"),
        (lambda: MultiStart(CEM(), resample=3), "MultiStart.resample: expected a TailResample or None, got 3"),
        (lambda: MultiStart(CEM(), select=0.1), "MultiStart.select: expected a RobustChoice or None, got 0.1"),
        (lambda: MultiStart(CEM), "MultiStart.solver: expected a solver such as GaussNewton.*, got <class"),
        (lambda: Alternate(CEM(), LBFGS(), None), "Alternate.steps: expected two whole numbers .*, got None"),
        (lambda: Alternate(CEM(), LBFGS(), (1, True)), "Alternate.steps: expected two whole numbers"),
        (lambda: planner_for([], PROBLEM.model), r"planner: expected one of .*, got \[\]"),
        (lambda: with_settings(GRASP(), 5), "settings: expected a dictionary such as .*, got 5"),
    ],
)
def test_settings_of_planners(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"horizon": True}, "Problem.horizon: expected a whole number .*, got True"),
        ({"horizon": 1.5}, "Problem.horizon: expected a whole number .*, got 1.5"),
        ({"goal": [[0.0, 0.0]]}, "Problem.goal: expected a tensor, got"),
        (
            {"goal": PROBLEM.goal.float()},
            "Problem.goal: expected float32 or float64 as in all other parts, got torch.float32",
        ),
        ({"states": PROBLEM.states.long()}, "Problem.states: expected float32 or float64 .*, got torch.int64"),
        ({"states": PROBLEM.states[:0]}, "Problem.states: expected at least one row, .* got"),
        ({"model": 5}, "Problem.model: expected an object with encode, .* got int"),
        ({"objective": None}, "Problem.objective: expected one such as GoalDistance.*, got None"),
        ({"high": torch.full((2,), math.inf).double()}, "expected finite action bounds"),
        (
            {"low": -1e308 * torch.ones(2).double(), "high": 1e308 * torch.ones(2).double()},
            "expected finite action bounds",
        ),
    ],
)
def test_problems(changed: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        solve(CEM(), replace(PROBLEM, **changed), Budget(1))


def test_a_horizon_may_be_numpys() -> None:
    plain, _ = solve(CEM(), replace(PROBLEM, horizon=140), Budget(1))
    small, _ = solve(CEM(), replace(PROBLEM, horizon=np.uint8(140)), Budget(1))  # twice as many would be 24
    assert torch.equal(small.actions, plain.actions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 5}, "budget: expected a Budget or None, got 5; try Budget"),
        ({"seed": "a"}, "seed: expected a whole number, got 'a'"),
        ({"seed": True}, "seed: expected a whole number, got True"),
        ({"seed": torch.zeros(1)}, r"seed: expected a whole number, or int64 keys of shape \[1\], got torch.float32"),
        ({"search": 5}, "search: expected what begin.* returned, got 5"),
    ],
)
def test_arguments_of_solve(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        solve(CEM(), PROBLEM, **{"budget": Budget(1), **options})


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 + 5, 10**400])
def test_seeds_of_any_size(seed: int) -> None:
    plan, _ = solve(CEM(), PROBLEM, Budget(1), seed=seed)
    assert bool(plan.cost.isfinite().all())


@pytest.mark.parametrize(
    ("made_by", "planner"),
    [
        (GradientDescent(), CEM()),
        (GradientDescent(optimizer="sgd"), GradientDescent()),
        (Lifted(optimizer="sgd"), Lifted()),
        (LBFGS(memory=3), LBFGS()),
        (ICEM(keep=0.0), ICEM()),
        (Alternate(CEM(), LBFGS()), Alternate(LBFGS(), CEM())),
        (MultiStart(GaussNewton(), restarts=2), MultiStart(GaussNewton(), restarts=3)),
    ],
)
def test_what_another_planner_knows(made_by: Any, planner: Any) -> None:
    search = begin(made_by, PROBLEM)
    for going_on in (
        lambda: solve(planner, PROBLEM, Budget(1), search=search),
        lambda: shift(planner, PROBLEM, search, 1),
    ):
        with pytest.raises(ValueError, match=r"search: expected one of .* another solver; try begin"):
            going_on()
    solve(made_by, PROBLEM, Budget(1), search=shift(made_by, PROBLEM, search, 1))


@pytest.mark.parametrize("steps", [3, 4, 2**70])
def test_after_the_last_step_of_a_plan_nothing_is_left_of_it(steps: int) -> None:
    _, search = solve(GradientDescent(), PROBLEM, Budget(3))
    assert bool((shift(GradientDescent(), PROBLEM, search, steps).kept.actions == 0).all())


@pytest.mark.parametrize(("steps", "kind"), [(-1, ValueError), (1.0, TypeError), (True, TypeError)])
def test_steps_of_a_shift(steps: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="steps: expected a whole number of at least 0, got"):
        shift(CEM(), PROBLEM, begin(CEM(), PROBLEM), steps)


def test_a_models_numbers_are_pythons_own() -> None:
    model = integrator()
    assert check_world_model(model) is model
    model.history = np.uint8(1)  # of which the negative would be 255
    with pytest.raises(TypeError, match=r"world_model\.history: expected an int of Python, got np\.uint8\(1\); try 1"):
        check_world_model(model)
