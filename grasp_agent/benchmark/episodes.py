"""What the planning benchmark plays: one open-loop plan per goal, or the agent in closed loop, many goals side by side.

Wall-clock limits would make results depend on what else the machine does, so planning is given a number of iterations
(`calibration` says how many a time limit is worth), and the goals of a batch are planned for in lock-step:
the model is called for all of them at once, while a row's plan does not depend on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grasp_agent.agent import MPCAgent
from grasp_agent.agent.actions import ActionCode
from grasp_agent.benchmark.counting import CountingModel
from grasp_agent.benchmark.rows import ClosedRow, OpenRow
from grasp_agent.core.capabilities import readout_of
from grasp_agent.core.types import Budget, Objective, Plan, Problem, WorldModel
from grasp_agent.planning import MultiStart, iterate
from grasp_agent.planning.plans import Plans
from grasp_agent.planning.solve import finish
from grasp_agent.rollouts.goal_env import GoalEnv
from grasp_agent.rollouts.policies import AgentPolicy, following
from grasp_agent.rollouts.vector import Episode, VectorPolicy, play

Reached = Callable[[Tensor, Tensor], Tensor]
"""Whether latents [B, *S] meet goals [B, *S] as far as the model can tell, as booleans [B]."""


@dataclass(frozen=True)
class Contestant:
    """A planner as it takes part.

    Attributes:
        planner: with its hyperparameters.
        proposals: whether the model's proposals are offered to it.
    """

    planner: MultiStart
    proposals: bool = True


@dataclass(frozen=True)
class Entry:
    """What the rows of a batch have in common.

    Attributes:
        name: of the contestant.
        contestant: who plans.
        where: the environment.
        horizon: H.
        objective: what plans are judged by.
        iterations: of the planner, per plan.
    """

    name: str
    contestant: Contestant
    where: GoalEnv
    horizon: int
    objective: Objective
    iterations: int


def reached_test(model: WorldModel, threshold: float | None) -> Reached:
    """What counts as success under a model.

    Args:
        model: one that can read physical errors out of its latents is held to the environment's own tolerances.
        threshold: for other latents: the root mean square distance to the goal, in latent units, that counts as
            arrived; if given it is used for every model.

    Raises:
        ValueError: no threshold for a model whose latents cannot be read.
    """
    if threshold is not None:
        if not (math.isfinite(threshold) and threshold > 0):
            raise ValueError(f"threshold: expected a positive latent distance, got {threshold}")
        return lambda states, goal: (states - goal).flatten(1).square().mean(1).sqrt() < threshold
    readout = readout_of(model)
    if readout is not None:
        return readout.reaches
    raise ValueError(
        "success under the model: expected latents that can be read as physical quantities, got others; try --threshold"
        " with the root mean square latent distance that counts as arrived"
    )


class Episodes:
    """Episodes side by side, one environment for each goal.

    Args:
        where: the environment.
        model: who looks.
        horizon: H, environment steps to the goals; where the environment sets its goals itself, steps that plans span.
        seeds: one episode each.

    Raises:
        ValueError: the environment shows no goal, or not what the model sees.
    """

    def __init__(self, where: GoalEnv, model: CountingModel, horizon: int, seeds: Sequence[int]) -> None:
        self.where, self.model, self.horizon, self.seeds = where, model, horizon, list(seeds)
        self.envs: list[gym.Env[Any, Any]] = [where.open(model, horizon)[0] for _ in seeds]
        self._episodes = [Episode(index, seed, seed) for index, seed in enumerate(self.seeds)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for env in self.envs:
            env.close()

    def agent(self, planner: MultiStart, objective: Objective | None, horizon: int, iterations: int) -> MPCAgent:
        """An agent that plans `horizon` model steps ahead."""
        return MPCAgent(
            self.model,
            self.envs[0].action_space,
            planner,
            objective=objective,
            horizon=horizon,
            budget=Budget(iterations=iterations),
        )

    @cached_property
    def seen(self) -> dict[str, NDArray[Any]]:
        """The first observations, batched; asked for once, since beginning an episode may take an environment long."""
        seen = [self.where.begin(env, seed) for env, seed in zip(self.envs, self.seeds, strict=True)]
        return {key: np.stack([one[key] for one in seen]) for key in seen[0]}

    def problem(self, planner: MultiStart, objective: Objective | None) -> Problem:
        """Plan from the first observations to the goals, ceil(H / k) model steps."""
        return self.agent(planner, objective, plan_steps(self.model, self.horizon), 1).problem(self.seen)

    def play(self, policy: VectorPolicy, **limits: Any) -> list[list[bool]]:
        """Let a policy play them all -> whether the environment was solved after each step, [B][steps].

        Args:
            policy: who plays.
            limits: `step_limit` and `until` of `rollouts.vector.play`.
        """
        solved: list[list[bool]] = [[] for _ in self.seeds]
        for step in play(policy, self.envs, self._episodes, **limits):
            if step.number:
                solved[step.episode.index].append(bool(self.where.task.solved(step.info)))
        return solved


def plan_steps(model: WorldModel, horizon: int) -> int:
    """T, model steps that `horizon` environment steps take."""
    return math.ceil(horizon / model.action_block)


# ----- open loop --------------------------------------------------------------------------------------------


def checkpoints(iterations: int) -> list[int]:
    """0, 1, 2, 4, 6, 8, 12, 16, 24, ... up to `iterations`, itself the last."""
    marks = {0, 1, 2, iterations}
    step = 2
    while 2 * step <= iterations:
        marks |= {2 * step, 3 * step}
        step *= 2
    return sorted(mark for mark in marks if mark <= iterations)


def anytime(
    planner: MultiStart, problem: Problem, keys: Tensor, iterations: int
) -> tuple[Plan, dict[int, Plans], tuple[int, int]]:
    """Plan, and evaluate what the plan would be after fewer iterations.

    An evaluation scores a copy: the planning goes on as if there had been none.

    Args:
        planner: who plans.
        problem: B problems.
        keys: random key per row, [B].
        iterations: how many.

    Returns:
        The plan that `solve` would return, the best plans (M = 1) after each of the `checkpoints`, and the calls and
        rows that the model was asked for, those of evaluations left out.
    """
    model, marks = problem.model, checkpoints(iterations)
    assert isinstance(model, CountingModel)
    found: dict[int, Plans] = {}
    counted = (0, 0)
    for progress in iterate(planner, problem, Budget(iterations=iterations), seed=keys):
        counted = model.calls, model.rows
        if progress.iteration in marks:
            plan, search = finish(planner, problem, progress.search)
            found[progress.iteration] = search.best
            if progress.iteration == iterations:
                counted = model.calls, model.rows
            model.calls, model.rows = counted
    return plan, found, counted


def open_rows(
    entry: Entry,
    threshold: float | None,
    seconds: Sequence[float],
    world_model: WorldModel,
    seeds: Sequence[int],
) -> list[OpenRow]:
    """Make one plan for every goal and carry it out.

    Args:
        entry: who plans, where and how.
        threshold: what counts as success under the model, see `reached_test`.
        seconds: that 0, 1, 2, ... iterations take for a single problem.
        world_model: what predicts.
        seeds: the goals.
    """
    planner = entry.contestant.planner
    model, reached = CountingModel(world_model, entry.contestant.proposals), reached_test(world_model, threshold)
    with Episodes(entry.where, model, entry.horizon, seeds) as episodes:
        problem = episodes.problem(planner, entry.objective)
        model.calls = model.rows = 0
        plan, found, (calls, rows) = anytime(planner, problem, torch.tensor(list(seeds)), entry.iterations)
        with torch.no_grad():
            arrived = {
                n: reached(best.states[:, 0, -1], problem.goal) & best.cost[:, 0].isfinite()
                for n, best in found.items()
            }
            believed = reached(plan.states[:, -1], problem.goal) & plan.cost.isfinite()
        code = ActionCode.for_model(episodes.envs[0].action_space, world_model)
        plans = [list(code.write(flat)) for flat in plan.actions.reshape(len(seeds), -1, code.size).cpu().numpy()]
        solved = episodes.play(following(plans), step_limit=len(plans[0]))
    result = []
    for i, seed in enumerate(seeds):
        first = next((n for n, there in arrived.items() if there[i]), None)
        curve = [f"{n}:{seconds[n]:.4g}:{float(best.cost[i]):.4g}:{int(arrived[n][i])}" for n, best in found.items()]
        row = OpenRow(
            entry.name,
            entry.horizon,
            seed,
            real_success=int(solved[i][-1]),
            real_success_any=int(any(solved[i])),
            iterations=entry.iterations,
            model_success=int(believed[i]),
            iterations_to_success=first,
            seconds_to_success=None if first is None else round(seconds[first], 6),
            cost=float(plan.cost[i]),
            model_calls=calls,
            model_rows=rows / len(seeds),
            curve=" ".join(curve),
        )
        result.append(row)
    return result


# ----- closed loop ------------------------------------------------------------------------------------------


def closed_rows(
    entry: Entry, look_ahead: int, milliseconds: float, world_model: WorldModel, seeds: Sequence[int]
) -> list[ClosedRow]:
    """Let an agent play one episode for every goal, replanning at every step.

    Args:
        entry: who plans, where and how.
        look_ahead: environment steps that plans span.
        milliseconds: time limit of a decision.
        world_model: what predicts.
        seeds: the goals.
    """
    model, task = CountingModel(world_model, entry.contestant.proposals), entry.where.task
    with Episodes(entry.where, model, entry.horizon, seeds) as episodes:
        span = plan_steps(model, look_ahead)
        agent = episodes.agent(entry.contestant.planner, entry.objective, span, entry.iterations)
        solved = episodes.play(AgentPolicy(agent, task), until=task.solved)
    return [
        ClosedRow(entry.name, entry.horizon, seed, milliseconds, entry.iterations, int(steps[-1]), len(steps))
        for seed, steps in zip(seeds, solved, strict=True)
    ]
