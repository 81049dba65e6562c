"""GRASP: gradient-relaxed stochastic planning with virtual states.

Psenka, Rabbat, Krishnapriyan, LeCun and Bar, "Parallel Stochastic Gradient-Based Planning for World Models",
arXiv 2602.00475. Actions a_0..a_{T-1} and virtual states s_1..s_{T-1} are optimised together, s_0 (the
present) and s_T = g (the goal) being fixed. With sg() = stop-gradient,

    L_dyn  = sum_t || F(sg(s_t), a_t) - s_{t+1} ||^2          t = 0..T-1; the last term ties the last action
    to the goal L_goal = sum_t    d(F(sg(s_t), a_t), g)                   d: the objective's state cost, || .
    - g ||^2 by default L      = L_dyn + gamma * L_goal

    s <- s - eta_s * dL/ds + sigma * xi         noise on the states only
    a <- a - eta_a * dL/da

All time steps, restarts and problems go through F in one batched call: such a lifted iteration costs the same
whatever T. Gradients reach a_t through F's action input and s_{t+1} as a target, never s_t through F's state
input, whose Jacobian is brittle in learned visual latents. Every K lifted iterations a sync follows: J steps
on the true serial objective, actions only, each of which scores the plan it starts from. An iteration of
`solve` is one lifted iteration or one sync step.

Where the model reads h frames, s_t and a_t stand for its window, filled up with the real past.

Units: actions are normalised; states and losses are measured in `state_scale`, so rates, noise and clipping
    carry no unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from grasp_agent.planners.base import (
    Best,
    action_windows,
    environment_units,
    make_plan,
    repeat_rows,
    rollout,
    score,
    stand_still,
    unscored,
    where_rows,
    zero_plan,
)
from grasp_agent.planners.cem import cem_round
from grasp_agent.planners.checks import at_least, choice, fraction, positive, positive_or_none
from grasp_agent.planners.descent import (
    OPTIMIZERS,
    Moments,
    Optimizer,
    clipped,
    descent,
    no_moments,
    norms,
    require_gradient,
    rollout_gradient,
)
from grasp_agent.planners.sequences import (
    initial_actions,
    ramp_to_goal,
    shift_restarts,
    shift_states,
    smooth_noise,
)
from grasp_agent.rng import normal, split
from grasp_agent.types import Plan, Problem


@dataclass(frozen=True)
class GRASPState:
    """Attributes:
    keys: random key per row, [B].
    iteration: iterations since `init` or `shift`, [B].
    actions: u, normalised, [B, R, T, A].
    states: virtual states s_1..s_{T-1}, [B, R, T - 1, *S].
    scale: the unit of the states, [B].
    action_moments: the optimiser's memory of u in lifted iterations.
    state_moments: the optimiser's memory of s.
    sync_moments: the optimiser's memory of u within one sync.
    deviation: sampling deviation of the CEM sync, [B, R, T, A]; empty, [B, 0], for the gradient sync.
    best: best plan scored so far.
    """

    keys: Tensor
    iteration: Tensor
    actions: Tensor
    states: Tensor
    scale: Tensor
    action_moments: Moments
    state_moments: Moments
    sync_moments: Moments
    deviation: Tensor
    best: Best


@dataclass(frozen=True)
class GRASP:
    """The GRASP planner; see the module's docstring for the symbols.

    Attributes:
        restarts: R, plans improved side by side; the first starts from zero actions, half of them from what the
            model proposes, if it does.
        action_rate: eta_a, in half-ranges of the action.
        state_rate: eta_s, in `state_scale`.
        optimizer: of the lifted iterations and the gradient sync, "adam" or "sgd".
        goal_weight: gamma.
        anneal_goal: let gamma fall to zero along with the noise.
        noise: sigma, in `state_scale`.
        anneal: iterations over which the noise falls linearly to zero; None keeps it.
        resample: iterations that one draw of the noise serves.
        state_scale: the unit of the states; None takes the root mean square of goal minus present, per row.
        stop_gradient: cut the gradient into F's state input (False is an ablation: plain collocation).
        clip: longest gradient per restart and variable, in `state_scale`; None does not clip.
        balance: scale the state and action gradients of a restart to their mean norm.
        init_states: virtual states begin on the straight line to the goal ("line") or on the rollout of the
            starting actions ("rollout").
        init_noise: standard deviation of the noise on the starting virtual states, in `state_scale`.
        init_scale: standard deviation of the random starting plans of the other restarts, in half-ranges of
            the action.
        correlation: of a random action with the one an environment step later.
        refresh: restarts, never the first, that begin anew at every warm start.
        screen: random plans rolled out for each one that a restart begins from.
        sync: "gradient" (through the serial rollout) or "cem".
        sync_every: K, lifted iterations between syncs; None never syncs.
        sync_steps: J, gradient steps or CEM rounds per sync.
        sync_rate: rate of the gradient sync, in half-ranges of the action.
        sync_samples: plans a CEM round rolls out per restart.
        sync_elites: plans the new mean is taken from.
        sync_floor: least deviation of CEM samples, in half-ranges of the action.
        reseed: after a sync, virtual states become the rollout plus this fraction (0 to 1) of a ramp that
            closes its gap to the goal evenly over the steps; None leaves them.
    """

    name: ClassVar[str] = "grasp"
    decision_iterations: ClassVar[int] = 5

    restarts: int = 8
    action_rate: float = 0.02
    state_rate: float = 0.05
    optimizer: Optimizer = "adam"
    goal_weight: float = 0.1
    anneal_goal: bool = False
    noise: float = 0.02
    anneal: int | None = 50
    resample: int = 1
    state_scale: float | None = None
    stop_gradient: bool = True
    clip: float | None = None
    balance: bool = False
    init_states: Literal["line", "rollout"] = "line"
    init_noise: float = 0.05
    init_scale: float = 0.5
    correlation: float = 0.9
    refresh: int = 4
    screen: int = 8
    sync: Literal["gradient", "cem"] = "gradient"
    sync_every: int | None = 1
    sync_steps: int = 4
    sync_rate: float = 0.1
    sync_samples: int = 64
    sync_elites: int = 8
    sync_floor: float = 0.1
    reseed: float | None = None

    def __post_init__(self) -> None:
        at_least(self, 1, "restarts", "screen", "resample", "anneal", "sync_every", "sync_steps", "sync_elites")
        at_least(self, 2, "sync_samples")
        at_least(self, 0, "goal_weight", "noise", "init_noise", "init_scale", "refresh", "sync_floor")
        positive(self, "action_rate", "state_rate", "sync_rate")
        positive_or_none(self, "clip", "state_scale")
        fraction(self, "correlation")
        choice(self, "optimizer", OPTIMIZERS)
        choice(self, "init_states", ("line", "rollout"))
        choice(self, "sync", ("gradient", "cem"))
        if self.sync_elites > self.sync_samples:
            limit = f"sync_samples = {self.sync_samples}"
            raise ValueError(f"GRASP.sync_elites: expected at most {limit}, got {self.sync_elites}")
        if self.reseed is not None and not 0 <= self.reseed <= 1:
            raise ValueError(f"GRASP.reseed: expected a fraction from 0 to 1 or None, got {self.reseed}")

    @classmethod
    def paper(cls) -> GRASP:
        """The paper's algorithm to the letter: one plan from zero actions and a noised line, losses that are
        sums in the latent's own unit, plain gradient descent, constant noise and goal weight, a gradient sync
        every 100 iterations. Rates of plain descent depend on the latent; these suit numbers of order one."""
        return cls(
            restarts=1,
            goal_weight=1.0,
            screen=1,
            action_rate=0.05,
            state_rate=0.1,
            optimizer="sgd",
            noise=0.005,
            anneal=None,
            state_scale=1.0,
            init_noise=0.005,
            sync_every=100,
            sync_steps=10,
            sync_rate=0.05,
        )

    def init(self, problem: Problem, keys: Tensor) -> GRASPState:
        keys = keys.to(problem.goal.device)
        u = initial_actions(problem, split(keys, 0), self.restarts, self.init_scale, self.correlation, self.screen)
        scale = self._scale(problem)
        states = self._initial_states(problem, u, scale, split(keys, 1))
        return self._state(problem, split(keys, 2), u, states, scale)

    def step(self, problem: Problem, state: GRASPState) -> GRASPState:
        if self.sync_every is None:
            return self._lifted(problem, state)
        position = state.iteration % (self.sync_every + self.sync_steps)
        due = position >= self.sync_every
        if not bool(due.any()):
            return self._lifted(problem, state)
        synced = self._sync(problem, state, position - self.sync_every)
        return synced if bool(due.all()) else where_rows(due, synced, self._lifted(problem, state))

    def evaluate(self, problem: Problem, state: GRASPState) -> GRASPState:
        best, _ = score(problem, state.best, state.actions)
        return replace(state, best=best)

    def shift(self, problem: Problem, state: GRASPState, n: int) -> GRASPState:
        """Restart 0 takes over the best plan, with the virtual states of the restart that found it."""
        keys, scale = split(state.keys, 3), self._scale(problem)
        u, others = shift_restarts(
            problem,
            state.best,
            state.actions,
            n,
            split(keys, 0),
            self.refresh,
            self.init_scale,
            self.correlation,
            self.screen,
        )
        rows = torch.arange(problem.batch, device=u.device)
        came_from = torch.cat([state.best.candidate.clamp(min=0).unsqueeze(1), others], dim=1)
        kept = shift_states(problem, state.states[rows.unsqueeze(1), came_from], n)
        if came_from.shape[1] < self.restarts:
            fresh = self._initial_states(problem, u[:, came_from.shape[1] :], scale, split(keys, 1))
            kept = torch.cat([kept, fresh], dim=1)
        return self._state(problem, split(keys, 2), u, kept, scale)

    def plan(self, problem: Problem, state: GRASPState) -> Plan:
        """The best plan; its defects are those of the virtual states of the restart that found it."""
        rows = torch.arange(problem.batch, device=state.keys.device)
        restart = state.best.candidate.clamp(min=0)
        u, s = state.actions[rows, restart].unsqueeze(1), state.states[rows, restart].unsqueeze(1)
        with torch.no_grad():
            predicted, following = self._one_step(problem, u, s)
        defects = (predicted - following).flatten(3).square().mean(3).squeeze(1)
        return make_plan(problem, state.best, defects)

    # ----- the lifted iteration -----------------------------------------------------------------------------

    def _one_step(self, problem: Problem, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """F(sg(s_t), a_t) and s_{t+1} for all t = 0..T-1 in one model call: both [B, R, T, *S]."""
        b, r, steps, _ = u.shape
        h, shape = problem.model.history, s.shape[3:]
        past = problem.states.unsqueeze(1).expand(-1, r, *problem.states.shape[1:])
        goal = problem.goal[:, None, None].expand(-1, r, 1, *shape)
        frames = torch.cat([past, s.detach() if self.stop_gradient else s], dim=2)
        state_windows = frames.unfold(2, h, 1).movedim(-1, 3)  # [B, R, T, h, *S]
        blocks = action_windows(problem, environment_units(problem, u))  # [B, R, T, h, A]
        predicted = problem.model.predict(state_windows.flatten(0, 2), blocks.flatten(0, 2))
        return predicted.view(b, r, steps, *shape), torch.cat([s, goal], dim=2)

    def _lifted(self, problem: Problem, state: GRASPState) -> GRASPState:
        u, s = state.actions.detach().requires_grad_(True), state.states.detach().requires_grad_(True)
        fade = self._fade(state.iteration)
        gamma = self.goal_weight * (fade if self.anneal_goal else torch.ones_like(fade))

        predicted, following = self._one_step(problem, u, s)
        require_gradient(predicted)
        goal = repeat_rows(problem.goal, u.shape[1] * u.shape[2])
        dynamics = (predicted - following).square().flatten(1).sum(1)
        shaping = problem.objective.state_cost(predicted.flatten(0, 2), goal).view(problem.batch, -1).sum(1)
        loss = (dynamics + gamma * shaping) / state.scale.square()
        to_u, to_s = torch.autograd.grad(loss.sum(), (u, s))

        scale = state.scale.view(-1, *[1] * (s.ndim - 1))
        to_u, to_s = clipped(to_u, self.clip), clipped(to_s * scale, self.clip)
        if self.balance:
            norm_u, norm_s = norms(to_u), norms(to_s)
            mean = (norm_u + norm_s.view_as(norm_u)) / 2
            to_u = to_u * (mean / norm_u.clamp(min=1e-12))
            to_s = to_s * (mean.view_as(norm_s) / norm_s.clamp(min=1e-12))
        change_u, action_moments = descent(self.optimizer, self.action_rate, to_u, state.action_moments)
        change_s, state_moments = descent(self.optimizer, self.state_rate, to_s, state.state_moments)
        if self.noise > 0 and bool((fade > 0).any()):
            draw = split(split(state.keys, 0), state.iteration // self.resample)
            xi = normal(draw, s.shape[1:], s.dtype)
            change_s = change_s + (self.noise * fade).view_as(scale) * xi
        return replace(
            state,
            iteration=state.iteration + 1,
            actions=(state.actions + change_u).clamp_(-1, 1),
            states=state.states + scale * change_s,
            action_moments=action_moments,
            state_moments=state_moments,
        )

    def _fade(self, iteration: Tensor) -> Tensor:
        """How much of the noise is left, from 1 down to 0, [B]."""
        if self.anneal is None:
            return torch.ones_like(iteration, dtype=torch.float32)
        return (1 - iteration / self.anneal).clamp(min=0)

    # ----- the sync -----------------------------------------------------------------------------------------

    def _sync(self, problem: Problem, state: GRASPState, j: Tensor) -> GRASPState:
        """Sync step j = 0..J-1 (per row, [B]) on the true serial objective, actions only."""
        move = self._gradient_sync if self.sync == "gradient" else self._cem_sync
        state = move(problem, state, j == 0)
        state = replace(state, iteration=state.iteration + 1)
        last = j == self.sync_steps - 1
        if self.reseed is None or not bool(last.any()):
            return state
        best, rollouts = score(problem, state.best, state.actions)
        states = ramp_to_goal(problem, rollouts, self.reseed)
        zero = no_moments(self.optimizer, states)  # what the optimiser remembers was about other states
        return where_rows(last, replace(state, best=best, states=states, state_moments=zero), state)

    def _gradient_sync(self, problem: Problem, state: GRASPState, first: Tensor) -> GRASPState:
        moments = where_rows(first, no_moments(self.optimizer, state.actions), state.sync_moments)
        gradient, cost, states = rollout_gradient(problem, state.actions)
        if self.optimizer == "sgd":  # Adam's steps do not depend on the loss's unit, plain ones do
            gradient = gradient / state.scale.square().view(-1, 1, 1, 1)
        change, moments = descent(self.optimizer, self.sync_rate, clipped(gradient, self.clip), moments)
        best = state.best.update(state.actions, states, cost)
        return replace(state, actions=(state.actions + change).clamp_(-1, 1), sync_moments=moments, best=best)

    def _cem_sync(self, problem: Problem, state: GRASPState, first: Tensor) -> GRASPState:
        deviation = state.deviation
        if bool(first.any()):
            # where the virtual states and the rollout disagree most, the actions are most in doubt
            with torch.no_grad():
                rolled = rollout(problem, environment_units(problem, state.actions))[:, :, 1:]
            goal = problem.goal[:, None, None].expand_as(rolled[:, :, -1:])
            gap = (torch.cat([state.states, goal], dim=2) - rolled).flatten(3).square().mean(3)
            gap = gap.nan_to_num(0.0, 0.0, 0.0).sqrt() / state.scale[:, None, None]
            started = gap.clamp(self.sync_floor, 1.0).unsqueeze(3).expand_as(deviation)
            deviation = where_rows(first, started, deviation)
        keys = split(split(state.keys, 1), state.iteration)
        noise = smooth_noise(problem, keys, self.restarts * (self.sync_samples - 1), self.correlation)
        noise = noise.view(problem.batch, self.restarts, self.sync_samples - 1, *noise.shape[2:])
        u, deviation, actions, states, cost = cem_round(
            problem, state.actions, deviation, noise, self.sync_elites, self.sync_floor
        )
        return replace(state, actions=u, deviation=deviation, best=state.best.update(actions, states, cost))

    # ----- beginnings ---------------------------------------------------------------------------------------

    def _scale(self, problem: Problem) -> Tensor:
        if self.state_scale is not None:
            return torch.full_like(problem.goal.flatten(1)[:, 0], self.state_scale)
        gap = (problem.goal - problem.states[:, -1]).flatten(1)
        return gap.square().mean(1).sqrt().clamp(min=1e-6)

    def _initial_states(self, problem: Problem, u: Tensor, scale: Tensor, keys: Tensor) -> Tensor:
        """Virtual states s_1..s_{T-1} for plans u [B, R, T, A] -> [B, R, T - 1, *S]."""
        if self.init_states == "rollout":
            with torch.no_grad():
                states = rollout(problem, environment_units(problem, u))[:, :, 1:-1]
        else:
            states = ramp_to_goal(problem, stand_still(problem).unsqueeze(1), 1.0)
            states = states.expand(-1, u.shape[1], *states.shape[2:])
        noise = normal(keys, states.shape[1:], states.dtype)
        return states + self.init_noise * scale.view(-1, *[1] * (states.ndim - 1)) * noise

    def _state(self, problem: Problem, keys: Tensor, u: Tensor, states: Tensor, scale: Tensor) -> GRASPState:
        moments = no_moments(self.optimizer, u)
        deviation = torch.zeros_like(u) if self.sync == "cem" else u.new_zeros(len(u), 0)
        return GRASPState(
            keys=keys,
            iteration=torch.zeros_like(keys),
            actions=u,
            states=states,
            scale=scale,
            action_moments=moments,
            state_moments=no_moments(self.optimizer, states),
            sync_moments=moments,
            deviation=deviation,
            best=unscored(problem, zero_plan(problem)),
        )
