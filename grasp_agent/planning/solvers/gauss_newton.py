"""Gauss-Newton through the rollout: second-order descent on the actions, with Levenberg-Marquardt damping.

    linearise   ds_{t+1} = sum_i (dF/ds_{t-i}) ds_{t-i} + (dF/da_{t-i}) da_{t-i},   i = 0..h-1, along the rollout
    condense    ds_t = X_t du,   so that   C(u + du) ~ C + g . du + du . H du / 2,
                g = sum_t X_t^T C_t + C_u,   H = sum_t X_t^T C_tt X_t + C_uu
    step        u <- clip(u - (H + mu I)^-1 g, -1, 1), actions that stand at a bound and are pushed against it left out

C_t and C_tt are the cost's slope and curvature in s_t. It is the step of iLQR (Li and Todorov, 2004), solved for all
actions at once instead of by a backward pass; what iLQR gains by a line search, the damping does here: several
mu are tried side by side in one batched rollout, the cheapest is kept (or none, if none improves), and mu follows it.

The model is linearised at all time steps in one batched call. Made for compact latents: the Jacobian of a step has as
many rows as the latent has numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from grasp_agent.core.checks import positive
from grasp_agent.core.rng import split
from grasp_agent.core.rows import repeat_rows, take
from grasp_agent.core.types import Plan, Problem
from grasp_agent.planning.restarts import Restarts
from grasp_agent.planning.rollout import environment_units, step_windows, true_cost, zero_plan
from grasp_agent.planning.solve import Best, make_plan, score, unscored
from grasp_agent.planning.solvers.descent import require_gradient

LARGEST_LATENT = 512
_FACTORS = (0.1, 1.0, 10.0)
_LEAST, _MOST = 1e-6, 1e6


@dataclass(frozen=True)
class GaussNewtonState:
    """Attributes:
    keys: random key per row, [B].
    actions: u, normalised, [B, R, T, A].
    states: its rollout, [B, R, T + 1, *S].
    damping: mu, in units of the largest curvature, [B, R].
    cost: true rollout cost of each restart, [B, R]; infinite before it is scored.
    scored: whether states and cost are those of the actions, [B], on the CPU.
    best: best plan scored so far.
    """

    keys: Tensor
    actions: Tensor
    states: Tensor
    damping: Tensor
    cost: Tensor
    scored: Tensor
    best: Best


@dataclass(frozen=True)
class GaussNewton(Restarts):
    """Gauss-Newton (iLQR) with Levenberg-Marquardt damping. How plans begin is in `Restarts`.

    Attributes:
        damping: first mu, in units of the largest curvature.
    """

    name: ClassVar[str] = "gauss_newton"
    decision_iterations: ClassVar[int] = 3

    damping: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "damping")

    def init(self, problem: Problem, keys: Tensor, start: Tensor | None = None) -> GaussNewtonState:
        keys = keys.to(problem.goal.device)
        u = self.beginnings(problem, split(keys, 0), start)
        best = unscored(problem, zero_plan(problem) if start is None else start)
        states = best.states.unsqueeze(1).expand(-1, u.shape[1], *best.states.shape[1:])
        cost = u.new_full(u.shape[:2], torch.inf)
        scored = torch.zeros(len(keys), dtype=torch.bool)
        return GaussNewtonState(split(keys, 1), u, states, torch.full_like(cost, self.damping), cost, scored, best)

    def step(self, problem: Problem, state: GaussNewtonState) -> GaussNewtonState:
        state = self.evaluate(problem, state)
        b, r = state.cost.shape
        slope, curvature = quadratic_model(problem, state.actions, state.states)
        with torch.no_grad():
            u = state.actions.flatten(0, 1).flatten(1)
            free = ((u.abs() < 1) | (u * slope > 0)).to(slope.dtype)  # of the bounds (Bertsekas, 1982)
            slope = slope * free
            curvature = curvature * free.unsqueeze(1) * free.unsqueeze(2)
            unit = curvature.diagonal(dim1=1, dim2=2).amax(1).clamp(min=1e-12)
            tried = state.damping.unsqueeze(2) * state.damping.new_tensor(_FACTORS)
            eye = torch.eye(slope.shape[1], dtype=slope.dtype, device=slope.device)
            mu = (tried.flatten(0, 1) * unit.unsqueeze(1))[..., None, None]
            factor, _ = torch.linalg.cholesky_ex(curvature.unsqueeze(1) + mu * eye)
            step = torch.cholesky_solve(slope[:, None, :, None].expand(-1, len(_FACTORS), -1, -1), factor)
            step = step.nan_to_num(0.0, 0.0, 0.0).view(b, r, len(_FACTORS), *state.actions.shape[2:])
            moved = (state.actions.unsqueeze(2) - step).clamp_(-1, 1).flatten(1, 2)
            cost, states = true_cost(problem, moved)
            lowest, which = cost.view(b, r, -1).min(dim=2)
            index = which + len(_FACTORS) * torch.arange(r, device=cost.device)
            better = lowest < state.cost
            moved = torch.where(better[:, :, None, None], take(moved, index), state.actions)
            shape = (b, r, 1, *[1] * (states.ndim - 3))
            states = torch.where(better.view(shape), take(states, index), state.states)
            cost = torch.where(better, lowest, state.cost)
            damping = torch.where(better, tried.gather(2, which.unsqueeze(2)).squeeze(2), state.damping * 100)
        best = state.best.update(moved, states, cost)
        return replace(state, actions=moved, states=states, damping=damping.clamp(_LEAST, _MOST), cost=cost, best=best)

    def evaluate(self, problem: Problem, state: GaussNewtonState) -> GaussNewtonState:
        if bool(state.scored.all()):
            return state  # every step scores what it makes
        best, states, cost = score(problem, state.best, state.actions)
        return replace(state, states=states, cost=cost, scored=torch.ones_like(state.scored), best=best)

    def shift(self, problem: Problem, state: GaussNewtonState, n: int) -> GaussNewtonState:
        warm = self.warm_starts(problem, state.best, state.actions, n, split(state.keys, 0))
        damping, scored = torch.full_like(warm.cost, self.damping), torch.ones_like(state.scored)
        return GaussNewtonState(split(state.keys, 1), warm.actions, warm.states, damping, warm.cost, scored, warm.best)

    def plan(self, problem: Problem, state: GaussNewtonState) -> Plan:
        return make_plan(problem, state.best, restarts=state.cost)


def quadratic_model(problem: Problem, u: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and Gauss-Newton curvature of the true cost at plans u [B, R, T, A] with rollouts [B, R, T + 1, *S].

    Returns:
        g [B * R, T * A] and H [B * R, T * A, T * A], for normalised actions.

    Raises:
        ValueError: the latent is too large, or the predictions have no gradient.
    """
    b, r, steps, size = u.shape
    to_states, to_actions = linearisation(problem, u, states)
    by_state, state_curvature, by_action, action_curvature = _cost_slopes(problem, u, states)
    h, d = problem.model.history, to_states.shape[2]
    with torch.no_grad():
        half_range = (problem.high - problem.low) / 2
        to_actions = to_actions * half_range
        past = [u.new_zeros(b * r, d, steps * size)] * h  # X of the last h states; real ones do not move
        sensitivities = []
        for t in range(steps):
            following = torch.bmm(to_states[:, t].flatten(2), torch.cat(past, dim=1))
            reach = min(h, t + 1)  # blocks of the plan that F reads
            following[:, :, (t + 1 - reach) * size : (t + 1) * size] += to_actions[:, t, :, h - reach :].flatten(2)
            past = [*past[1:], following]
            sensitivities.append(following)
        x = torch.stack(sensitivities, dim=1)  # [BR, T, D, T * A]
        slope = torch.einsum("ntda,ntd->na", x, by_state) + (by_action * half_range).flatten(1)
        weighted = torch.einsum("ntde,ntea->ntda", state_curvature, x)
        curvature = torch.bmm(x.flatten(1, 2).transpose(1, 2), weighted.flatten(1, 2))
        blocks = action_curvature * half_range.unsqueeze(1) * half_range
        curvature += torch.diag_embed(blocks.movedim(1, -1)).permute(0, 3, 1, 4, 2).reshape_as(curvature)
    return slope, curvature


def linearisation(problem: Problem, u: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Jacobians of F along plans u [B, R, T, A] with rollouts [B, R, T + 1, *S], in one model call.

    Returns:
        dF/ds [B * R, T, D, h, D] and dF/da [B * R, T, D, h, A] (environment units), h oldest first.

    Raises:
        ValueError: as `quadratic_model`.
    """
    b, r, steps, size = u.shape
    h, d = problem.model.history, problem.goal[0].numel()
    if d > LARGEST_LATENT:
        raise ValueError(
            f"GaussNewton: expected a latent of at most {LARGEST_LATENT} numbers, got {d}; try GRASP, whose lifted "
            "iterations need no Jacobian"
        )
    frames, blocks = step_windows(problem, u, states[:, :, 1:-1])
    with torch.enable_grad():
        frames, blocks = frames.detach().requires_grad_(True), blocks.detach().requires_grad_(True)
        predicted = problem.model.predict(frames, blocks).flatten(1)
        require_gradient(predicted)
        each = torch.eye(d, dtype=predicted.dtype, device=predicted.device).unsqueeze(1).expand(-1, len(predicted), -1)
        to_states, to_blocks = torch.autograd.grad(
            predicted, (frames, blocks), each, is_grads_batched=True, materialize_grads=True
        )
    to_states = to_states.movedim(0, 1).reshape(b * r, steps, d, h, d)
    to_blocks = to_blocks.movedim(0, 1).reshape(b * r, steps, d, h, size)
    return to_states.nan_to_num(0.0, 0.0, 0.0), to_blocks.nan_to_num(0.0, 0.0, 0.0)


def _cost_slopes(problem: Problem, u: Tensor, states: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slope and curvature of the trajectory cost in every state and block, taken as independent of each other.

    Returns:
        C_t [BR, T, D], C_tt [BR, T, D, D], C_a [BR, T, A], C_aa [BR, T, A, A], in environment units.
    """
    n, steps = u.shape[0] * u.shape[1], u.shape[2]
    with torch.enable_grad():
        s = states[:, :, 1:].flatten(0, 1).detach().requires_grad_(True)
        a = environment_units(problem, u).flatten(0, 1).detach().requires_grad_(True)
        goal = repeat_rows(problem.goal, u.shape[1])
        total = problem.objective.trajectory_cost(s, a, goal).nan_to_num(0.0, 0.0, 0.0).sum()
        slopes = torch.autograd.grad(total, (s, a), create_graph=True, allow_unused=True, materialize_grads=True)
        out = []
        for x, slope in zip((s, a), slopes, strict=True):
            flat = slope.reshape(n, steps, -1)
            rows = []
            for i in range(flat.shape[2]):
                if not slope.requires_grad:
                    rows.append(torch.zeros_like(flat))
                    continue
                (row,) = torch.autograd.grad(
                    flat[:, :, i].sum(), x, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                rows.append(row.reshape_as(flat))
            out += [flat.detach(), torch.stack(rows, dim=2)]
    return out[0], out[1], out[2], out[3]
