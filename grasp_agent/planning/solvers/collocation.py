"""LatCo: latent collocation, a plan as a sequence of states and actions that the dynamics must hold together.

    minimise over s_1..s_T and u:   C(s_1, ..., s_T, a)                   the objective, of the *virtual* states
    subject to                      delta_t = || F(s_t, a_t) - s_{t+1} ||^2 = 0      t = 0..T-1, s_0 the present
                                    v_t     = sum_i max(0, u_{t,i}^2 - 1)   = 0      the bounds of the action

by dual descent on the Lagrangian

    L = C + sum_t lambda_t * delta_t + sum_t nu_t * v_t
    s, u      <- a step of Adam down dL/ds, dL/du
    lambda_t  <- lambda_t * (1 + rho * log10(delta_t / epsilon + 0.1)),   nu_t likewise from v_t

so that a constraint's weight grows by rho for every decade it is violated beyond the tolerance epsilon, and
shrinks once it holds. L is divided by 1 + mean lambda + mean nu: Adam, whose memory is long, would take the growth
of the weights for a reason to take longer steps. States may run ahead of what actions can bring about, and are tied
down by and by: a plan can pass through where no rollout would go at first.

Rybkin, Zhu, Nagabandi, Daniilidis, Mordatch and Levine, "Model-Based Reinforcement Learning via Latent-Space
Collocation", ICML 2021. All time steps, restarts and problems go through F in one batched call. In contrast to
GRASP, gradients flow through F's state input too and s_T is free. The paper takes Gauss-Newton steps on
residuals; steps of Adam, its first-order variant, take any objective.

Units: actions are normalised; delta is the mean square over the latent in the unit of the root mean square of
goal minus present, C is measured in the cost of staying in the present state. A plan is scored by its true
rollout, actions clipped to the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from grasp_agent.core.checks import at_least, choice, fraction, positive
from grasp_agent.core.rng import split
from grasp_agent.core.rows import repeat_rows, take, where_rows
from grasp_agent.core.types import Plan, Problem
from grasp_agent.planning.restarts import Restarts
from grasp_agent.planning.rollout import environment_units, frozen, one_step, rollout, stand_still, zero_plan
from grasp_agent.planning.solve import Best, make_plan, score, unscored
from grasp_agent.planning.solvers.descent import Moments, descent, no_moments, require_gradient
from grasp_agent.planning.warm_start import ramp_to_goal, shift_states

_SMALLEST, _LARGEST = 1e-6, 1e6  # multipliers: after thousands of iterations they must still find their way back


@dataclass(frozen=True)
class LatCoState:
    """Attributes:
    keys: random key per row, [B].
    iteration: iterations since `init` or `shift`, [B], on the CPU.
    actions: u, normalised, possibly beyond the bounds, [B, R, T, A].
    states: virtual states s_1..s_T, [B, R, T, *S].
    defect_weights: lambda, [B, R, T].
    bound_weights: nu, [B, R, T].
    scale: the unit of the states, [B].
    cost_scale: the unit of C, [B].
    action_moments: Adam's memory of u.
    state_moments: Adam's memory of s.
    cost: true rollout cost of each restart when it was last scored, [B, R].
    best: best plan scored so far.
    """

    keys: Tensor
    iteration: Tensor
    actions: Tensor
    states: Tensor
    defect_weights: Tensor
    bound_weights: Tensor
    scale: Tensor
    cost_scale: Tensor
    action_moments: Moments
    state_moments: Moments
    cost: Tensor
    best: Best


@dataclass(frozen=True)
class LatCo(Restarts):
    """Latent collocation; see the module's docstring for the symbols. How plans begin is in `Restarts`.

    Attributes:
        action_rate: Adam's rate for u, in half-ranges of the action.
        state_rate: Adam's rate for s, in the unit of the states.
        init_defect_weight: starting lambda.
        init_bound_weight: starting nu.
        dual_rate: rho, growth of a multiplier per decade of violation.
        tolerance: epsilon, violation up to which a multiplier stays or shrinks.
        score_every: iterations between true rollouts of the plans, which make it anytime.
        init_states: virtual states begin on the straight line to the goal ("line") or on the rollout of the
            starting actions ("rollout").
    """

    name: ClassVar[str] = "latco"
    decision_iterations: ClassVar[int] = 10

    action_rate: float = 0.05
    state_rate: float = 0.1
    init_defect_weight: float = 1.0
    init_bound_weight: float = 1.0
    dual_rate: float = 0.1
    tolerance: float = 1e-4
    score_every: int = 5
    init_states: Literal["line", "rollout"] = "rollout"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "score_every")
        positive(self, "action_rate", "state_rate", "init_defect_weight", "init_bound_weight", "tolerance")
        fraction(self, "dual_rate")
        choice(self, "init_states", ("line", "rollout"))

    def init(self, problem: Problem, keys: Tensor, start: Tensor | None = None) -> LatCoState:
        keys = keys.to(problem.goal.device)
        u = self.beginnings(problem, split(keys, 0), start)
        return self._state(problem, split(keys, 1), u, self._initial_states(problem, u))

    def step(self, problem: Problem, state: LatCoState) -> LatCoState:
        state = self._descended(problem, state)
        due = state.iteration % self.score_every == 0
        if not bool(due.any()):
            return state
        scored = self.evaluate(problem, state)
        return scored if bool(due.all()) else where_rows(due, scored, state)

    def evaluate(self, problem: Problem, state: LatCoState) -> LatCoState:
        best, _, cost = score(problem, state.best, state.actions.clamp(-1, 1))
        return replace(state, cost=cost, best=best)

    def shift(self, problem: Problem, state: LatCoState, n: int) -> LatCoState:
        """Restart 0 takes over the best plan, with the virtual states of the restart that found it."""
        warm = self.warm_starts(problem, state.best, state.actions.clamp(-1, 1), n, split(state.keys, 0))
        came_from = torch.cat([state.best.candidate.clamp(min=0).unsqueeze(1), warm.came_from], dim=1)
        longer = replace(problem, horizon=problem.horizon + 1)  # s_T is free here, the goal comes one step later
        kept = shift_states(longer, take(state.states, came_from), n)
        if came_from.shape[1] < self.restarts:
            fresh = self._initial_states(problem, warm.actions[:, came_from.shape[1] :])
            kept = torch.cat([kept, fresh], dim=1)
        begun = self._state(problem, split(state.keys, 1), warm.actions, kept)
        return replace(begun, cost=warm.cost, best=warm.best)

    def plan(self, problem: Problem, state: LatCoState) -> Plan:
        """The best plan; its defects are those of the virtual states of the restart that found it."""
        rows = torch.arange(problem.batch, device=state.keys.device)
        restart = state.best.candidate.clamp(min=0)
        u, s = state.actions[rows, restart].unsqueeze(1), state.states[rows, restart].unsqueeze(1)
        with torch.no_grad():
            predicted = one_step(problem, u.clamp(-1, 1), s[:, :, :-1])
        defects = (predicted - s).flatten(3).square().mean(3).squeeze(1)
        return make_plan(problem, state.best, defects, state.cost)

    # ----- dual descent -------------------------------------------------------------------------------------

    def _descended(self, problem: Problem, state: LatCoState) -> LatCoState:
        """One step of Adam on the Lagrangian, and one of the multipliers."""
        u, s = state.actions.detach().requires_grad_(True), state.states.detach().requires_grad_(True)
        predicted = one_step(problem, u, s[:, :, :-1])
        require_gradient(predicted)
        defects = (predicted - s).flatten(3).square().mean(3) / state.scale.square().view(-1, 1, 1)
        beyond = (u.square() - 1).clamp(min=0).sum(3)
        actions = environment_units(problem, u)
        goal = repeat_rows(problem.goal, u.shape[1])
        cost = problem.objective.trajectory_cost(s.flatten(0, 1), actions.flatten(0, 1), goal)
        cost = cost.view(problem.batch, -1) / state.cost_scale.unsqueeze(1)
        ties = (state.defect_weights * defects + state.bound_weights * beyond).sum(2)
        weight = 1 + state.defect_weights.mean(2) + state.bound_weights.mean(2)
        to_u, to_s = torch.autograd.grad(((cost + ties) / weight).sum(), (u, s))

        scale = state.scale.view(-1, *[1] * (s.ndim - 1))
        to_u, to_s = (g.nan_to_num(0.0, 0.0, 0.0) for g in (to_u, to_s * scale))
        change_u, action_moments = descent("adam", self.action_rate, to_u, state.action_moments)
        change_s, state_moments = descent("adam", self.state_rate, to_s, state.state_moments)
        return replace(
            state,
            iteration=state.iteration + 1,
            actions=state.actions + change_u,
            states=state.states + scale * change_s,
            defect_weights=self._ascended(state.defect_weights, defects.detach()),
            bound_weights=self._ascended(state.bound_weights, beyond.detach()),
            action_moments=action_moments,
            state_moments=state_moments,
        )

    def _ascended(self, weights: Tensor, violation: Tensor) -> Tensor:
        """Multipliers [B, R, T] after one dual step, given what their constraints are violated by."""
        decades = (violation / self.tolerance + 0.1).log10().nan_to_num(0.0, 0.0, 0.0)
        return (weights * (1 + self.dual_rate * decades)).clamp(_SMALLEST, _LARGEST)

    # ----- beginnings ---------------------------------------------------------------------------------------

    def _initial_states(self, problem: Problem, u: Tensor) -> Tensor:
        """Virtual states s_1..s_T for plans u [B, R, T, A] -> [B, R, T, *S]."""
        line = ramp_to_goal(problem, stand_still(problem).unsqueeze(1), 1.0)
        line = torch.cat([line, problem.goal[:, None, None]], dim=2)
        line = line.expand(-1, u.shape[1], *line.shape[2:])
        if self.init_states == "line":
            return line
        with torch.no_grad(), frozen(problem.model):
            states = rollout(problem, environment_units(problem, u))[:, :, 1:]
        return torch.where(states.isfinite(), states, line)

    def _state(self, problem: Problem, keys: Tensor, u: Tensor, states: Tensor) -> LatCoState:
        gap = (problem.goal - problem.states[:, -1]).flatten(1)
        weights = u.new_ones(u.shape[:3])
        still = stand_still(problem)[:, 1:], environment_units(problem, zero_plan(problem))
        with torch.no_grad():
            cost_scale = problem.objective.trajectory_cost(*still, problem.goal).clamp(min=1e-6)
        return LatCoState(
            keys=keys,
            iteration=torch.zeros(len(keys), dtype=torch.int64),
            actions=u,
            states=states.contiguous(),
            defect_weights=self.init_defect_weight * weights,
            bound_weights=self.init_bound_weight * weights,
            scale=gap.square().mean(1).sqrt().clamp(min=1e-6),
            cost_scale=cost_scale,
            action_moments=no_moments("adam", u),
            state_moments=no_moments("adam", states),
            cost=u.new_full(u.shape[:2], torch.inf),
            best=unscored(problem, zero_plan(problem)),
        )
