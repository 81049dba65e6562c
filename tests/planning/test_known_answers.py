"""Every planner and every solver on problems with known answers: how close they get, in bounds, row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from odd_models import Proposes
from problems import LINEAR, LinearModel, linear_quadratic, linear_quadratic_optimum, obstacle, pendulum, with_model

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget, Problem, Status
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
    RandomShooting,
    planner_for,
    rollout,
    shift,
    solve,
)
from grasp_agent.planning.plans import score
from grasp_agent.planning.rollout import select_problem, zero_plan

# iterations, and how much of the way from the zero plan to the exact optimum of a linear-quadratic problem may be
# left undone
PLANNERS_OF_NAME: dict[str, tuple[int, float]] = {
    "grasp": (10, 1e-3),
    "gd": (30, 0.1),
    "gauss_newton": (8, 1e-3),
    "lbfgs": (15, 0.01),
    "cem": (25, 0.1),
    "icem": (25, 0.1),
    "mppi": (30, 0.1),
    "latco": (60, 0.25),
    "shooting": (120, 0.4),
}
SOLVERS = {
    "gauss_newton": (GaussNewton(), 12, 1e-3),
    "gd": (GradientDescent(), 50, 0.1),
    "lbfgs": (LBFGS(), 20, 0.01),
    "cem": (CEM(), 30, 0.1),
    "icem": (ICEM(), 30, 0.1),
    "mppi": (MPPI(), 30, 0.1),
    "latco": (LatCo(), 100, 0.3),
    "shooting": (RandomShooting(), 30, 0.4),
    "lifted": (Lifted(optimizer="sgd", action_rate=0.5, state_rate=0.2, goal_weight=0.3), 100, 0.6),
    "lifted and gd": (Alternate(Lifted(), GradientDescent(), steps=(5, 30)), 70, 0.05),
    "lifted and cem": (Alternate(Lifted(), CEM(floor=0.02), steps=(5, 10)), 75, 0.2),
    "gauss_newton and lifted": (Alternate(GaussNewton(), Lifted(init_states="rollout"), steps=(4, 1)), 20, 1e-3),
}
PROBLEMS: dict[str, Callable[[], Problem]] = {
    name: (lambda make=LINEAR[name]: linear_quadratic(make()))
    for name in ("double integrator", "coasting, history 3, block 2", "patches")
}
PROBLEMS |= {"obstacle": obstacle, "pendulum": pendulum}


def checked(plan, task: Problem, iterations: int, tolerance: float) -> None:
    """A plan is a true rollout within the bounds; how good it is depends on the problem."""
    assert bool(((plan.actions >= task.low) & (plan.actions <= task.high)).all())
    states = rollout(task, plan.actions)
    torch.testing.assert_close(plan.states, states.detach())
    cost = task.objective.trajectory_cost(states[:, 1:], plan.actions, task.goal)
    torch.testing.assert_close(plan.cost, cost.detach())
    assert plan.status.tolist() == [Status.RUNNING] * task.batch and plan.iterations == iterations

    if isinstance(task.model, LinearModel):
        optimum = linear_quadratic_optimum(task)[0]
        assert np.all(plan.cost.numpy() >= optimum - 1e-9)  # nothing beats the exact optimum
        zero = score(task, zero_plan(task).unsqueeze(1)).cost[:, 0].numpy()
        assert np.all(plan.cost.numpy() - optimum <= tolerance * (zero - optimum))
    elif task.horizon == 16:  # the obstacle: full speed straight at it gets stuck; the way round arrives
        straight = rollout(task, torch.tensor([1.0, 0.0]).double().expand(2, task.horizon, 2))[:, -1]
        assert bool((task.objective.state_cost(straight, task.goal) > 1.0).all())
        assert bool((task.objective.state_cost(plan.states[:, -1], task.goal) < 0.05).all())
    else:  # the pendulum: hanging costs 4 at the end alone; upright and still costs 0 there
        assert bool((plan.cost < 1.0).all())


@pytest.mark.parametrize("name", PLANNERS_OF_NAME)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_planners_come_near_the_known_answer(name, problem) -> None:
    iterations, tolerance = PLANNERS_OF_NAME[name]
    task = PROBLEMS[problem]()
    plan, _ = solve(planner_for(name, task.model, select=None), task, Budget(iterations))
    checked(plan, task, iterations, tolerance)


def test_every_planner_but_the_prior_is_among_them() -> None:
    assert set(PLANNERS_OF_NAME) == set(PLANNERS) - {"prior"}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("problem", ["coasting, history 3, block 2", "patches"])
def test_bare_solvers_come_near_the_known_answer(name, problem) -> None:
    solver, iterations, tolerance = SOLVERS[name]
    task = PROBLEMS[problem]()
    plan, _ = solve(solver, task, Budget(iterations))
    checked(plan, task, iterations, tolerance)


@pytest.mark.parametrize("name", ["grasp", "cem", "icem", "mppi", "shooting"])
def test_the_default_choice_is_near_the_known_answer_too(name) -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"]())
    plan, _ = solve(planner_for(name, task.model), task)
    checked(plan, task, plan.iterations, 0.5)


EVERYONE = [*PLANNERS_OF_NAME, GRASP.large_latent(), GRASP.paper(), *(s[0] for s in list(SOLVERS.values())[8:11])]


def planner_of(entrant, task):
    return planner_for(entrant, task.model) if isinstance(entrant, str) else entrant


def name_of(entrant) -> str:
    return entrant if isinstance(entrant, str) else type(entrant).__name__


@pytest.mark.parametrize("entrant", EVERYONE, ids=name_of)
@pytest.mark.parametrize(
    ("problem", "proposing"), [("coasting, history 3, block 2", False), ("patches", True), ("pendulum", False)]
)
def test_a_batch_row_equals_the_same_problem_alone(entrant, problem, proposing) -> None:
    task, keys = PROBLEMS[problem](), make_keys(5, 2)
    if proposing:
        task = with_model(task, Proposes(task.model, spread=0.3))
    planner = planner_of(entrant, task)
    together, search = solve(planner, task, Budget(3), seed=keys)
    warm, _ = solve(planner, task, Budget(2), search=shift(planner, task, search, 1))
    for i in range(2):
        row = torch.tensor([i])
        solo = select_problem(task, row)
        alone, one = solve(planner, solo, Budget(3), seed=keys[row])
        torch.testing.assert_close(alone.actions[0], together.actions[i], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.cost[0], together.cost[i], rtol=1e-5, atol=1e-9)
        later, _ = solve(planner, solo, Budget(2), search=shift(planner, solo, one, 1))
        torch.testing.assert_close(later.actions[0], warm.actions[i], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PLANNERS_OF_NAME)
def test_absolute_bounds_in_environment_units(name) -> None:
    task = linear_quadratic(LINEAR["integrator"](), bound=1.0)
    task = replace(task, low=torch.tensor([0.25, -0.5]).double(), high=torch.tensor([0.875, -0.5]).double())
    plan, _ = solve(planner_for(name, task.model, select=None), task, Budget(12))
    assert bool((plan.actions >= task.low).all()) and bool((plan.actions <= task.high).all())
    assert bool((plan.actions[..., 1] == -0.5).all())  # a number that cannot vary stays what it must be
    assert np.all(plan.cost.numpy() <= linear_quadratic_optimum(task)[0] * 1.2 + 1e-6)


@pytest.mark.parametrize("entrant", EVERYONE, ids=name_of)
def test_single_step_horizon(entrant) -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=1, running=0.0)
    planner = planner_of(entrant, task)
    plan, search = solve(planner, task, Budget(15))
    zero = plan.cost_trace[:, 0].numpy()
    optimum = linear_quadratic_optimum(task)[0]
    assert np.all(plan.cost.numpy() - optimum <= 0.6 * (zero - optimum) + 1e-6)
    if isinstance(entrant, str):
        assert np.all(plan.cost.numpy() <= optimum * 1.1 + 1e-3)
    shifted = shift(planner, task, search, 1)
    assert shifted.best.actions.shape == (2, 1, 1, 2)
    assert solve(planner, task, Budget(1), search=shifted)[0].cost.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("entrant", EVERYONE, ids=name_of)
def test_dtype_comes_from_the_problem(entrant, dtype) -> None:
    task = linear_quadratic(LINEAR["integrator"]().to(dtype), horizon=4)
    names = ("states", "past_actions", "goal", "low", "high")
    task = replace(task, **{name: getattr(task, name).to(dtype) for name in names})
    planner = planner_of(entrant, task)
    plan, search = solve(planner, task, Budget(3))
    assert plan.actions.dtype == plan.states.dtype == plan.cost.dtype == plan.defects.dtype == dtype
    assert shift(planner, task, search, 1).kept.cost.dtype == dtype


@pytest.mark.parametrize("name", PLANNERS_OF_NAME)
def test_single_precision_comes_near_the_known_answer(name) -> None:
    iterations, _ = PLANNERS_OF_NAME[name]
    exact = linear_quadratic(LINEAR["coasting, history 3"]())
    task = replace(exact, model=LINEAR["coasting, history 3"]().float())
    task = replace(task, **{n: getattr(task, n).float() for n in ("states", "past_actions", "goal", "low", "high")})
    plan, _ = solve(planner_for(name, task.model, select=None), task, Budget(iterations))
    optimum = linear_quadratic_optimum(exact)[0]
    zero = score(exact, zero_plan(exact).unsqueeze(1)).cost[:, 0].numpy()
    assert np.all(plan.cost.numpy() - optimum <= 0.2 * (zero - optimum))
