"""Where planning begins: the model's proposals, or zero actions and smooth random plans, the best of several each."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from grasp_agent.core.capabilities import Proposing, proposes
from grasp_agent.core.rng import normal, split
from grasp_agent.core.types import Problem
from grasp_agent.planning.action_noise import smooth_noise
from grasp_agent.planning.plans import Plans, joined, score
from grasp_agent.planning.rollout import frozen, normalised_units, zero_plan


def initial_guesses(
    problem: Problem, keys: Tensor, restarts: int, candidates: int, scale: float, correlation: float
) -> tuple[Plans, Plans]:
    """Plans to begin from, scored in one batched rollout.

    A model that proposes gives them all. Otherwise the first is the plan of zero actions and the others are random.
    Each drawn plan is the cheapest of `candidates`: a plan that meets nothing has no gradient towards anything, and
    rolling out many at once costs little more than rolling out one.

    Args:
        problem: B problems.
        keys: random key per row, [B].
        restarts: R, plans wanted.
        candidates: plans drawn for each of them. With 0 neither the model's proposals nor its judgement are asked for.
        scale: standard deviation of random plans, in half-ranges of the action.
        correlation: of a random action with the one an environment step later.

    Returns:
        R plans, and the plan of zero actions (M = 1).
    """
    nothing = zero_plan(problem).unsqueeze(1)
    each = max(candidates, 1)
    if candidates and proposes(problem.model):
        drawn = proposed_actions(problem, split(keys, 1), restarts * each)
        plans = score(problem, torch.cat([nothing, drawn], dim=1))
        return plans.part(1).cheapest_of_each(each), plans.part(0, 1)
    random = (restarts - 1) * each if restarts > 1 else candidates
    noise = smooth_noise(problem, split(keys, 0), random, correlation)
    plans = score(problem, torch.cat([nothing, (nothing + scale * noise).clamp(-1, 1)], dim=1))
    if restarts == 1:
        return plans.cheapest(), plans.part(0, 1)
    return joined(plans.part(0, 1), plans.part(1).cheapest_of_each(each)), plans.part(0, 1)


def proposed_actions(problem: Problem, keys: Tensor, count: int) -> Tensor:
    """Plans that the model proposes, normalised, [B, count, T, A]."""
    if count == 0:
        return zero_plan(problem).unsqueeze(1)[:, :0]
    model = cast(Proposing, problem.model)
    steps = problem.horizon * problem.model.action_block
    noise = normal(keys, (count, steps, problem.model.action_dim), problem.goal.dtype)
    with torch.no_grad(), frozen(problem.model):
        plans = model.propose(problem.states, problem.past_actions, problem.goal, noise)
    return normalised_units(problem, plans.reshape(problem.batch, count, problem.horizon, -1))
