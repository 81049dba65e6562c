"""L-BFGS through the rollout: quasi-Newton descent on the actions from gradients alone.

    minimise over u:  C(u) = cost of the rollout of u,   u in [-1, 1]

    g_k = dC/du at u_k;   s_i = u_{i+1} - u_i,   y_i = g_{i+1} - g_i   of the last m steps with s_i . y_i > 0
    d = -H_k g_k          H_k from the pairs (s_i, y_i) by the two-loop recursion, H_0 = (s . y / y . y) I
    u_{k+1} = clip(u_k + alpha d, -1, 1),   alpha the cheapest of several, tried side by side

Liu and Nocedal, "On the limited memory BFGS method for large scale optimization" (1989). The line search is a batched
rollout of several step lengths; if none improves the plan, the row stays and its memory is forgotten. A step without
memory goes down the gradient, ten times less far after each such step in vain. Actions that stand at a bound and are
pushed against it are left out of the step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from grasp_agent.core.checks import at_least
from grasp_agent.core.types import Problem
from grasp_agent.planning.plans import Plans, Start, score, start_at
from grasp_agent.planning.rollout import per_row
from grasp_agent.planning.solvers.descent import norms, rollout_gradient
from grasp_agent.planning.solvers.solver import Solver

_LENGTHS = (2.0, 1.0, 0.3, 0.1, 0.01)
_FIRST_STEP, _SHORTEST_STEP = 0.3, 1e-6
"""Largest change of an action in a step without memory, in half-ranges of the action: at first, and at the least."""


@dataclass(frozen=True)
class LBFGSState:
    """Attributes:
    plan: u with its rollout and cost.
    gradient: g at the plan before, [B, T * A]; zero in the beginning.
    moved: s of the last step, [B, T * A]; zero if there was none.
    reach: largest change of an action in a step without memory, [B].
    steps: s_i, newest last, [B, m, T * A]; zero where there is none yet.
    changes: y_i, [B, m, T * A].
    """

    plan: Start
    gradient: Tensor
    moved: Tensor
    reach: Tensor
    steps: Tensor
    changes: Tensor


@dataclass(frozen=True)
class LBFGS(Solver[LBFGSState]):
    """L-BFGS through the rollout.

    Attributes:
        memory: m, pairs of steps and gradient changes that are kept.
    """

    name: ClassVar[str] = "lbfgs"

    memory: int = 8

    def __post_init__(self) -> None:
        at_least(self, 1, "memory")

    @property
    def decision_iterations(self) -> int:
        return 5

    def init(self, problem: Problem, start: Start, keys: Tensor) -> LBFGSState:
        zero = torch.zeros_like(start.actions.flatten(1))
        pairs = zero.unsqueeze(1).repeat(1, self.memory, 1)
        reach = torch.full_like(start.cost, _FIRST_STEP)
        return LBFGSState(Start(start.actions, start.states, start.cost), zero, zero, reach, pairs, pairs)

    def step(self, problem: Problem, state: LBFGSState) -> tuple[LBFGSState, Plans | None]:
        gradient, _ = rollout_gradient(problem, state.plan.actions)
        with torch.no_grad():
            g, u = gradient.nan_to_num(0.0, 0.0, 0.0).flatten(1), state.plan.actions.flatten(1)
            steps, changes = _remembered(state, g)
            free = ((u.abs() < 1) | (u * g > 0)).to(g.dtype)
            direction = -free * _two_loops(free * g, steps * free.unsqueeze(1), changes * free.unsqueeze(1))
            uphill = (direction * g).sum(1) >= 0
            largest = (free * g).abs().amax(1).clamp(min=1e-12)
            without_memory = uphill | ~(steps[:, -1] != 0).any(1)
            plain = -free * g * per_row(state.reach / largest, g)
            direction = torch.where(per_row(without_memory, g), plain, direction)
            lengths = g.new_tensor(_LENGTHS).view(1, -1, 1)
            tried = (u.unsqueeze(1) + lengths * direction.unsqueeze(1)).clamp_(-1, 1)
        best = score(problem, tried.unflatten(2, state.plan.actions.shape[1:])).cheapest()
        better = (best.cost < state.plan.cost.unsqueeze(1)).squeeze(1)
        kept = state.plan.as_plans.or_cheaper(best)
        plan = start_at(kept)
        remembered = per_row(better, steps)
        shorter = torch.where(without_memory, state.reach / 10, state.reach).clamp(min=_SHORTEST_STEP)
        moved = LBFGSState(
            plan=plan,
            gradient=g,
            moved=plan.actions.flatten(1) - u,
            reach=torch.where(better, _FIRST_STEP, shorter),
            steps=torch.where(remembered, steps, 0.0),
            changes=torch.where(remembered, changes, 0.0),
        )
        return moved, kept

    def restart(self, problem: Problem, state: LBFGSState, start: Start, keys: Tensor) -> LBFGSState:
        """Keep the pairs, which tell of the curvature; the step to the new plan is none of them."""
        plan, reach = Start(start.actions, start.states, start.cost), torch.full_like(state.reach, _FIRST_STEP)
        return replace(state, plan=plan, moved=torch.zeros_like(state.moved), reach=reach)

    def holds(self, state: Any) -> bool:
        return super().holds(state) and state.steps.shape[-2] == self.memory

    def current(self, problem: Problem, state: LBFGSState) -> Start:
        return state.plan


def _remembered(state: LBFGSState, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs with the last step's added, where it has positive curvature."""
    change = gradient - state.gradient
    product = (state.moved * change).sum(1)
    fits = product > 1e-8 * norms(state.moved) * norms(change)
    steps = torch.cat([state.steps[:, 1:], state.moved.unsqueeze(1)], dim=1)
    changes = torch.cat([state.changes[:, 1:], change.unsqueeze(1)], dim=1)
    mask = per_row(fits, steps)
    return torch.where(mask, steps, state.steps), torch.where(mask, changes, state.changes)


def _two_loops(g: Tensor, steps: Tensor, changes: Tensor) -> Tensor:
    """H g [B, D] by the two-loop recursion; pairs that are zero, or left without curvature, change nothing."""
    products = (steps * changes).sum(2)
    rho = torch.where(products > 1e-12, 1 / products.clamp(min=1e-12), 0.0)  # [B, m]
    q, alphas = g, []
    for i in reversed(range(steps.shape[1])):
        alpha = rho[:, i] * (steps[:, i] * q).sum(1)
        q = q - alpha.unsqueeze(1) * changes[:, i]
        alphas.append(alpha)
    size = changes[:, -1].square().sum(1)
    q = q * torch.where(products[:, -1] > 1e-12, products[:, -1] / size.clamp(min=1e-12), 1.0).unsqueeze(1)
    for i, alpha in enumerate(reversed(alphas)):
        beta = rho[:, i] * (changes[:, i] * q).sum(1)
        q = q + steps[:, i] * (alpha - beta).unsqueeze(1)
    return q
