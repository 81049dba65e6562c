"""The lifted iteration against the paper's equations: what each variable feels, noise, windows, and where it begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from odd_models import SpyModel
from problems import LINEAR, integrator, linear_quadratic, pendulum, random_plans, with_model
from torch import Tensor

from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget, Problem
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import Lifted, rollout, solve
from grasp_agent.planning.plans import scored_start
from grasp_agent.planning.rollout import environment_units, latent_scale, true_cost
from grasp_agent.planning.virtual_states import shift_states, straight_line, towards_goal

KEYS = make_keys(0, 2)
# plain descent without noise in the latent's unit: a step is then -rate * dL/dx exactly
PLAIN = Lifted(optimizer="sgd", noise=0.0, init_noise=0.1, state_scale=1.0, action_rate=0.01, state_rate=0.02)


def begun(task: Problem, solver: Lifted = PLAIN):
    """A state whose virtual states are no rollout and whose actions are away from the bounds."""
    return solver.init(task, scored_start(task, random_plans(task, size=0.5)), KEYS)


def moved(task: Problem, state, solver: Lifted = PLAIN) -> tuple[Tensor, Tensor]:
    """What a step adds to actions and states."""
    after, plans = solver.step(task, state)
    assert plans is None  # nothing is rolled out
    return after.actions - state.actions, after.states - state.states


# ----- the loss -----


def test_a_step_is_the_papers_gradient_by_hand() -> None:
    """s' = s + 0.2 a:   with e_t = s_t + 0.2 a_t - s_{t+1} and f_t = s_t + 0.2 a_t - g,

    dL/da_t = 2 * 0.2 * (e_t + gamma * f_t),   dL/ds_{t+1} = -2 e_t: nothing comes through F's state input.
    """
    task = linear_quadratic(integrator(), horizon=4)
    solver = replace(PLAIN, goal_weight=0.7)
    state = begun(task, solver)
    du, ds = (x.numpy() for x in moved(task, state, solver))
    for b in range(2):
        path = np.concatenate([task.states[b].numpy(), state.states[b].numpy(), task.goal[b : b + 1].numpy()])
        reached = path[:-1] + 0.2 * state.actions[b].numpy()
        e, f = reached - path[1:], reached - path[-1]
        np.testing.assert_allclose(du[b], -0.01 * 2 * 0.2 * (e + 0.7 * f), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ds[b], -0.02 * -2 * e[:-1], rtol=1e-9, atol=1e-12)


def loss_by_hand(problem: Problem, u: Tensor, s: Tensor, gamma: float, steps: range | None = None) -> Tensor:
    """L = L_dyn + gamma * L_goal as loops over rows and time, every state input detached."""
    h, total = problem.model.history, torch.zeros((), dtype=u.dtype)
    actions = environment_units(problem, u)
    for b in range(problem.batch):
        frames = [*problem.states[b], *s[b]]  # ends with s_{T-1}
        blocks = [*problem.past_actions[b], *actions[b]]
        targets = [*s[b], problem.goal[b]]  # s_T = g
        for t in steps or range(problem.horizon):
            window = torch.stack([x.detach() for x in frames[t : t + h]])[None]
            predicted = problem.model.predict(window, torch.stack(blocks[t : t + h])[None])[0]
            total = total + (predicted - targets[t]).square().sum()
            total = total + gamma * (predicted - problem.goal[b]).square().sum()
    return total


def gradients_by_hand(task: Problem, state, gamma: float, steps: range | None = None) -> tuple[Tensor, Tensor]:
    u, s = state.actions.clone().requires_grad_(True), state.states.clone().requires_grad_(True)
    to_u, to_s = torch.autograd.grad(loss_by_hand(task, u, s, gamma, steps), (u, s))
    return to_u, to_s


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("gamma", [0.0, 0.7])
def test_a_step_goes_down_the_papers_loss_whatever_the_history(name, gamma) -> None:
    task = linear_quadratic(LINEAR[name](), horizon=5)
    solver = replace(PLAIN, goal_weight=gamma)
    state = begun(task, solver)
    to_u, to_s = gradients_by_hand(task, state, gamma)
    du, ds = moved(task, state, solver)
    torch.testing.assert_close(du, -0.01 * to_u)
    torch.testing.assert_close(ds, -0.02 * to_s)
    assert bool((to_u != 0).any(dim=-1).all())  # every action of every step feels something


def test_the_goal_term_is_the_objectives_state_cost() -> None:
    task = replace(linear_quadratic(integrator(), horizon=3), objective=GoalDistance(huber=0.3))
    solver = replace(PLAIN, goal_weight=0.7)
    state = begun(task, solver)
    a = state.actions.clone().requires_grad_(True)
    seen = torch.cat([task.states, state.states], dim=1)
    reached = (seen + 0.2 * a).flatten(0, 1)
    following = torch.cat([state.states, task.goal.unsqueeze(1)], dim=1).flatten(0, 1)
    goal = task.goal.repeat_interleave(3, dim=0)
    loss = (reached - following).square().sum() + 0.7 * task.objective.state_cost(reached, goal).sum()
    torch.testing.assert_close(moved(task, state, solver)[0], -0.01 * torch.autograd.grad(loss, a)[0])


def test_the_terminal_tie_is_there() -> None:
    """Without gamma the last action is pulled by nothing but s_T = g."""
    task = linear_quadratic(LINEAR["integrator"](), horizon=5)
    solver = replace(PLAIN, goal_weight=0.0)
    state = begun(task, solver)
    here, _ = moved(task, state, solver)
    elsewhere, _ = moved(replace(task, goal=task.goal + 1), state, solver)
    torch.testing.assert_close(here[:, :-1], elsewhere[:, :-1])
    torch.testing.assert_close(elsewhere[:, -1] - here[:, -1], torch.full((2, 2), 0.01 * 2 * 0.2).double())


@pytest.mark.parametrize("make", [pendulum, lambda: linear_quadratic(LINEAR["coasting, history 3"](), horizon=10)])
@pytest.mark.parametrize("window", [200, 4])
def test_gradients_enter_the_actions_and_never_the_state_input(make, window) -> None:
    task = make()
    spy = SpyModel(task.model)
    solver = Lifted(window=window)
    state = begun(task, solver)
    for _ in range(4):
        state, _ = solver.step(with_model(task, spy), state)
    assert spy.into_states == []
    assert len(spy.into_actions) == 4 and all(bool(g.any()) for g in spy.into_actions)
    flowing = replace(solver, stop_gradient=False)
    flowing.step(with_model(task, spy), state)
    assert len(spy.into_states) == 1 and bool(spy.into_states[0].any())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("horizon", [1, 4, 12])
@pytest.mark.parametrize("name", ["integrator", "coasting, history 3"])
def test_an_iteration_is_one_model_call(batch, horizon, name) -> None:
    task = linear_quadratic(LINEAR[name](), batch=batch, horizon=horizon)
    spy = SpyModel(task.model)
    state = Lifted().init(task, scored_start(task, random_plans(task)), make_keys(0, batch))
    for _ in range(3):
        state, _ = Lifted().step(with_model(task, spy), state)
    assert spy.batches == [batch * horizon] * 3


def test_actions_stay_within_the_bounds_and_states_need_not() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=4)
    far = replace(task, goal=task.goal + 50)
    solver = replace(PLAIN, action_rate=1.0)
    state, _ = solver.step(far, begun(far, solver))
    assert float(state.actions.abs().max()) == 1.0 and float(state.states.abs().max()) > 10


def test_it_makes_a_good_plan_alone() -> None:
    task = linear_quadratic(LINEAR["integrator"](), action=0.0, running=0.0)
    plan, _ = solve(Lifted(goal_weight=0.1, anneal=100, action_rate=0.05), task, Budget(300))
    still = task.objective.state_cost(task.states[:, -1], task.goal)
    assert bool((plan.cost < 1e-2 * still).all())
    assert float(plan.defects.max()) < 1e-3  # the virtual states have become a trajectory of the model


# ----- noise -----


def noise_at(task: Problem, state, iteration: int, solver: Lifted) -> Tensor:
    """What the noise adds to the states in one iteration."""
    at = replace(state, iteration=torch.full((task.batch,), iteration))
    loud_u, loud_s = moved(task, at, solver)
    still_u, still_s = moved(task, at, replace(solver, noise=0.0))
    assert torch.equal(loud_u, still_u)  # never the actions
    return loud_s - still_s


def test_noise_moves_states_only_fades_and_is_held() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=60)
    noisy = replace(PLAIN, noise=0.5, anneal=4, resample=2)
    state = begun(task, noisy)
    draws = [noise_at(task, state, i, noisy) for i in range(5)]
    torch.testing.assert_close(draws[1], 0.75 * draws[0])  # one draw serves two iterations; it fades linearly
    assert not torch.allclose(draws[2], 0.5 * draws[0])
    torch.testing.assert_close(draws[3], 0.5 * draws[2])
    assert float(draws[4].abs().max()) == 0.0
    constant = replace(noisy, anneal=None, resample=1000)
    torch.testing.assert_close(noise_at(task, state, 999, constant), noise_at(task, state, 0, constant))
    assert not torch.allclose(noise_at(task, state, 1000, constant), noise_at(task, state, 0, constant))
    assert 0.4 < float(draws[0].std()) < 0.6
    assert not torch.allclose(draws[0][0], draws[0][1])  # every row has its own


def test_noise_is_measured_in_the_unit_of_the_states() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=200)
    solver = replace(PLAIN, noise=0.5, anneal=None, state_scale=None)
    noise = noise_at(task, begun(task, solver), 0, solver)
    torch.testing.assert_close(noise.flatten(1).std(dim=1), 0.5 * latent_scale(task), rtol=0.15, atol=0)


def test_the_goal_weight_can_fade_with_the_noise() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    solver = replace(PLAIN, anneal=10, anneal_goal=True, goal_weight=1.0)
    state = begun(task)
    later = replace(state, iteration=torch.full((2,), 5))
    torch.testing.assert_close(moved(task, later, solver), moved(task, state, replace(PLAIN, goal_weight=0.5)))
    fixed = replace(solver, anneal_goal=False)
    torch.testing.assert_close(moved(task, later, fixed), moved(task, state, replace(PLAIN, goal_weight=1.0)))


# ----- conditioning -----


def lengths(task: Problem, state, solver: Lifted) -> tuple[Tensor, Tensor]:
    """Norms of the gradients that a step follows."""
    du, ds = moved(task, state, solver)
    return (du / solver.action_rate).flatten(1).norm(dim=1), (ds / solver.state_rate).flatten(1).norm(dim=1)


def test_clipping_and_balancing() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    state = begun(task)
    free_u, free_s = lengths(task, state, PLAIN)
    limit = float(free_u.mean())
    assert bool((free_u > limit).any()) and bool((free_u < limit).any()) and bool((free_s > limit).all())
    cut_u, cut_s = lengths(task, state, replace(PLAIN, clip=limit))
    torch.testing.assert_close(cut_u, free_u.clamp(max=limit))
    torch.testing.assert_close(cut_s, free_s.clamp(max=limit))
    even_u, even_s = lengths(task, state, replace(PLAIN, balance=True))
    torch.testing.assert_close(even_u, (free_u + free_s) / 2)
    torch.testing.assert_close(even_s, (free_u + free_s) / 2)


def test_latents_in_another_unit_make_the_same_plan() -> None:
    """Pixels or metres: with the default scale, rates and noise need no retuning."""
    task = linear_quadratic(LINEAR["coasting, history 3"](), action=0.0)
    big_model = LINEAR["coasting, history 3"]()
    big_model.on_actions.data *= 512
    big = replace(task, model=big_model, states=512 * task.states, goal=512 * task.goal)
    for solver in (Lifted(), Lifted(optimizer="sgd", clip=0.1, balance=True)):
        small_plan, small = solve(solver, task, Budget(20))
        big_plan, large = solve(solver, big, Budget(20))
        torch.testing.assert_close(big_plan.actions, small_plan.actions, rtol=0, atol=1e-6)
        torch.testing.assert_close(large.inner.states, 512 * small.inner.states, rtol=1e-6, atol=1e-6)


# ----- windows -----


def test_long_plans_are_improved_in_overlapping_windows() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=10)
    solver = replace(PLAIN, window=4, goal_weight=0.3)
    state = begun(task, solver)
    touched = []
    for begin in (0, 2, 4, 6, 0):
        to_u, to_s = gradients_by_hand(task, state, 0.3, range(begin, begin + 4))
        after, _ = solver.step(task, state)
        torch.testing.assert_close(after.actions, (state.actions - 0.01 * to_u).clamp(-1, 1))
        torch.testing.assert_close(after.states, state.states - 0.02 * to_s)
        touched.append((to_u != 0).any(dim=2).any(dim=0))
        state = after
    assert bool(torch.stack(touched[:4]).any(dim=0).all())  # no step is left out


def test_the_last_window_ends_with_the_plan() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=7)
    solver = replace(PLAIN, window=4)
    state = begun(task, solver)
    first = []
    for _ in range(4):
        before = state
        state, _ = solver.step(task, state)
        changed = (state.actions != before.actions).any(dim=2).all(dim=0)
        first.append(changed.nonzero().flatten().tolist())
    assert first == [[0, 1, 2, 3], [2, 3, 4, 5], [3, 4, 5, 6], [0, 1, 2, 3]]
    exact = replace(PLAIN, window=7)
    torch.testing.assert_close(moved(task, state, exact), moved(task, state, PLAIN))


# ----- where it begins -----


@pytest.mark.parametrize("init_states", ["line", "rollout", "bent", "noise"])
@pytest.mark.parametrize("name", ["coasting, history 3, block 2", "patches"])
def test_where_virtual_states_begin(init_states, name) -> None:
    task = linear_quadratic(LINEAR[name](), horizon=4)
    start = scored_start(task, random_plans(task))
    state = Lifted(init_states=init_states, init_noise=0.0).init(task, start, KEYS)
    middle = (task.states[:, -1] + task.goal) / 2
    expected = {
        "line": straight_line(task),
        "rollout": rollout(task, environment_units(task, start.actions))[:, 1:-1],
        "bent": towards_goal(task, start.states),
        "noise": middle.unsqueeze(1).expand_as(state.states),
    }[init_states]
    torch.testing.assert_close(state.states, expected)
    assert torch.equal(state.actions, start.actions) and state.iteration.tolist() == [0, 0]


@pytest.mark.parametrize("init_states", ["line", "rollout", "bent", "noise"])
def test_starting_states_are_noised_in_their_unit(init_states) -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=300)
    start = scored_start(task, random_plans(task))
    clean = Lifted(init_states=init_states, init_noise=0.0).init(task, start, KEYS)
    noisy = Lifted(init_states=init_states, init_noise=0.1).init(task, start, KEYS)
    gap = (noisy.states - clean.states).flatten(1)
    torch.testing.assert_close(gap.std(dim=1), 0.1 * latent_scale(task), rtol=0.15, atol=0)
    fixed = Lifted(init_states=init_states, init_noise=0.1, state_scale=2.0).init(task, start, KEYS)
    torch.testing.assert_close(
        (fixed.states - clean.states).flatten(1).std(dim=1), torch.full((2,), 0.2).double(), rtol=0.15, atol=0
    )
    assert not torch.allclose(gap[0], gap[1])


def test_a_restart_begins_anew_but_keeps_count_of_the_annealing() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=5)
    solver = Lifted(init_states="rollout", anneal=50)
    state = begun(task, solver)
    for _ in range(7):
        state, _ = solver.step(task, state)
    other = scored_start(task, random_plans(task, seed=1))
    again = solver.restart(task, state, other, KEYS)
    assert again.iteration.tolist() == [7, 7]
    assert torch.equal(again.actions, other.actions)
    gap = (again.states - other.states[:, 1:-1]).flatten(1) / latent_scale(task).unsqueeze(1)
    assert 0 < float(gap.abs().max()) < 0.3  # the new rollout, noised
    assert again.action_moments.count.tolist() == [0, 0] and not again.state_moments.first.any()
    assert not torch.equal(again.keys, state.keys)  # other noise than before
    assert not torch.equal(solver.restart(task, again, other, KEYS).states, again.states)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_warm_start_moves_the_virtual_states_on(steps) -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"](), horizon=6)
    state = begun(task, Lifted())
    for _ in range(3):
        state, _ = Lifted().step(task, state)
    other = scored_start(task, random_plans(task, seed=1))
    later = Lifted().shift(task, state, other, make_keys(1, 2), steps)
    torch.testing.assert_close(later.states, shift_states(task, state.states, steps))
    assert torch.equal(later.actions, other.actions) and later.iteration.tolist() == [0, 0]
    assert later.action_moments.count.tolist() == [0, 0] and not later.state_moments.first.any()
    assert not torch.equal(later.keys, state.keys)


def test_what_it_has_found() -> None:
    task = linear_quadratic(LINEAR["patches"](), horizon=4)
    state, _ = Lifted().step(task, begun(task, Lifted()))
    found = Lifted().trajectory(task, state)
    assert torch.equal(found.actions, state.actions)
    assert torch.equal(found.states[:, 0], task.states[:, -1]) and torch.equal(found.states[:, -1], task.goal)
    assert torch.equal(found.states[:, 1:-1], state.states)
    current = Lifted().current(task, state)
    torch.testing.assert_close(current.cost, true_cost(task, state.actions.unsqueeze(1))[0][:, 0].detach())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: Lifted(noise=-0.1), "Lifted.noise: expected a finite number of at least 0"),
        (lambda: Lifted(state_rate=0.0), "Lifted.state_rate: expected a finite number above 0"),
        (lambda: Lifted(optimizer="lbfgs"), "Lifted.optimizer: expected one of 'adam', 'sgd', got 'lbfgs'"),
        (lambda: Lifted(init_states="zero"), "Lifted.init_states: expected one of 'line', 'rollout', 'bent', 'noise'"),
        (lambda: Lifted(window=1), "Lifted.window: expected a whole number of at least 2, got 1"),
        (lambda: Lifted(resample=0), "Lifted.resample: expected a whole number of at least 1"),
        (lambda: Lifted(anneal=1.5), "Lifted.anneal: expected a whole number"),
        (lambda: Lifted(clip=0.0), "Lifted.clip: expected a finite number above 0"),
    ],
)
def test_bad_hyperparameters_are_refused(bad, message) -> None:
    with pytest.raises(ValueError, match=message):
        bad()
