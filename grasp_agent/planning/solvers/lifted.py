"""The lifted iteration of GRASP: actions and virtual states improved together, all time steps in one model call.

Psenka, Rabbat, Krishnapriyan, LeCun and Bar, "Parallel Stochastic Gradient-Based Planning for World Models",
arXiv 2602.00475. Variables are the actions a_0..a_{T-1} and the virtual states s_1..s_{T-1}; s_0 (the present) and
s_T = g (the goal) are fixed. With sg() = stop-gradient,

    L_dyn  = sum_t || F(sg(s_t), a_t) - s_{t+1} ||^2          t = 0..T-1; the last term ties the last action to the goal
    L_goal = sum_t    d(F(sg(s_t), a_t), g)                   d: the objective's state cost, || . - g ||^2 by default
    L      = L_dyn + gamma * L_goal

    s <- s - eta_s * dL/ds + sigma * xi                       xi ~ N(0, I): noise on the states only
    a <- a - eta_a * dL/da

F is evaluated for all t at once, so an iteration takes one model call whatever T. Gradients reach a_t through F's
action input and s_{t+1} as a target. They never reach s_t through F's state input, whose Jacobian is brittle in learned
visual latents. Where the model reads h frames, s_t and a_t stand for its window, filled up with the real past.

Units: actions are normalised; states and losses are measured in the latent's scale, so rates, noise and clipping have
no unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from grasp_agent.core.checks import at_least, choice, flag, positive, positive_or_none
from grasp_agent.core.rng import normal, split
from grasp_agent.core.rows import repeat_rows
from grasp_agent.core.types import Problem
from grasp_agent.planning.plans import Plans, Start, Trajectory, scored_start
from grasp_agent.planning.rollout import latent_scale, one_step, part_of, per_row
from grasp_agent.planning.solvers.descent import (
    OPTIMIZERS,
    Moments,
    Optimizer,
    clipped,
    descent,
    holds_moments,
    no_moments,
    norms,
    require_gradient,
    to_actions,
)
from grasp_agent.planning.solvers.solver import Solver
from grasp_agent.planning.virtual_states import shift_states, straight_line, towards_goal, with_goal


@dataclass(frozen=True)
class LiftedState:
    """Attributes:
    keys: random key per row, [B].
    iteration: iterations so far, [B], on the CPU.
    actions: a, normalised, [B, T, A].
    states: virtual states s_1..s_{T-1}, [B, T - 1, *S].
    scale: the unit of the states, [B].
    action_moments: the optimiser's memory of a.
    state_moments: the optimiser's memory of s.
    """

    keys: Tensor
    iteration: Tensor
    actions: Tensor
    states: Tensor
    scale: Tensor
    action_moments: Moments
    state_moments: Moments


@dataclass(frozen=True)
class Lifted(Solver[LiftedState]):
    """The paper's iteration; see the module's docstring for the symbols.

    Attributes:
        action_rate: eta_a, in half-ranges of the action.
        state_rate: eta_s, in the unit of the states.
        optimizer: "adam" or "sgd" (plain gradient descent, as in the paper's equations).
        goal_weight: gamma.
        anneal_goal: let gamma fall to zero along with the noise.
        noise: sigma, in the unit of the states.
        anneal: iterations over which the noise falls linearly to zero; None keeps it.
        resample: iterations that one draw of the noise serves.
        stop_gradient: cut the gradient into F's state input (False is an ablation).
        clip: longest gradient per plan and variable; None does not clip.
        balance: scale the gradients of states and actions to their mean norm.
        window: time steps of an iteration; longer plans are improved in windows of this many, one at a time, that
            overlap by half.
        init_states: where virtual states begin: on the straight line to the goal ("line", the paper), on the plan's
            rollout ("rollout"), on the rollout bent so that it ends in the goal ("bent"), or on noise ("noise").
        init_noise: standard deviation of the noise on the starting virtual states, in their unit.
        state_scale: the unit of the states; None takes the root mean square of goal minus present, per row.
    """

    name: ClassVar[str] = "lifted"

    action_rate: float = 0.005
    state_rate: float = 0.05
    optimizer: Optimizer = "adam"
    goal_weight: float = 0.1
    anneal_goal: bool = False
    noise: float = 0.02
    anneal: int | None = 50
    resample: int = 1
    stop_gradient: bool = True
    clip: float | None = None
    balance: bool = False
    window: int = 200
    init_states: Literal["line", "rollout", "bent", "noise"] = "line"
    init_noise: float = 0.05
    state_scale: float | None = None

    def __post_init__(self) -> None:
        at_least(self, 1, "resample", "anneal")
        at_least(self, 2, "window")
        at_least(self, 0, "goal_weight", "noise", "init_noise")
        positive(self, "action_rate", "state_rate")
        positive_or_none(self, "clip", "state_scale")
        flag(self, "anneal_goal", "stop_gradient", "balance")
        choice(self, "optimizer", OPTIMIZERS)
        choice(self, "init_states", ("line", "rollout", "bent", "noise"))

    def step(self, problem: Problem, state: LiftedState) -> tuple[LiftedState, Plans | None]:
        i = int(state.iteration[0])
        a, s = state.actions.detach().requires_grad_(True), state.states.detach().requires_grad_(True)
        fade = 1.0 if self.anneal is None else max(0.0, 1 - i / self.anneal)  # how much of the noise is left
        gamma = self.goal_weight * fade if self.anneal_goal else self.goal_weight

        loss = self._loss(problem, a, s, gamma, i) / state.scale.square()
        to_a, to_s = torch.autograd.grad(loss.sum(), (a, s), allow_unused=True)
        to_a, to_s = self._conditioned(to_actions(to_a), to_s * per_row(state.scale, s))

        change_a, action_moments = descent(self.optimizer, self.action_rate, to_a, state.action_moments)
        change_s, state_moments = descent(self.optimizer, self.state_rate, to_s, state.state_moments)
        if self.noise * fade > 0:
            xi = normal(split(split(state.keys, 0), i // self.resample), s.shape[1:], s.dtype)
            change_s = change_s + self.noise * fade * xi
        moved = replace(
            state,
            iteration=state.iteration + 1,
            actions=(state.actions + change_a).clamp_(-1, 1),
            states=state.states + per_row(state.scale, s) * change_s,
            action_moments=action_moments,
            state_moments=state_moments,
        )
        return moved, None  # nothing is rolled out here

    def _loss(self, problem: Problem, a: Tensor, s: Tensor, gamma: float, i: int) -> Tensor:
        """L_dyn + gamma * L_goal of every row, [B], over the whole plan or the window that is due."""
        following, seen = with_goal(problem, s), s.detach() if self.stop_gradient else s
        if problem.horizon > self.window:
            begin = self._window(problem.horizon, i)
            following = following[:, begin : begin + self.window]
            problem, a, seen = part_of(problem, a, seen, begin, self.window)
        predicted = one_step(problem, a, seen)
        require_gradient(predicted)
        dynamics = (predicted - following).square().flatten(1).sum(1)
        goal = repeat_rows(problem.goal, predicted.shape[1])
        shaping = problem.objective.state_cost(predicted.flatten(0, 1), goal).view(problem.batch, -1).sum(1)
        return dynamics + gamma * shaping

    def _window(self, steps: int, i: int) -> int:
        """First time step of the window that is due in iteration i."""
        starts: list[int] = [*range(0, steps - self.window, self.window // 2), steps - self.window]
        return starts[i % len(starts)]

    def _conditioned(self, to_a: Tensor, to_s: Tensor) -> tuple[Tensor, Tensor]:
        """Clip the gradients and balance them, if so wished."""
        to_a, to_s = clipped(to_a, self.clip), clipped(to_s, self.clip)
        if not self.balance:
            return to_a, to_s
        norm_a, norm_s = norms(to_a), norms(to_s)
        mean = (norm_a + norm_s) / 2
        return (
            to_a * per_row(mean / norm_a.clamp(min=1e-12), to_a),
            to_s * per_row(mean / norm_s.clamp(min=1e-12), to_s),
        )

    # ----- where it begins, and what it has found ------------------------------------------------------------

    def init(self, problem: Problem, start: Start, keys: Tensor) -> LiftedState:
        scale = latent_scale(problem)
        if self.state_scale is not None:
            scale = torch.full_like(scale, self.state_scale)
        states = self._initial_states(problem, start)
        noise = normal(split(keys, 1), states.shape[1:], states.dtype)
        states = states + self.init_noise * per_row(scale, states) * noise
        return self._begun(split(keys, 0), start, states, scale)

    def _initial_states(self, problem: Problem, start: Start) -> Tensor:
        if self.init_states == "rollout":
            return start.states[:, 1:-1]
        if self.init_states == "bent":
            return towards_goal(problem, start.states)
        line = straight_line(problem)
        return line if self.init_states == "line" else line.mean(dim=1, keepdim=True).expand_as(line)

    def restart(self, problem: Problem, state: LiftedState, start: Start, keys: Tensor) -> LiftedState:
        """Begin anew from the plan, but for the annealing of the noise, which goes on."""
        return replace(self.init(problem, start, state.keys), keys=split(state.keys, 2), iteration=state.iteration)

    def shift(self, problem: Problem, state: LiftedState, start: Start, keys: Tensor, steps: int) -> LiftedState:
        """Keep the virtual states, moved on in time."""
        return self._begun(split(keys, 0), start, shift_states(problem, state.states, steps), state.scale)

    def _begun(self, keys: Tensor, start: Start, states: Tensor, scale: Tensor) -> LiftedState:
        return LiftedState(
            keys=keys,
            iteration=torch.zeros(len(keys), dtype=torch.int64),
            actions=start.actions,
            states=states,
            scale=scale,
            action_moments=no_moments(self.optimizer, start.actions),
            state_moments=no_moments(self.optimizer, states),
        )

    def current(self, problem: Problem, state: LiftedState) -> Start:
        return scored_start(problem, state.actions)

    def holds(self, state: Any) -> bool:
        return super().holds(state) and holds_moments(self.optimizer, state.action_moments)

    def trajectory(self, problem: Problem, state: LiftedState) -> Trajectory:
        states = torch.cat([problem.states[:, -1:], with_goal(problem, state.states)], dim=1)
        return Trajectory(state.actions, states)
