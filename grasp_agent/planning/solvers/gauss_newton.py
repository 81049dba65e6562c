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

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from grasp_agent.core.checks import positive
from grasp_agent.core.types import Problem
from grasp_agent.planning.plans import Plans, Start, score, start_at
from grasp_agent.planning.rollout import environment_units, step_windows
from grasp_agent.planning.solvers.descent import require_gradient, to_actions
from grasp_agent.planning.solvers.solver import Solver

LARGEST_LATENT = 512
"""Numbers in a latent up to which Jacobians of the model are affordable."""
_FACTORS = (0.1, 1.0, 10.0)
_LEAST, _MOST = 1e-6, 1e6


@dataclass(frozen=True)
class GaussNewtonState:
    """Attributes:
    plan: u with its rollout and cost.
    damping: mu, in units of the largest curvature, [B].
    """

    plan: Start
    damping: Tensor


@dataclass(frozen=True)
class GaussNewton(Solver[GaussNewtonState]):
    """Gauss-Newton (iLQR) with Levenberg-Marquardt damping.

    Attributes:
        damping: first mu, in units of the largest curvature.
    """

    name: ClassVar[str] = "gauss_newton"

    damping: float = 0.1

    def __post_init__(self) -> None:
        positive(self, "damping")

    @property
    def decision_iterations(self) -> int:
        return 3

    def init(self, problem: Problem, start: Start, keys: Tensor) -> GaussNewtonState:
        plan = Start(start.actions, start.states, start.cost)
        return GaussNewtonState(plan, torch.full_like(start.cost, self.damping))

    def step(self, problem: Problem, state: GaussNewtonState) -> tuple[GaussNewtonState, Plans | None]:
        u, cost = state.plan.actions, state.plan.cost
        slope, curvature = quadratic_model(problem, u, state.plan.states)
        with torch.no_grad():
            tried = state.damping.unsqueeze(1) * state.damping.new_tensor(_FACTORS)
            steps = _damped_steps(u, slope, curvature, tried)
        plans = score(problem, (u.unsqueeze(1) - steps).clamp_(-1, 1))
        which = plans.cost.argmin(dim=1, keepdim=True)
        best = plans.take(which)
        better = (best.cost < cost.unsqueeze(1)).squeeze(1)
        kept = state.plan.as_plans.or_cheaper(best)
        damping = torch.where(better, tried.gather(1, which).squeeze(1), state.damping * 100)
        return GaussNewtonState(start_at(kept), damping.clamp(_LEAST, _MOST)), kept

    def current(self, problem: Problem, state: GaussNewtonState) -> Start:
        return state.plan


def _damped_steps(u: Tensor, slope: Tensor, curvature: Tensor, damping: Tensor) -> Tensor:
    """(H + mu I)^-1 g for F values of mu at once: u [B, T, A], damping [B, F] -> [B, F, T, A].

    Actions at a bound that the slope pushes further out are left where they are (Bertsekas, 1982).
    """
    flat = u.flatten(1)
    free = ((flat.abs() < 1) | (flat * slope > 0)).to(slope.dtype)
    slope, curvature = slope * free, curvature * free.unsqueeze(1) * free.unsqueeze(2)
    unit = curvature.diagonal(dim1=1, dim2=2).amax(1).clamp(min=1e-12)
    mu = (damping * unit.unsqueeze(1))[..., None, None]
    eye = torch.eye(slope.shape[1], dtype=slope.dtype, device=slope.device)
    factor, _ = torch.linalg.cholesky_ex(curvature.unsqueeze(1) + mu * eye)
    step = torch.cholesky_solve(slope[:, None, :, None].expand(-1, damping.shape[1], -1, -1), factor)
    return step.nan_to_num(0.0, 0.0, 0.0).view(*damping.shape, *u.shape[1:])


def quadratic_model(problem: Problem, u: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and Gauss-Newton curvature of the true cost at plans u [B, T, A] with rollouts [B, T + 1, *S].

    Returns:
        g [B, T * A] and H [B, T * A, T * A], for normalised actions.

    Raises:
        ValueError: the latent is too large, or the predictions do not depend on the actions.
    """
    b, steps, size = u.shape
    to_states, to_blocks = linearisation(problem, u, states)
    by_state, state_curvature, by_action, action_curvature = _cost_slopes(problem, u, states)
    h, d = problem.model.history, to_states.shape[2]
    with torch.no_grad():
        half_range = (problem.high - problem.low) / 2
        to_blocks = to_blocks * half_range
        past = [u.new_zeros(b, d, steps * size)] * h  # X of the last h states; real ones do not move
        sensitivities = []
        for t in range(steps):
            following = torch.bmm(to_states[:, t].flatten(2), torch.cat(past, dim=1))
            reach = min(h, t + 1)  # blocks of the plan that F reads
            following[:, :, (t + 1 - reach) * size : (t + 1) * size] += to_blocks[:, t, :, h - reach :].flatten(2)
            past = [*past[1:], following]
            sensitivities.append(following)
        x = torch.stack(sensitivities, dim=1)  # [B, T, D, T * A]
        slope = torch.einsum("ntda,ntd->na", x, by_state) + (by_action * half_range).flatten(1)
        weighted = torch.einsum("ntde,ntea->ntda", state_curvature, x)
        curvature = torch.bmm(x.flatten(1, 2).transpose(1, 2), weighted.flatten(1, 2))
        blocks = action_curvature * half_range.unsqueeze(1) * half_range
        curvature += torch.diag_embed(blocks.movedim(1, -1)).permute(0, 3, 1, 4, 2).reshape_as(curvature)
    return slope, curvature


def linearisation(problem: Problem, u: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Jacobians of F along plans u [B, T, A] with rollouts [B, T + 1, *S], in one model call.

    Returns:
        dF/ds [B, T, D, h, D] and dF/da [B, T, D, h, A] (environment units), h oldest first.

    Raises:
        ValueError: as `quadratic_model`.
    """
    b, steps, size = u.shape
    h, d = problem.model.history, problem.goal[0].numel()
    if d > LARGEST_LATENT:
        raise ValueError(
            f"GaussNewton: expected a latent of at most {LARGEST_LATENT} numbers, got {d}; try "
            "GRASP.large_latent(), which needs no Jacobian"
        )
    frames, blocks = step_windows(problem, u, states[:, 1:-1])
    with torch.enable_grad():
        frames, blocks = frames.detach().requires_grad_(True), blocks.detach().requires_grad_(True)
        predicted = problem.model.predict(frames, blocks).flatten(1)
        require_gradient(predicted)
        each = torch.eye(d, dtype=predicted.dtype, device=predicted.device).unsqueeze(1).expand(-1, len(predicted), -1)
        to_states, to_blocks = torch.autograd.grad(
            predicted, (frames, blocks), each, is_grads_batched=True, allow_unused=True
        )
    if to_states is None:  # a model that looks at the actions alone
        to_states = frames.new_zeros(d, *frames.shape)
    to_states = to_states.movedim(0, 1).reshape(b, steps, d, h, d)
    to_blocks = to_actions(to_blocks).movedim(0, 1).reshape(b, steps, d, h, size)
    return to_states.nan_to_num(0.0, 0.0, 0.0), to_blocks.nan_to_num(0.0, 0.0, 0.0)


def _cost_slopes(problem: Problem, u: Tensor, states: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slope and curvature of the trajectory cost in every state and block, taken as independent of each other.

    Returns:
        C_t [B, T, D], C_tt [B, T, D, D], C_a [B, T, A], C_aa [B, T, A, A], in environment units.
    """
    n, steps = u.shape[:2]
    with torch.enable_grad():
        s = states[:, 1:].detach().requires_grad_(True)
        a = environment_units(problem, u).detach().requires_grad_(True)
        total = problem.objective.trajectory_cost(s, a, problem.goal).nan_to_num(0.0, 0.0, 0.0).sum()
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
