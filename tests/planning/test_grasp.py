"""The mathematics of GRASP: where gradients go, what one iteration costs, which terms are there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from problems import LINEAR, LinearModel, SpyModel, linear_quadratic, pendulum, with_model
from torch import Tensor, nn

from grasp_agent.core.rng import make_keys
from grasp_agent.core.rows import replace_rows, select_rows
from grasp_agent.core.types import Budget, Problem
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import CEM, GRASP, PLANNERS, GaussNewton, GradientDescent, planner_for, rollout, solve
from grasp_agent.planning.grasp_state import GRASPState
from grasp_agent.planning.rollout import action_windows, environment_units, select_problem, true_cost
from grasp_agent.planning.solvers.gradient import GradientState
from grasp_agent.planning.warm_start import branched, shift_actions

# plain descent without noise in the latent's unit: one lifted step is then -rate * dL/dx exactly
PLAIN = GRASP(
    optimizer="sgd",
    noise=0.0,
    state_scale=1.0,
    restarts=3,
    action_rate=0.01,
    state_rate=0.01,
    sync_every=None,
)


def loss_by_hand(problem: Problem, u: Tensor, s: Tensor, gamma: float) -> Tensor:
    """L = L_dyn + gamma * L_goal as loops over restarts and time, every state input detached."""
    h, total = problem.model.history, torch.zeros((), dtype=u.dtype)
    actions = environment_units(problem, u)
    for b in range(problem.batch):
        for r in range(u.shape[1]):
            frames = [*problem.states[b], *s[b, r]]  # ends with s_{T-1}
            blocks = [*problem.past_actions[b], *actions[b, r]]
            targets = [*s[b, r], problem.goal[b]]  # s_T = g
            for t in range(problem.horizon):
                window = torch.stack([x.detach() for x in frames[t : t + h]])[None]
                predicted = problem.model.predict(window, torch.stack(blocks[t : t + h])[None])[0]
                total = total + (predicted - targets[t]).square().sum()
                total = total + gamma * (predicted - problem.goal[b]).square().sum()
    return total


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("gamma", [0.0, 0.7])
def test_a_lifted_step_is_the_gradient_of_the_papers_loss(name, gamma) -> None:
    task = linear_quadratic(LINEAR[name](), horizon=5)
    planner = replace(PLAIN, goal_weight=gamma)
    state = planner.init(task, make_keys(0, 2))
    state = replace(state, actions=0.5 * state.actions)  # away from the bounds, where clipping would show
    u, s = state.actions.clone().requires_grad_(True), state.states.clone().requires_grad_(True)
    to_u, to_s = torch.autograd.grad(loss_by_hand(task, u, s, gamma), (u, s))
    after = planner.step(task, state)
    torch.testing.assert_close(after.states, s.detach() - 0.01 * to_s)
    torch.testing.assert_close(after.actions, (u.detach() - 0.01 * to_u).clamp(-1, 1))
    assert bool((to_u != 0).any(dim=-1).all())  # every action of every step feels something


def test_the_terminal_tie_is_there() -> None:
    """Without gamma the last action is pulled by nothing but s_T = g."""
    task = linear_quadratic(LINEAR["integrator"](), horizon=5)
    planner = replace(PLAIN, goal_weight=0.0)
    state = planner.init(task, make_keys(0, 2))
    moved = planner.step(task, state).actions - state.actions
    elsewhere = planner.step(replace(task, goal=task.goal + 1), state).actions - state.actions
    assert torch.equal(moved[:, :, :-1], elsewhere[:, :, :-1])
    assert bool((moved[:, :, -1] != elsewhere[:, :, -1]).all())


class Gradients(nn.Module):
    """Wraps a model: what gradient came back into its state and its action input."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.state_shape, self.history = inner.state_shape, inner.history
        self.action_dim, self.action_block = inner.action_dim, inner.action_block
        self.into_states: list[Tensor] = []
        self.into_actions: list[Tensor] = []

    def encode(self, obs):
        return obs

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        if states.requires_grad:
            states.register_hook(self.into_states.append)
        if actions.requires_grad:
            actions.register_hook(self.into_actions.append)
        return self.inner.predict(states, actions)


@pytest.mark.parametrize("make", [pendulum, lambda: linear_quadratic(LINEAR["coasting, history 3"]())])
def test_gradients_enter_the_actions_and_never_the_state_input(make) -> None:
    task = make()
    spy = Gradients(task.model)
    planner = GRASP(sync_every=None)
    solve(planner, with_model(task, spy), planner.init(task, make_keys(0, 2)), Budget(4))
    assert spy.into_states == []
    assert len(spy.into_actions) == 4
    assert all(bool((g != 0).any(dim=-1).any()) for g in spy.into_actions)

    flowing = replace(planner, stop_gradient=False)
    solve(flowing, with_model(task, spy), flowing.init(task, make_keys(0, 2)), Budget(1))
    assert len(spy.into_states) == 1 and bool((spy.into_states[0] != 0).any())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("horizon", [1, 4, 12])
@pytest.mark.parametrize("name", ["integrator", "coasting, history 3"])
def test_a_lifted_iteration_is_one_model_call(batch, horizon, name) -> None:
    task = linear_quadratic(LINEAR[name](), batch=batch, horizon=horizon)
    spy = SpyModel(task.model)
    planner = GRASP(restarts=5, sync_every=None, screen=1)
    task = with_model(task, spy)
    state = planner.init(task, make_keys(0, batch))
    assert spy.calls == 0
    for i in range(3):
        state = planner.step(task, state)
        assert spy.calls == i + 1
    assert spy.batches == [batch * 5 * horizon] * 3


def test_a_sync_step_is_one_serial_rollout_and_scores_its_own_iterate() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=6)
    spy = SpyModel(task.model)
    task = with_model(task, spy)
    serial = GradientDescent(restarts=1)
    planner = GRASP(restarts=4, sync=serial, sync_every=2, sync_steps=3, reseed=None, branches=0)
    state = planner.evaluate(task, planner.init(task, make_keys(0, 2)))
    state = planner.step(task, planner.step(task, state))
    spy.calls = 0
    before = state
    state = planner.step(task, state)
    assert spy.calls == 6
    spy.calls = 0
    assert torch.equal(state.states, before.states)  # actions only
    states = rollout(task, before.actions)
    cost = task.objective.trajectory_cost(
        states[:, :, 1:].flatten(0, 1), before.actions.flatten(0, 1), task.goal.repeat_interleave(4, 0)
    ).view(2, 4)
    expected = torch.minimum(before.best.cost, cost.min(dim=1).values)
    torch.testing.assert_close(state.best.cost, expected)
    spy.calls = 0
    state = planner.step(task, planner.step(task, state))
    assert spy.calls == 3 * 6  # the last one also scores where it came to
    state = planner.step(task, state)  # the cycle begins again
    assert spy.calls == 3 * 6 + 1


def test_reseeding_rolls_out_and_scores_the_synced_plan() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=6)
    planner = GRASP(restarts=4, sync_every=1, sync_steps=1, reseed=0.0)
    state = planner.evaluate(task, planner.init(task, make_keys(0, 2)))
    state = planner.step(task, state)  # planning begins with the sync
    cost, states = true_cost(task, state.actions)
    torch.testing.assert_close(state.states, states[:, :, 1:-1])
    assert bool((state.best.cost <= cost.amin(dim=1) + 1e-12).all())


def test_noise_moves_states_only_fades_and_is_held() -> None:
    task = linear_quadratic(LINEAR["integrator"](), batch=1)
    quiet = replace(PLAIN, restarts=2)
    noisy = replace(quiet, noise=0.5, anneal=4, resample=2)
    state = quiet.init(task, make_keys(0, 1))

    def noise_at(iteration: int, planner: GRASP) -> Tensor:
        at = replace(state, iteration=torch.tensor([iteration]))
        loud, still = planner.step(task, at), quiet.step(task, at)
        assert torch.equal(loud.actions, still.actions)
        return loud.states - still.states

    draws = [noise_at(i, noisy) for i in range(5)]
    torch.testing.assert_close(draws[1], 0.75 * draws[0])  # one draw serves two iterations; it fades linearly
    assert not torch.allclose(draws[2], 0.5 * draws[0])
    torch.testing.assert_close(draws[3], 0.5 * draws[2])
    assert float(draws[4].abs().max()) == 0.0
    constant = replace(noisy, anneal=None, resample=1000, restarts=2)
    torch.testing.assert_close(noise_at(999, constant), noise_at(0, constant))
    assert 0.3 < float(draws[0].std()) < 0.7


def test_the_goal_weight_can_fade_with_the_noise() -> None:
    task = linear_quadratic(LINEAR["integrator"](), batch=1)
    planner = replace(PLAIN, anneal=10, anneal_goal=True, goal_weight=1.0)
    state = planner.init(task, make_keys(0, 1))
    half = planner.step(task, replace(state, iteration=torch.tensor([5])))
    fixed = replace(PLAIN, goal_weight=0.5).step(task, state)
    torch.testing.assert_close(half.actions, fixed.actions)


def test_clipping_and_balancing() -> None:
    task = linear_quadratic(LINEAR["integrator"]())
    state = PLAIN.init(task, make_keys(0, 2))
    state = replace(state, actions=0.5 * state.actions)

    def lengths(planner: GRASP) -> tuple[Tensor, Tensor]:
        after = planner.step(task, state)
        du, ds = (after.actions - state.actions) / 0.01, (after.states - state.states) / 0.01
        return du.flatten(2).norm(dim=2), ds.flatten(2).norm(dim=2)

    free_u, free_s = lengths(PLAIN)
    cut_u, cut_s = lengths(replace(PLAIN, clip=0.3))
    torch.testing.assert_close(cut_u, free_u.clamp(max=0.3))
    torch.testing.assert_close(cut_s, free_s.clamp(max=0.3))
    assert bool((free_u > 0.3).any() or (free_s > 0.3).any())
    even_u, even_s = lengths(replace(PLAIN, balance=True))
    torch.testing.assert_close(even_u, (free_u + free_s) / 2)
    torch.testing.assert_close(even_s, (free_u + free_s) / 2)


def test_the_line_starts_at_the_present_and_ends_at_the_goal() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=4)
    planner = GRASP(restarts=2, init_noise=0.0)
    states = planner.init(task, make_keys(0, 2)).states
    present, goal = task.states[:, -1], task.goal
    for i, f in enumerate((0.25, 0.5, 0.75)):
        torch.testing.assert_close(states[:, 1, i], present + f * (goal - present))
    noisy = replace(planner, init_noise=0.1, state_scale=2.0, restarts=200).init(task, make_keys(0, 2)).states
    assert abs(float((noisy - states[:, :1]).std()) - 0.2) < 0.02
    rolled = replace(planner, init_states="rollout").init(task, make_keys(0, 2))
    torch.testing.assert_close(rolled.states, rollout(task, rolled.actions)[:, :, 1:-1])


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_sync_can_reseed_the_virtual_states(fraction) -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=4)
    planner = GRASP(restarts=2, sync_every=1, sync_steps=2, reseed=fraction)
    state: GRASPState = planner.init(task, make_keys(0, 2))
    for _ in range(2):
        state = planner.step(task, state)
    path = rollout(task, state.actions)
    gap = task.goal[:, None] - path[:, :, -1]
    ramp = torch.tensor([0.25, 0.5, 0.75]).double().view(1, 1, 3, 1) * gap.unsqueeze(2)
    torch.testing.assert_close(state.states, path[:, :, 1:-1] + fraction * ramp)
    assert float(state.state_moments.first.abs().max()) == 0.0


def test_latents_in_another_unit_give_the_same_plan() -> None:
    """Pixels or metres: with the default scale, rates and noise need no retuning."""
    task = linear_quadratic(LINEAR["coasting, history 3"](), action=0.0)
    big_model = LINEAR["coasting, history 3"]()
    big_model.on_actions.data *= 512
    big = replace(task, model=big_model, states=512 * task.states, goal=512 * task.goal)
    planner = GRASP(sync_every=5, sync_steps=3)
    small_plan, _ = solve(planner, task, planner.init(task, make_keys(0, 2)), Budget(20))
    big_plan, _ = solve(planner, big, planner.init(big, make_keys(0, 2)), Budget(20))
    torch.testing.assert_close(big_plan.actions, small_plan.actions, rtol=0, atol=1e-4)
    torch.testing.assert_close(big_plan.cost, 512**2 * small_plan.cost, rtol=1e-5, atol=0)


def test_defects_are_those_of_the_restart_that_found_the_plan() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=5)
    planner = GRASP(restarts=3, sync_every=4, sync_steps=2, caution=0.0)
    plan, state = solve(planner, task, planner.init(task, make_keys(0, 2)), Budget(10))
    for b in range(2):
        r = int(state.best.candidate[b])
        assert r >= 0
        frames = torch.cat([task.states[b], state.states[b, r]])
        targets = torch.cat([state.states[b, r], task.goal[b : b + 1]])
        blocks = action_windows(task, state.actions)[b, r]
        for t in range(5):
            predicted = task.model.predict(frames[t : t + 3][None], blocks[t][None])[0]
            torch.testing.assert_close(plan.defects[b, t], (predicted - targets[t]).square().mean().detach())


def test_a_shift_hands_the_best_plans_virtual_states_to_restart_0() -> None:
    task = linear_quadratic(LINEAR["integrator, block 2"](), horizon=6)
    planner = GRASP(restarts=4, refresh=2, sync_every=4, sync_steps=2)
    _, state = solve(planner, task, planner.init(task, make_keys(0, 2)), Budget(12))
    rows = torch.arange(2)
    old = state.states[rows, state.best.candidate]
    path = torch.cat([old, task.goal[:, None]], dim=1)
    shifted = planner.shift(task, state, 1)
    torch.testing.assert_close(shifted.states[:, 0], (path[:, :-1] + path[:, 1:]) / 2)  # half a block later
    cheapest = true_cost(task, shift_actions(task, state.actions[:, 1:], 1))[0].argmin(dim=1) + 1
    kept = torch.cat([state.states[rows, cheapest], task.goal[:, None]], dim=1)
    torch.testing.assert_close(shifted.states[:, 1], (kept[:, :-1] + kept[:, 1:]) / 2)
    assert torch.equal(shifted.iteration, torch.zeros(2, dtype=torch.int64))
    again = planner.shift(task, state, 1)
    assert torch.equal(again.states, shifted.states)
    later = planner.shift(task, shifted, 0)
    assert not torch.equal(later.states[:, -1], shifted.states[:, -1])  # every refresh draws anew


def test_the_cem_sync_searches_where_virtual_states_and_rollout_disagree() -> None:
    task = replace(linear_quadratic(LINEAR["integrator"](), horizon=4), objective=GoalDistance())
    planner = GRASP(
        restarts=1, sync=CEM(floor=0.01), sync_every=1, sync_steps=2, state_scale=1.0, reseed=None, branches=0
    )
    state = planner.init(task, make_keys(0, 2))
    u = torch.zeros_like(state.actions)
    virtual = rollout(task, u)[:, :, 1:-1].clone()
    virtual[:, :, 1] += 0.5  # s_2 alone is off, and s_4 is the goal
    state = replace(state, actions=u, states=virtual, iteration=torch.ones(2, dtype=torch.int64))
    spread = []

    class Watch(SpyModel):
        def predict(self, states, actions):
            spread.append(actions[:, -1].view(2, -1, 2).std(dim=1, correction=0).mean())
            return super().predict(states, actions)

    planner.step(with_model(task, Watch(task.model)), state)
    tight_0, wide_1, tight_2, _ = spread[-4:]
    assert tight_0 < 0.02 and tight_2 < 0.02 and wide_1 > 0.3


def test_the_papers_preset_is_the_papers_algorithm() -> None:
    paper = GRASP.paper()
    assert (paper.restarts, paper.optimizer, paper.state_scale, paper.sync_every) == (1, "sgd", 1.0, 100)
    assert paper.stop_gradient and paper.goal_weight == 1.0
    assert paper.sync == GradientDescent(restarts=1, rate=0.05, optimizer="sgd") and paper.sync_steps == 10
    assert paper.clip is None and not paper.balance and paper.reseed is None and paper.branches == 0
    task = linear_quadratic(LINEAR["patches"](), running=0.0, action=0.0)
    state = paper.init(task, make_keys(0, 2))
    assert float(state.actions.abs().max()) == 0.0
    plan, _ = solve(paper, task, state, Budget(220))
    still = task.objective.state_cost(rollout(task, torch.zeros_like(plan.actions))[:, -1], task.goal)
    assert bool((plan.cost < 0.7 * still).all())


@pytest.mark.parametrize("name", [name for name in PLANNERS if name != "grasp"])
def test_any_planner_of_the_suite_can_be_the_sync(name) -> None:
    kind = PLANNERS[name]
    serial = kind(restarts=1) if "restarts" in kind.__dataclass_fields__ else kind()
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=6)
    planner = GRASP(restarts=3, sync=serial, sync_every=1, sync_steps=4, branches=0)
    state = planner.evaluate(task, planner.init(task, make_keys(0, 2)))
    before = state.cost
    for _ in range(9):
        state = planner.step(task, state)
    assert bool((state.cost < before).any(dim=1).all()) and bool((state.cost <= before).all())
    torch.testing.assert_close(true_cost(task, state.actions)[0], state.cost)  # each restart stands at its best
    alone = planner.init(select_problem(task, torch.tensor([1])), make_keys(0, 2)[1:])
    for _ in range(9):
        alone = planner.step(select_problem(task, torch.tensor([1])), alone)
    # Adam's first steps have full size however small the gradient is, so that LatCo's make something of rounding
    torch.testing.assert_close(alone.actions[0], state.actions[1], rtol=0, atol=0.02 if name == "latco" else 1e-5)


def test_a_latent_too_large_for_jacobians_is_synced_by_gradient_descent() -> None:
    shape, size = (20, 30), 600
    wide = LinearModel([np.eye(size)], [np.random.default_rng(0).standard_normal((size, 2))], shape, 1)
    task = linear_quadratic(wide, horizon=3)
    with pytest.raises(ValueError, match="GaussNewton: expected a latent of at most 512 numbers, got 600; try GRASP"):
        solve(GaussNewton(), task, GaussNewton().init(task, make_keys(0, 2)), Budget(1))
    plan, state = solve(GRASP(), task, GRASP().init(task, make_keys(0, 2)), Budget(6))
    assert isinstance(state.sync, GradientState)
    assert bool((plan.cost < plan.cost_trace[:, 0]).all())
    assert GRASP.suited_to(wide) == GRASP.patches() and GRASP.suited_to(LINEAR["integrator"]()) == GRASP()
    assert planner_for("grasp", wide, restarts=3) == replace(GRASP.patches(), restarts=3)


def test_a_gradient_sync_goes_on_with_what_its_optimizer_remembers() -> None:
    task = linear_quadratic(LINEAR["integrator"](), horizon=4)
    planner = replace(GRASP.patches(), restarts=1, screen=0, action_rate=1e-9, sync_every=1, sync_steps=2)
    serial = GradientDescent(restarts=1, screen=0)
    state, steady = planner.init(task, make_keys(0, 2)), serial.init(task, make_keys(0, 2))
    state, steady = planner.evaluate(task, state), serial.evaluate(task, steady)
    for _ in range(2 + 1 + 2):  # sync, lifted, sync
        state = planner.step(task, state)
    for _ in range(4):
        steady = serial.step(task, steady)
    assert state.sync.moments.count.unique().tolist() == [4]
    torch.testing.assert_close(state.best.cost, serial.evaluate(task, steady).best.cost, rtol=1e-3, atol=0)


def test_a_sync_cut_short_keeps_what_it_has_found() -> None:
    task = pendulum()
    planner = GRASP(restarts=3, sync_steps=5)
    begun = planner.evaluate(task, planner.init(task, make_keys(0, task.batch)))
    after = planner.step(task, begun)
    assert bool((after.cost[:, 1:] < begun.cost[:, 1:]).all())  # restart 0 hangs still: a stationary point
    torch.testing.assert_close(after.cost, true_cost(task, after.kept)[0])
    spy = SpyModel(task.model)
    assert planner.evaluate(with_model(task, spy), after) is after and spy.calls == 0
    plan = planner.plan(task, after)
    assert bool((plan.cost.unsqueeze(1) == after.cost).any(dim=1).all())


def test_branches_keep_the_head_of_a_plan_and_only_ever_improve_it() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3, block 2"](), horizon=8)
    planner = GRASP(restarts=3, branches=6, sync_every=1, sync_steps=1)
    state = planner.evaluate(task, planner.init(task, make_keys(0, 2)))
    after = planner._branch(task, state, 0, 5)
    changed = (after.kept != state.kept).any(dim=3)
    assert not bool(changed[:, :, :5].any()) and bool(changed[:, :, 5:].any())
    assert bool((after.cost <= state.cost).all()) and bool((after.cost < state.cost).any())
    cost, states = true_cost(task, after.kept)
    torch.testing.assert_close(after.cost, cost)
    torch.testing.assert_close(after.kept_states, states)
    torch.testing.assert_close(after.best.cost, torch.minimum(state.best.cost, cost.amin(dim=1)))


def test_the_cheapest_restarts_survive_the_first_sync() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=6)
    few = GRASP(
        restarts=6, survivors=2, sift=2, sync=GradientDescent(restarts=1), sync_steps=2, branches=0, caution=0.0
    )
    every = replace(few, survivors=None)
    state = few.evaluate(task, few.init(task, make_keys(0, 2)))
    both = {planner: planner.step(task, planner.step(task, state)) for planner in (few, every)}
    order = both[every].cost.argsort(dim=1)
    for name in ("actions", "states", "kept", "kept_states", "cost"):  # the same, in order
        ordered = torch.stack([x[i] for x, i in zip(getattr(both[every], name), order, strict=True)])
        torch.testing.assert_close(getattr(both[few], name)[:, :2], ordered[:, :2])
    rows = torch.arange(2)
    found = both[few].best
    torch.testing.assert_close(both[few].kept[rows, found.candidate], found.actions)  # it knows who had found the best
    later = both[few]
    for _ in range(5):
        later = few.step(task, later)
    torch.testing.assert_close(later.actions[:, 2:], both[few].actions[:, 2:], rtol=0, atol=0)
    assert bool((later.cost <= both[few].cost).all()) and bool((later.cost[:, :2] < both[few].cost[:, :2]).any())
    assert later.sync.moments.count.tolist() == [[5, 5, 2, 2, 2, 2]] * 2
    shifted = few.shift(task, later, 1)
    wide = few.step(task, few.step(task, shifted))
    assert wide.sync.moments.count.tolist() == [[2] * 6] * 2, "a warm start wakes all restarts"


def test_a_sync_goes_on_with_the_survivors_alone() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=6)
    planner = GRASP(restarts=6, survivors=2, sift=1, sync_steps=3, branches=0)
    state = planner.step(task, planner.evaluate(task, planner.init(task, make_keys(0, 2))))
    assert bool((state.cost.diff(dim=1) >= 0).all())
    after = planner.step(task, state)
    torch.testing.assert_close(after.cost[:, 2:], state.cost[:, 2:], rtol=0, atol=0)
    alone = GaussNewton(restarts=1)  # what the sync is, from the survivors' own plans
    for restart in range(2):
        begun = alone.evaluate(task, alone.init(task, make_keys(0, 2), state.actions[:, restart]))
        begun = replace(begun, damping=state.sync.damping[:, restart])
        torch.testing.assert_close(after.actions[:, restart], alone.step(task, begun).actions[:, 0])
    with pytest.raises(ValueError, match="sift: expected at most sync_steps, 1, got 2"):
        GRASP(restarts=6, survivors=2, sift=2)
    with pytest.raises(ValueError, match="survivors: expected None without a sync"):
        GRASP(restarts=6, survivors=2, sync_every=None)


def test_a_dropped_restart_is_no_plan_to_choose() -> None:
    """However little noise would harm it."""
    task = linear_quadratic(LINEAR["integrator"](), horizon=4)
    planner = GRASP(restarts=3, survivors=1, sync_steps=1, branches=0, caution=10.0)
    state = planner.step(task, planner.evaluate(task, planner.init(task, make_keys(0, 2))))
    plan = planner.plan(task, state)
    torch.testing.assert_close(plan.cost, state.cost[:, 0])
    torch.testing.assert_close(plan.states, state.kept_states[:, 0])


def test_rows_that_began_at_different_times_are_planned_as_if_alone() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=6)
    planner = GRASP(restarts=5, survivors=2, sync_steps=3, sift=2, branches=3)
    state = planner.evaluate(task, planner.init(task, make_keys(0, 2)))
    ahead = planner.step(task, planner.step(task, state))
    mixed = replace_rows(state, torch.tensor([1]), select_rows(ahead, torch.tensor([1])))
    mixed = planner.step(task, mixed)
    for row, whole in ((0, planner.step(task, state)), (1, planner.step(task, ahead))):
        for name in ("iteration", "actions", "states", "kept", "cost"):
            torch.testing.assert_close(getattr(mixed, name)[row], getattr(whole, name)[row], rtol=1e-9, atol=1e-12)
    plan, alone = planner.plan(task, mixed), planner.plan(task, planner.step(task, ahead))
    torch.testing.assert_close(plan.actions[1], alone.actions[1])


def test_branches_ask_the_model_from_where_the_plan_has_led() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), batch=1, horizon=6)
    asked = []

    class Proposer(SpyModel):
        proposes = True

        def propose(self, states, past_actions, goal, noise):
            asked.append((states, past_actions, goal))
            return torch.full_like(noise, 0.25)

    task = with_model(task, Proposer(task.model))
    planner = GRASP(restarts=2, branches=3, screen=1)
    state = planner.evaluate(task, planner.init(task, make_keys(0, 1)))
    tried, paths, costs = branched(task, make_keys(1, 1), state.kept, state.kept_states, 4, 3, 0.5, 0.9)
    torch.testing.assert_close(costs, true_cost(task, tried)[0])
    torch.testing.assert_close(paths, true_cost(task, tried)[1])
    assert tried.shape == (1, 6, 6, 2)
    assert bool((tried[:, :, 4:] == 0.25).all())
    torch.testing.assert_close(tried[0, :, :4], state.kept[0].repeat_interleave(3, dim=0)[:, :4])
    states, past, goal = asked[-1]
    torch.testing.assert_close(states, state.kept_states[0, :, 2:5])
    torch.testing.assert_close(past, environment_units(task, state.kept[0, :, 2:4]))
    torch.testing.assert_close(goal, task.goal.expand(2, -1))


def test_long_plans_are_improved_in_overlapping_windows() -> None:
    task = linear_quadratic(LINEAR["coasting, history 3"](), horizon=10)
    planner = replace(PLAIN, window=4, goal_weight=0.3)
    state = planner.init(task, make_keys(0, 2))
    state = replace(state, actions=0.5 * state.actions)
    touched = []
    for t in (0, 2, 4, 6):
        after = planner.step(task, state)
        rolled = torch.cat([task.states[:, -1:].unsqueeze(1).expand(-1, 3, -1, -1), state.states], dim=2)
        by_hand = torch.zeros(())
        u, s = state.actions.clone().requires_grad_(True), state.states.clone().requires_grad_(True)
        goal = task.goal[:, None, None].expand(-1, 3, 1, -1)
        history = torch.cat([task.states[:, :-1].unsqueeze(1).expand(-1, 3, -1, -1), rolled], dim=2)
        target = torch.cat([s, goal], dim=2)
        blocks = action_windows(task, environment_units(task, u))
        for i in range(t, t + 4):
            predicted = task.model.predict(history[:, :, i : i + 3].flatten(0, 1), blocks[:, :, i].flatten(0, 1))
            predicted = predicted.view(2, 3, -1)
            by_hand = by_hand + (predicted - target[:, :, i]).square().sum()
            by_hand = by_hand + 0.3 * (predicted - goal[:, :, 0]).square().sum()
        to_u, to_s = torch.autograd.grad(by_hand, (u, s))
        torch.testing.assert_close(after.actions, (state.actions - 0.01 * to_u).clamp(-1, 1))
        torch.testing.assert_close(after.states, state.states - 0.01 * to_s)
        touched.append((to_u != 0).any(dim=3).any(dim=1).any(dim=0))
        state = after
    assert bool(torch.stack(touched).any(dim=0).all())


class Forked(nn.Module):
    """Two ways to the goal at 1: by the first action, whatever noise does, or by the second, which amplifies it."""

    state_shape, history, action_dim, action_block = (1,), 1, 2, 1

    def encode(self, obs):
        return obs

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        s, (calm, bold) = states[:, -1], actions[:, -1].split(1, dim=1)
        return s + calm + bold + bold * 40 * (s - s.round(decimals=1)).abs()


def test_caution_prefers_the_plan_that_noise_does_not_upset() -> None:
    one = torch.ones(2, dtype=torch.float64)
    nothing = torch.zeros(1, 0, 2, dtype=torch.float64)
    start, goal = torch.zeros(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    task = Problem(Forked(), GoalDistance(running=0.0), start, nothing, goal, 2, -one, one)
    calm = torch.tensor([[[0.52, 0.0], [0.52, 0.0]]]).double()  # arrives at 1.04
    bold = torch.tensor([[[0.0, 0.5], [0.0, 0.5]]]).double()  # arrives at 1 exactly, if nothing comes between
    for caution, wanted in ((0.0, bold), (0.02, calm)):
        planner = GRASP(restarts=2, caution=caution)
        state = planner.init(task, make_keys(0, 1))
        state = planner.evaluate(task, replace(state, actions=torch.stack([calm, bold], dim=1)))
        plan = planner.plan(task, state)
        torch.testing.assert_close(plan.actions, wanted)
        torch.testing.assert_close(plan.cost, true_cost(task, wanted.unsqueeze(1))[0][:, 0])
        torch.testing.assert_close(plan.restarts[0, 0], torch.tensor(0.04**2).double())
