"""Two solvers in turns: who runs when, and what is handed over."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from problems import LINEAR, linear_quadratic, pendulum, random_plans
from walker import Walker

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget
from grasp_agent.planning import (
    CEM,
    ICEM,
    LBFGS,
    MPPI,
    Alternate,
    GaussNewton,
    GradientDescent,
    LatCo,
    Lifted,
    MultiStart,
    RandomShooting,
    solve,
)
from grasp_agent.planning.plans import doubt_of, scored_start
from grasp_agent.planning.rollout import latent_scale, true_cost

KEYS = make_keys(0, 2)


def problem(horizon: int = 4):
    return linear_quadratic(LINEAR["coasting, history 3"](), horizon=horizon)


def begun(task, solver, size: float = 0.5):
    return solver.init(task, scored_start(task, random_plans(task, size=size)), KEYS)


def walkers(steps: tuple[int, int], **kind):
    """An `Alternate` of two walkers that write into one log, and the log."""
    log: list[str] = []
    first = Walker(0.01, "a", log, **kind.get("first", {}))
    then = Walker(0.1, "b", log, **kind.get("then", {}))
    return Alternate(first, then, steps=steps), log


# ----- turns -----


@pytest.mark.parametrize("steps", [(1, 1), (2, 3), (3, 1)])
def test_who_runs_when(steps) -> None:
    solver, log = walkers(steps)
    state = begun(problem(), solver)
    assert log == ["init a", "init b"]
    log.clear()
    for _ in range(2 * sum(steps) + 1):
        state, _ = solver.step(problem(), state)
    j, k = steps
    first, then = ["step a"] * j, ["step b"] * k
    assert log == [*first, "restart b", *then, "restart a", *first, "restart b", *then, "restart a", "step a"]
    assert state.first.count.tolist() == [2 * j + 1] * 2 and state.then.count.tolist() == [2 * k] * 2


def test_the_plan_is_handed_over_and_nothing_is_lost() -> None:
    task = problem()
    solver, _ = walkers((2, 1))
    state = begun(task, solver)
    u = state.first.actions
    for change in (0.01, 0.01, 0.1, 0.01, 0.01, 0.1, 0.01):
        state, _ = solver.step(task, state)
        u = (u + change).clamp(-1, 1)
        current = solver.current(task, state)
        torch.testing.assert_close(current.actions, u)  # the latest solver's plan
        torch.testing.assert_close(current.cost, true_cost(task, u.unsqueeze(1))[0][:, 0].detach())


def test_what_was_rolled_out_at_a_change_is_found() -> None:
    task = problem()
    for scores in (False, True):
        solver, _ = walkers((2, 2), then={"scores": scores})
        state = begun(task, solver)
        found = []
        for i in range(6):
            before = solver.current(task, state)
            state, plans = solver.step(task, state)
            found.append(0 if plans is None else plans.cost.shape[1])
            if i in (2, 4):
                torch.testing.assert_close(plans.actions[:, 0], before.actions)
                torch.testing.assert_close(plans.cost[:, 0], before.cost)
            elif plans is not None:
                torch.testing.assert_close(plans.actions[:, 0], state.then.actions)
        assert found == ([0, 0, 2, 1, 1, 0] if scores else [0, 0, 1, 0, 1, 0])


def test_a_solver_learns_how_far_rollout_and_virtual_states_are_apart() -> None:
    task = problem()
    solver, _ = walkers((1, 1), first={"gap": 0.3})
    state = begun(task, solver)
    for _ in range(3):
        state, _ = solver.step(task, state)
    _, to_then = solver.then.starts
    torch.testing.assert_close(to_then.doubt, (0.3 / latent_scale(task)).unsqueeze(1).expand(2, 4))
    _, to_first = solver.first.starts
    assert to_first.doubt is None


def test_keys_differ_from_turn_to_turn_and_solver_to_solver() -> None:
    solver, _ = walkers((1, 1))
    state = begun(problem(), solver)
    keys = [state.first.keys, state.then.keys]
    for _ in range(4):
        state, _ = solver.step(problem(), state)
        keys += [state.first.keys, state.then.keys]
    assert len({int(k[0]) for k in keys}) == 5  # 2 at first, and 3 changes
    assert all(k[0] != k[1] for k in keys)


# ----- from outside -----


def test_a_restart_concerns_the_solver_whose_turn_it_was() -> None:
    task = problem()
    solver, log = walkers((2, 1))
    other = scored_start(task, random_plans(task, seed=1))
    state = begun(task, solver)
    expected = ["restart a", "restart a", "restart a", "restart b", "restart a"]
    for wanted in expected:
        log.clear()
        again = solver.restart(task, state, other, make_keys(1, 2))
        assert log == [wanted]
        assert torch.equal(solver.current(task, again).actions, other.actions)
        assert torch.equal(again.iteration, state.iteration)
        state, _ = solver.step(task, state)
    state, _ = solver.step(task, begun(task, solver))
    state, _ = solver.step(task, state)
    state = solver.restart(task, state, other, KEYS)
    state, _ = solver.step(task, state)  # the other one goes on from there
    torch.testing.assert_close(state.then.actions, (other.actions + 0.1).clamp(-1, 1))


def test_a_warm_start_moves_both_and_begins_with_the_first() -> None:
    task = problem()
    solver, log = walkers((1, 2))
    state = begun(task, solver)
    for _ in range(2):
        state, _ = solver.step(task, state)
    log.clear()
    other = scored_start(task, random_plans(task, seed=1))
    later = solver.shift(task, state, other, make_keys(1, 2), 3)
    assert log == ["shift a by 3", "shift b by 3"]
    assert later.first.count.tolist() == [101, 101] and later.then.count.tolist() == [101, 101]
    assert later.iteration.tolist() == [0, 0] and not torch.equal(later.keys, state.keys)
    assert not torch.equal(later.first.keys, later.then.keys)
    log.clear()
    solver.step(task, later)
    assert log == ["step a"]


@pytest.mark.parametrize("owner", ["first", "then"])
def test_the_trajectory_of_either_is_found(owner) -> None:
    task = problem()
    solver, _ = walkers((1, 1), **{owner: {"gap": 0.3}})
    state = begun(task, solver)
    for _ in range(3):
        found = solver.trajectory(task, state)
        inner = getattr(state, owner)
        assert torch.equal(found.actions, inner.actions)
        torch.testing.assert_close(found.states, scored_start(task, inner.actions).states + 0.3)
        state, _ = solver.step(task, state)
    assert walkers((1, 1))[0].trajectory(task, state) is None


# ----- solvers of the package -----


def test_cem_searches_where_virtual_states_and_rollout_disagree() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=4)
    solver = Alternate(Lifted(action_rate=1e-9, state_rate=1e-9, noise=0.0), CEM(floor=0.01))
    state = begun(task, solver, size=0.0)
    path = scored_start(task, torch.zeros(2, 4, 2).double()).states[:, 1:-1]
    path[:, 1] += 0.5  # s_2 alone is off, and s_4 is the goal
    state = replace(state, first=replace(state.first, states=path))
    state, _ = solver.step(task, state)
    handed = []

    class Watched(CEM):
        def restart(self, problem, state, start, keys):
            handed.append(super().restart(problem, state, start, keys))
            return handed[-1]

    watched = replace(solver, then=Watched(floor=0.01))
    watched.step(task, state)
    wide = (0.5 / latent_scale(task)).clamp(max=1.0)
    expected = torch.stack([torch.full_like(wide, 0.01), wide, torch.full_like(wide, 0.01), torch.ones_like(wide)], 1)
    torch.testing.assert_close(handed[0].deviation, expected.unsqueeze(2).expand(2, 4, 2), rtol=1e-4, atol=1e-6)


def test_doubt_is_the_root_mean_square_gap_in_the_unit_of_latents() -> None:
    task = linear_quadratic(LINEAR["patches"](), horizon=3)
    solver = Lifted()
    state = begun(task, solver)
    start = solver.current(task, state)
    gap = solver.trajectory(task, state).states[:, 1:] - start.states[:, 1:]
    for b in range(2):
        for t in range(3):
            expected = gap[b, t].square().mean().sqrt() / (task.goal[b] - task.states[b, -1]).square().mean().sqrt()
            torch.testing.assert_close(doubt_of(task, solver.trajectory(task, state), start)[b, t], expected)


def test_a_gradient_solver_goes_on_with_what_its_optimizer_remembers() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=4)
    serial = GradientDescent()
    solver = Alternate(serial, Lifted(action_rate=1e-9, init_states="rollout", noise=0.0), steps=(2, 1))
    state, steady = begun(task, solver), begun(task, serial)
    for _ in range(2 + 1 + 2):
        state, _ = solver.step(task, state)
    for _ in range(4):
        steady, _ = serial.step(task, steady)
    assert state.first.moments.count.tolist() == [4, 4]
    torch.testing.assert_close(state.first.actions, steady.actions, rtol=0, atol=1e-5)


SERIAL = [GradientDescent(), GaussNewton(), LBFGS(), LatCo(), CEM(), ICEM(), MPPI(), RandomShooting()]


@pytest.mark.parametrize("serial", SERIAL, ids=lambda s: s.name)
@pytest.mark.parametrize("lifted_first", [False, True])
def test_any_solver_alternates_with_the_lifted_iteration(serial, lifted_first) -> None:
    task = problem(horizon=6)
    lifted = Lifted(init_states="rollout")
    solver = Alternate(lifted, serial, steps=(1, 8)) if lifted_first else Alternate(serial, lifted, steps=(8, 1))
    planner = MultiStart(solver, restarts=2, candidates=0)
    plan, search = solve(planner, task, Budget(17))
    assert bool((plan.cost < plan.cost_trace[:, 0]).all())
    torch.testing.assert_close(true_cost(task, search.kept.actions)[0].detach(), search.kept.cost)


def test_alternation_within_alternation() -> None:
    inner = Alternate(GaussNewton(), GradientDescent())
    plan, _ = solve(Alternate(inner, Lifted(init_states="rollout"), steps=(4, 1)), pendulum(horizon=8), Budget(10))
    assert bool((plan.cost < plan.cost_trace[:, 0]).all())


def test_what_it_is_made_of_is_checked() -> None:
    assert Alternate(GaussNewton(), Lifted(), steps=(3, 4)).decision_iterations == 7
    with pytest.raises(TypeError, match=r"Alternate.first: expected a solver of one plan per row such as Gauss"):
        Alternate(MultiStart(GaussNewton()), Lifted())
    with pytest.raises(TypeError, match=r"Alternate.then: expected a solver"):
        Alternate(GaussNewton(), None)
    for steps in ((0, 1), (1, 0), (1, 1, 1), (1, 0.5)):
        with pytest.raises(ValueError, match=r"Alternate.steps: expected two whole numbers of at least 1"):
            Alternate(GaussNewton(), Lifted(), steps=steps)
