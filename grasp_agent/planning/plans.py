"""Plans with their rollouts and true costs, and the one plan per row that a solver starts from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_agent.core.rng import split
from grasp_agent.core.rows import repeat_rows, take
from grasp_agent.core.types import Problem
from grasp_agent.planning.rollout import frozen, latent_scale, per_row, true_cost


@dataclass(frozen=True)
class Plans:
    """M plans for each of B problems, rolled out.

    Attributes:
        actions: normalised, [B, M, T, A].
        states: their true rollouts, the present first, [B, M, T + 1, *S].
        cost: their true rollout costs, [B, M]; infinite if not finite.
    """

    actions: Tensor
    states: Tensor
    cost: Tensor

    def take(self, index: Tensor) -> Plans:
        """The plans that `index` [B, N] names."""
        return Plans(take(self.actions, index), take(self.states, index), take(self.cost, index))

    def part(self, begin: int, end: int | None = None) -> Plans:
        """The plans from `begin` up to `end`; None means up to the last."""
        return Plans(self.actions[:, begin:end], self.states[:, begin:end], self.cost[:, begin:end])

    def cheapest(self) -> Plans:
        """The cheapest plan of every row, M = 1."""
        return self.take(self.cost.argmin(dim=1, keepdim=True))

    def cheapest_of_each(self, count: int) -> Plans:
        """The cheapest of every `count` plans in a row: M * count plans -> M plans."""
        winner = self.cost.unflatten(1, (-1, count)).argmin(dim=2)
        return self.take(winner + count * torch.arange(winner.shape[1], device=winner.device))

    def or_cheaper(self, other: Plans) -> Plans:
        """Place by place, the cheaper of this plan and the other one; this one if they cost the same."""
        better = other.cost < self.cost
        wide = better.view(*better.shape, *[1] * (self.states.ndim - 2))
        return Plans(
            torch.where(better[:, :, None, None], other.actions, self.actions),
            torch.where(wide, other.states, self.states),
            torch.where(better, other.cost, self.cost),
        )


def joined(*parts: Plans) -> Plans:
    """All plans of each row side by side."""
    return Plans(*(torch.cat([getattr(p, name) for p in parts], dim=1) for name in ("actions", "states", "cost")))


@torch.no_grad()
def score(problem: Problem, u: Tensor) -> Plans:
    """Roll out normalised plans u [B, M, T, A], without gradients."""
    with frozen(problem.model):
        cost, states = true_cost(problem, u)
    return Plans(u, states, cost)


@dataclass(frozen=True)
class Start:
    """One rolled-out plan for each row, to go on from.

    Attributes:
        actions: normalised, [B, T, A].
        states: its true rollout, [B, T + 1, *S].
        cost: its true rollout cost, [B].
        doubt: how far the rollout is from the virtual states that the plan was made with, at steps 1..T, in the unit
            of `latent_scale`, [B, T]; None if there were none.
    """

    actions: Tensor
    states: Tensor
    cost: Tensor
    doubt: Tensor | None = None

    @property
    def as_plans(self) -> Plans:
        """The same with M = 1."""
        return Plans(self.actions.unsqueeze(1), self.states.unsqueeze(1), self.cost.unsqueeze(1))


def start_at(plans: Plans) -> Start:
    """Plans [B, M], each as the start of a row of its own: B * M rows."""
    return Start(plans.actions.flatten(0, 1), plans.states.flatten(0, 1), plans.cost.flatten())


def scored_start(problem: Problem, u: Tensor) -> Start:
    """Roll out one plan per row [B, T, A]."""
    return start_at(score(problem, u.unsqueeze(1)))


@dataclass(frozen=True)
class Trajectory:
    """Actions and states optimised together, which the dynamics need not hold together yet.

    Attributes:
        actions: normalised, [B, T, A].
        states: virtual states with the present first, s_0..s_T, [B, T + 1, *S].
    """

    actions: Tensor
    states: Tensor


def doubt_of(problem: Problem, trajectory: Trajectory, start: Start) -> Tensor:
    """Root mean square gap between virtual states and rollout at steps 1..T, in the unit of latents, [B, T]."""
    gap = (trajectory.states - start.states)[:, 1:].flatten(2).square().mean(2).sqrt()
    return (gap / per_row(latent_scale(problem), gap)).nan_to_num(0.0, 0.0, 0.0)


def repeated(keys: Tensor, times: int) -> Tensor:
    """Keys of B rows [B] -> different keys for each of their `times` plans, [B * times]."""
    return split(repeat_rows(keys, times), torch.arange(times, device=keys.device).repeat(len(keys)))
