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
from grasp_agent.core.types import Problem
from grasp_agent.planning.plans import Plans, Start, Trajectory, scored_start
from grasp_agent.planning.rollout import environment_units, latent_scale, one_step, per_row, zero_plan
from grasp_agent.planning.solvers.descent import Moments, descent, no_moments, require_gradient, to_actions
from grasp_agent.planning.solvers.solver import Solver
from grasp_agent.planning.virtual_states import shift_states, straight_line, with_goal

_SMALLEST, _LARGEST = 1e-6, 1e6  # multipliers: after thousands of iterations they must still find their way back


@dataclass(frozen=True)
class LatCoState:
    """Attributes:
    iteration: iterations so far, [B], on the CPU.
    actions: u, normalised, possibly beyond the bounds, [B, T, A].
    states: virtual states s_1..s_T, [B, T, *S].
    defect_weights: lambda, [B, T].
    bound_weights: nu, [B, T].
    scale: the unit of the states, [B].
    cost_scale: the unit of C, [B].
    action_moments: Adam's memory of u.
    state_moments: Adam's memory of s.
    """

    iteration: Tensor
    actions: Tensor
    states: Tensor
    defect_weights: Tensor
    bound_weights: Tensor
    scale: Tensor
    cost_scale: Tensor
    action_moments: Moments
    state_moments: Moments


@dataclass(frozen=True)
class LatCo(Solver[LatCoState]):
    """Latent collocation; see the module's docstring for the symbols.

    Attributes:
        action_rate: Adam's rate for u, in half-ranges of the action.
        state_rate: Adam's rate for s, in the unit of the states.
        init_defect_weight: starting lambda.
        init_bound_weight: starting nu.
        dual_rate: rho, growth of a multiplier per decade of violation.
        tolerance: epsilon, violation up to which a multiplier stays or shrinks.
        score_every: iterations between true rollouts of the plan, which make it anytime.
        init_states: virtual states begin on the straight line to the goal ("line") or on the plan's rollout
            ("rollout").
    """

    name: ClassVar[str] = "latco"

    action_rate: float = 0.05
    state_rate: float = 0.1
    init_defect_weight: float = 1.0
    init_bound_weight: float = 1.0
    dual_rate: float = 0.1
    tolerance: float = 1e-4
    score_every: int = 5
    init_states: Literal["line", "rollout"] = "rollout"

    def __post_init__(self) -> None:
        at_least(self, 1, "score_every")
        positive(self, "action_rate", "state_rate", "init_defect_weight", "init_bound_weight", "tolerance")
        fraction(self, "dual_rate")
        choice(self, "init_states", ("line", "rollout"))

    def init(self, problem: Problem, start: Start, keys: Tensor) -> LatCoState:
        line = with_goal(problem, straight_line(problem))
        path = start.states[:, 1:]
        return self._begun(
            problem, start, line if self.init_states == "line" else torch.where(path.isfinite(), path, line)
        )

    def shift(self, problem: Problem, state: LatCoState, start: Start, keys: Tensor, steps: int) -> LatCoState:
        """Keep the virtual states, moved on in time."""
        longer = replace(problem, horizon=problem.horizon + 1)  # s_T is free here, the goal comes one step later
        return self._begun(problem, start, shift_states(longer, state.states, steps))

    def step(self, problem: Problem, state: LatCoState) -> tuple[LatCoState, Plans | None]:
        state = self._descended(problem, state)
        due = int(state.iteration[0]) % self.score_every == 0
        return state, self.current(problem, state).as_plans if due else None

    def current(self, problem: Problem, state: LatCoState) -> Start:
        return scored_start(problem, state.actions.clamp(-1, 1))

    def trajectory(self, problem: Problem, state: LatCoState) -> Trajectory:
        return Trajectory(state.actions.clamp(-1, 1), torch.cat([problem.states[:, -1:], state.states], dim=1))

    # ----- dual descent -------------------------------------------------------------------------------------

    def _descended(self, problem: Problem, state: LatCoState) -> LatCoState:
        """One step of Adam on the Lagrangian, and one of the multipliers."""
        u, s = state.actions.detach().requires_grad_(True), state.states.detach().requires_grad_(True)
        read = u.detach().requires_grad_(True)  # u as the model reads it, so that a model that does not is noticed
        predicted = one_step(problem, read, s[:, :-1])
        require_gradient(predicted)
        defects = (predicted - s).flatten(2).square().mean(2) / state.scale.square().unsqueeze(1)
        beyond = (u.square() - 1).clamp(min=0).sum(2)
        cost = problem.objective.trajectory_cost(s, environment_units(problem, u), problem.goal) / state.cost_scale
        ties = (state.defect_weights * defects + state.bound_weights * beyond).sum(1)
        weight = 1 + state.defect_weights.mean(1) + state.bound_weights.mean(1)
        to_u, to_s, through_model = torch.autograd.grad(((cost + ties) / weight).sum(), (u, s, read), allow_unused=True)
        to_u = to_u + to_actions(through_model)

        scale = per_row(state.scale, s)
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
        """Multipliers [B, T] after one dual step, given what their constraints are violated by."""
        decades = (violation / self.tolerance + 0.1).log10().nan_to_num(0.0, 0.0, 0.0)
        return (weights * (1 + self.dual_rate * decades)).clamp(_SMALLEST, _LARGEST)

    def _begun(self, problem: Problem, start: Start, states: Tensor) -> LatCoState:
        u = start.actions
        weights = u.new_ones(u.shape[:2])
        still = problem.states[:, -1:].expand_as(states), environment_units(problem, zero_plan(problem))
        with torch.no_grad():
            cost_scale = problem.objective.trajectory_cost(*still, problem.goal).clamp(min=1e-6)
        return LatCoState(
            iteration=torch.zeros(len(u), dtype=torch.int64),
            actions=u,
            states=states.contiguous(),
            defect_weights=self.init_defect_weight * weights,
            bound_weights=self.init_bound_weight * weights,
            scale=latent_scale(problem),
            cost_scale=cost_scale,
            action_moments=no_moments("adam", u),
            state_moments=no_moments("adam", states),
        )
