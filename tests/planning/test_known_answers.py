"""Every planner on problems with known answers: how close it gets, in bounds, repeatable, row by row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from problems import (
    LINEAR,
    linear_quadratic,
    linear_quadratic_optimum,
    obstacle,
    pendulum,
)

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget, Status
from grasp_agent.planning import (
    CEM,
    GRASP,
    ICEM,
    MPPI,
    PLANNERS,
    GaussNewton,
    GradientDescent,
    LatCo,
    RandomShooting,
    rollout,
    select_problem,
    solve,
)

# planner, iterations, and how much of the way from the zero plan to the exact optimum of a linear-quadratic
# problem it may leave undone
ENTRANTS = {
    "grasp": (GRASP(sync_steps=10, caution=0.0), 44, 1e-5),
    "grasp, gd sync": (
        GRASP(sync=GradientDescent(restarts=1), sync_every=10, sync_steps=60, reseed=None, branches=0, caution=0.0),
        280,
        0.002,
    ),
    "grasp, cem sync": (GRASP(sync=CEM(floor=0.02), sync_every=10, sync_steps=10, restarts=2, caution=0.0), 100, 0.1),
    "gauss_newton": (GaussNewton(), 20, 1e-6),
    "gd": (GradientDescent(rate=0.05), 200, 0.001),
    "cem": (CEM(samples=128, elites=12), 80, 0.02),
    "icem": (ICEM(samples=128, elites=12, exponent=0.5), 80, 0.04),
    "mppi": (MPPI(samples=256), 60, 0.06),
    "latco": (LatCo(), 200, 0.03),
    "shooting": (RandomShooting(samples=512), 40, 0.25),
}
PROBLEMS = {name: (lambda make=make: linear_quadratic(make())) for name, make in LINEAR.items()}
PROBLEMS |= {"obstacle": obstacle, "pendulum": pendulum}


def run(planner, problem, iterations, seed=0, **budget):
    keys = make_keys(seed, problem.batch)
    return solve(planner, problem, planner.init(problem, keys), Budget(iterations, **budget))


def zero_cost(problem) -> np.ndarray:
    zero = torch.zeros(problem.batch, problem.horizon, problem.action_size).double()
    return problem.objective.trajectory_cost(rollout(problem, zero)[:, 1:], zero, problem.goal).detach().numpy()


def test_the_registry_knows_every_planner_by_its_name() -> None:
    known = {GRASP, GradientDescent, GaussNewton, CEM, ICEM, MPPI, LatCo, RandomShooting}
    assert set(PLANNERS.values()) == known
    assert all(name == planner().name for name, planner in PLANNERS.items())


@pytest.mark.parametrize("entrant", ENTRANTS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_cost_bound_bounds_and_true_rollout(entrant, problem) -> None:
    planner, iterations, tolerance = ENTRANTS[entrant]
    task = PROBLEMS[problem]()
    plan, _ = run(planner, task, iterations)

    if problem in LINEAR:
        optimum = linear_quadratic_optimum(task)[0]
        assert np.all(plan.cost.numpy() >= optimum - 1e-9)  # nothing beats the exact optimum
        zero = zero_cost(task)
        assert np.all(plan.cost.numpy() - optimum <= tolerance * (zero - optimum))
    elif problem == "obstacle":  # full speed straight at it gets stuck; the way round arrives
        straight = rollout(task, torch.tensor([1.0, 0.0]).double().expand(2, task.horizon, 2))[:, -1]
        assert bool((task.objective.state_cost(straight, task.goal) > 1.0).all())
        assert bool((task.objective.state_cost(plan.states[:, -1], task.goal) < 0.05).all())
    else:  # hanging costs 4 at the end alone; upright and still costs 0 there
        assert bool((plan.cost < 1.0).all())

    assert bool(((plan.actions >= task.low) & (plan.actions <= task.high)).all())
    states = rollout(task, plan.actions)
    torch.testing.assert_close(plan.states, states)
    torch.testing.assert_close(plan.cost, task.objective.trajectory_cost(states[:, 1:], plan.actions, task.goal))
    assert bool((plan.cost_trace.diff(dim=1) <= 0).all())
    assert torch.equal(plan.cost_trace[:, -1], plan.cost)
    assert plan.status.tolist() == [Status.RUNNING] * task.batch
    assert plan.iterations == iterations


@pytest.mark.parametrize("model", ["integrator", "coasting, history 3"])
def test_gradient_planners_reach_the_exact_optimum(model) -> None:
    task = linear_quadratic(LINEAR[model](), horizon=5, action=0.5)
    cost, actions = linear_quadratic_optimum(task)
    for planner in (
        GradientDescent(restarts=1, rate=0.3, optimizer="sgd"),
        GRASP(
            restarts=1,
            sync=GradientDescent(restarts=1, rate=0.3, optimizer="sgd"),
            sync_every=1,
            sync_steps=2000,
            reseed=None,
            branches=0,
        ),
        GaussNewton(restarts=1),
        GRASP(restarts=1),
    ):
        plan, _ = run(planner, task, 400)
        np.testing.assert_allclose(plan.cost.numpy(), cost, rtol=1e-7)
        np.testing.assert_allclose(plan.actions.numpy(), actions, atol=1e-3)


def test_the_lifted_iterations_alone_make_a_good_plan() -> None:
    task = linear_quadratic(LINEAR["integrator"](), action=0.0, running=0.0)
    planner = GRASP(restarts=1, sync_every=None, goal_weight=0.1, anneal=100, action_rate=0.05)
    plan, _ = run(planner, task, 300)
    still = task.objective.state_cost(task.states[:, -1], task.goal)
    assert bool((plan.cost < 1e-2 * still).all())
    assert float(plan.defects.max()) < 1e-3  # the virtual states have become a trajectory of the model


@pytest.mark.parametrize("entrant", ENTRANTS)
def test_the_same_keys_give_the_same_plan_and_others_another(entrant) -> None:
    planner, task = ENTRANTS[entrant][0], pendulum()
    first, again, other = (run(planner, task, 15, seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first.actions, again.actions) and torch.equal(first.cost_trace, again.cost_trace)
    assert not torch.equal(first.actions, other.actions)


@pytest.mark.parametrize("entrant", ENTRANTS)
@pytest.mark.parametrize("problem", ["coasting, history 3, block 2", "patches", "pendulum"])
def test_a_batch_row_equals_the_same_problem_alone(entrant, problem) -> None:
    planner = ENTRANTS[entrant][0]
    if "grasp" in entrant:
        planner = replace(planner, sync_every=5, sync_steps=5)
    task, keys = PROBLEMS[problem](), make_keys(5, 2)
    together, _ = solve(planner, task, planner.init(task, keys), Budget(20))
    for i in range(2):
        row = torch.tensor([i])
        solo = select_problem(task, row)
        alone, _ = solve(planner, solo, planner.init(solo, keys[row]), Budget(20))
        torch.testing.assert_close(alone.actions[0], together.actions[i], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.cost[0], together.cost[i], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("entrant", ENTRANTS)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_planning_works_inside_the_callers_context(entrant, context) -> None:
    planner = ENTRANTS[entrant][0]
    expected, _ = run(planner, pendulum(), 12)
    with context():
        task = pendulum()
        plan, state = run(planner, task, 12)
        later, _ = solve(planner, task, planner.shift(task, state, 1), Budget(12))
    assert torch.equal(plan.actions, expected.actions)
    assert not plan.actions.requires_grad and bool(later.cost.isfinite().all())


@pytest.mark.parametrize("entrant", ENTRANTS)
def test_parameters_end_as_they_were(entrant) -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    task.model.on_states.requires_grad_(False)
    inside = []

    class Watched(type(task.model)):
        def predict(self, states, actions):
            inside.append(any(p.requires_grad for p in self.parameters()))
            return super().predict(states, actions)

    task.model.__class__ = Watched
    run(ENTRANTS[entrant][0], task, 12)
    assert inside and not any(inside)
    assert [p.requires_grad for p in task.model.parameters()] == [False, True]
    assert all(p.grad is None for p in task.model.parameters())


@pytest.mark.parametrize(
    "planner",
    [
        GRASP(restarts=1),
        GradientDescent(restarts=1),
        CEM(),
        ICEM(),
        MPPI(),
        LatCo(),
        RandomShooting(),
    ],
)
def test_absolute_bounds_in_environment_units(planner) -> None:
    task = linear_quadratic(LINEAR["integrator"](), bound=1.0)
    task = replace(task, low=torch.tensor([0.25, -0.5]).double(), high=torch.tensor([0.875, -0.5]).double())
    plan, _ = run(planner, task, 20)
    assert bool((plan.actions >= task.low).all()) and bool((plan.actions <= task.high).all())
    assert bool((plan.actions[..., 1] == -0.5).all())  # a number that cannot vary stays what it must be
    assert np.all(plan.cost.numpy() <= linear_quadratic_optimum(task)[0] * 1.2 + 1e-6)


@pytest.mark.parametrize("entrant", ENTRANTS)
def test_single_step_horizon(entrant) -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=1, running=0.0)
    plan, state = run(ENTRANTS[entrant][0], task, 60)
    assert np.all(plan.cost.numpy() <= linear_quadratic_optimum(task)[0] * 1.1 + 1e-3)
    shifted = ENTRANTS[entrant][0].shift(task, state, 1)
    assert shifted.best.actions.shape == (2, 1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("entrant", ENTRANTS)
def test_dtype_comes_from_the_problem(entrant, dtype) -> None:
    task = linear_quadratic(LINEAR["integrator"]().to(dtype))
    names = ("states", "past_actions", "goal", "low", "high")
    task = replace(task, **{name: getattr(task, name).to(dtype) for name in names})
    plan, _ = run(ENTRANTS[entrant][0], task, 12)
    assert plan.actions.dtype == plan.states.dtype == plan.cost.dtype == plan.defects.dtype == dtype
