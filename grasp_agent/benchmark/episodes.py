"""What the planning benchmark plays: one open-loop plan per goal, or the agent in closed loop, many goals side by side.

Wall-clock limits would make results depend on what else the machine does, so planning is given a number of iterations
(`calibration` says how many a time limit is worth), and the goals of a batch are planned for in lock-step:
the model is called for all of them at once, while a row's plan does not depend on its neighbours.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from grasp_agent.agent.agent import DEFAULT_LOOK_AHEAD, MPCAgent
from grasp_agent.agent.spaces import ActionWriter
from grasp_agent.benchmark.rows import ClosedRow, OpenRow
from grasp_agent.core.types import Budget, Objective, Observation, Plan, Problem, WorldModel
from grasp_agent.models.planar_push import reaches
from grasp_agent.planning.rollout import frozen
from grasp_agent.planning.solve import Best, Planner
from grasp_agent.rollouts.environments import make_env

ENV_ID = "grasp_envs/PushTReach-v0"

Reached = Callable[[Tensor, Tensor], Tensor]
"""Whether latents [B, *S] meet goals [B, *S] as far as the model can tell, as booleans [B]."""


@dataclass(frozen=True)
class Contestant:
    """A planner as it takes part.

    Attributes:
        planner: with its hyperparameters.
        proposals: whether the model's proposals are offered to it.
    """

    planner: Planner[Any]
    proposals: bool = True


class CountingModel(nn.Module):
    """A world model that counts what it predicts, and keeps its proposals to itself if so told.

    What the model predicts in order to propose counts as well; the network that proposes does not.

    Attributes:
        calls: of `predict` so far.
        rows: single predictions so far.
    """

    def __init__(self, model: WorldModel, proposals: bool = True) -> None:
        super().__init__()
        # A copy that shares all weights: its own calls of predict, while it proposes, come here too.
        self.model: Any = copy.copy(cast(Any, model))
        self.model.predict = self.predict
        self._predict = model.predict
        self.state_shape, self.history = model.state_shape, model.history
        self.action_dim, self.action_block = model.action_dim, model.action_block
        self.image_size: int = model.image_size  # type: ignore[attr-defined]
        self.action_limit: float | None = getattr(model, "action_limit", None)
        self.proposes = proposals and bool(getattr(model, "proposes", False))
        self.calls = self.rows = 0

    def encode(self, obs: Observation) -> Tensor:
        return self.model.encode(obs)  # type: ignore[no-any-return]

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        self.calls += 1
        self.rows += len(states)
        return self._predict(states, actions)

    def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        return self.model.propose(states, past_actions, goal, noise)  # type: ignore[no-any-return]


def reached_test(model: WorldModel, threshold: float | None) -> Reached:
    """What counts as success under a model.

    Args:
        model: latents of layout "planar_push" are poses, which are held to the environment's own tolerances.
        threshold: for other latents: the root mean square distance to the goal, in latent units, that counts as
            arrived; if given it is used for every model.

    Raises:
        ValueError: no threshold for a model whose latents are not poses.
    """
    if threshold is not None:
        if not (math.isfinite(threshold) and threshold > 0):
            raise ValueError(f"threshold: expected a positive latent distance, got {threshold}")
        return lambda states, goal: (states - goal).flatten(1).square().mean(1).sqrt() < threshold
    if getattr(getattr(model, "config", None), "layout", None) == "planar_push":
        return reaches
    raise ValueError(
        "success under the model: expected latents of layout 'planar_push', got others; try --threshold with the root "
        "mean square latent distance that counts as arrived"
    )


# ----- posing problems --------------------------------------------------------------------------------------


class Episodes:
    """Episodes side by side, one environment for each goal, held still until the model's history is real.

    Args:
        model: reads the pixels.
        horizon: H.
        seeds: one episode each.
    """

    def __init__(self, model: CountingModel, horizon: int, seeds: Sequence[int]) -> None:
        self.model, self.horizon = model, horizon
        self.envs: list[gym.Env[Any, Any]] = []
        frames: list[list[NDArray[np.uint8]]] = []
        goals: list[NDArray[np.uint8]] = []
        for seed in seeds:
            env = make_env(ENV_ID, obs_type="pixels", resolution=model.image_size, goal_horizon=horizon)
            self.envs.append(env)
            self.writer = ActionWriter(env.action_space, model.action_dim)
            observation, _ = env.reset(seed=seed)
            seen = [observation["pixels"]]
            for step in range(1, (model.history - 1) * model.action_block + 1):
                observation = env.step(self.writer.write(np.zeros((1, model.action_dim)))[0])[0]
                if step % model.action_block == 0:
                    seen.append(observation["pixels"])
            frames.append(seen)
            goals.append(observation["goal"])
        self.frames, self.goals = np.stack(frames), np.stack(goals)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for env in self.envs:
            env.close()

    @torch.no_grad()
    def problem(self, objective: Objective) -> Problem:
        """Plan from here to the goal pictures, ceil(H / k) model steps."""
        model, b = self.model, len(self.envs)
        states = model.encode(torch.from_numpy(self.frames).flatten(0, 1))
        goal = model.encode(torch.from_numpy(self.goals))
        limit = model.action_limit or math.inf
        low, high = (
            torch.as_tensor(np.clip(bound, -limit, limit), dtype=goal.dtype, device=goal.device)
            for bound in (self.writer.low, self.writer.high)
        )
        block = model.action_dim * model.action_block
        return Problem(
            model=model,
            objective=objective,
            states=states.view(b, model.history, *model.state_shape),
            past_actions=goal.new_zeros(b, model.history - 1, block),
            goal=goal,
            horizon=plan_steps(model, self.horizon),
            low=low.repeat(model.action_block),
            high=high.repeat(model.action_block),
        )

    def play(self, actions: Tensor) -> list[list[bool]]:
        """Carry out plans [B, T, A] -> whether the environment was solved after each step, [B][T k]."""
        flat = actions.reshape(len(self.envs), -1, self.model.action_dim).cpu().numpy()
        return [
            [bool(env.step(action)[4]["is_success"]) for action in self.writer.write(plan)]
            for env, plan in zip(self.envs, flat, strict=True)
        ]


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


def anytime(planner: Planner[Any], problem: Problem, keys: Tensor, iterations: int) -> tuple[Plan, dict[int, Best]]:
    """Plan, and look in at the `checkpoints`.

    Looking in scores a copy of the state: the planning goes on as if nobody had looked.

    Args:
        planner: who plans.
        problem: B problems.
        keys: random key per row, [B].
        iterations: how many.

    Returns:
        The plan that `solve` would return after `iterations`, and what the best plan is if it is stopped after each of
        the checkpoints; the cost of looking in is not among the model's counts.
    """
    model, marks = problem.model, checkpoints(iterations)
    assert isinstance(model, CountingModel)
    found: dict[int, Best] = {}
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        with torch.no_grad():
            state = planner.init(problem, keys)
        state = planner.evaluate(problem, state)
        found[0] = state.best
        for done in range(1, iterations + 1):
            state = planner.step(problem, state)
            if done in marks:
                counted = model.calls, model.rows
                scored = planner.evaluate(problem, state)
                found[done] = scored.best
                if done < iterations:
                    model.calls, model.rows = counted
        return planner.plan(problem, scored), found


def open_rows(
    name: str,
    contestant: Contestant,
    world_model: WorldModel,
    horizon: int,
    seeds: Sequence[int],
    objective: Objective,
    threshold: float | None,
    iterations: int,
    seconds: Sequence[float],
) -> list[OpenRow]:
    """Make one plan for every goal and carry it out.

    Args:
        name: of the contestant.
        contestant: who plans.
        world_model: what predicts.
        horizon: H.
        seeds: the goals.
        objective: what plans are judged by.
        threshold: what counts as success under the model, see `reached_test`.
        iterations: planner iterations.
        seconds: that 0, 1, 2, ... `iterations` take for a single problem.
    """
    model, reached = CountingModel(world_model, contestant.proposals), reached_test(world_model, threshold)
    with Episodes(model, horizon, seeds) as episodes:
        problem = episodes.problem(objective)
        plan, found = anytime(contestant.planner, problem, torch.tensor(list(seeds)), iterations)
        calls, rows = model.calls, model.rows / len(seeds)
        with torch.no_grad():
            arrived = {n: reached(best.states[:, -1], problem.goal) & best.cost.isfinite() for n, best in found.items()}
            believed = reached(plan.states[:, -1], problem.goal) & plan.cost.isfinite()
        solved = episodes.play(plan.actions)
    result = []
    for i, seed in enumerate(seeds):
        first = next((n for n, there in arrived.items() if there[i]), None)
        curve = [f"{n}:{seconds[n]:.4g}:{float(best.cost[i]):.4g}:{int(arrived[n][i])}" for n, best in found.items()]
        row = OpenRow(
            name,
            horizon,
            seed,
            real_success=int(solved[i][-1]),
            real_success_any=int(any(solved[i])),
            iterations=iterations,
            model_success=int(believed[i]),
            iterations_to_success=first,
            seconds_to_success=None if first is None else round(seconds[first], 6),
            cost=float(plan.cost[i]),
            model_calls=calls,
            model_rows=rows,
            curve=" ".join(curve),
        )
        result.append(row)
    return result


# ----- closed loop ------------------------------------------------------------------------------------------


def closed_rows(
    name: str,
    contestant: Contestant,
    world_model: WorldModel,
    horizon: int,
    seeds: Sequence[int],
    objective: Objective,
    iterations: int,
    milliseconds: float,
) -> list[ClosedRow]:
    """Let an agent play one episode for every goal, replanning at every step; arguments as for `open_rows`."""
    model = CountingModel(world_model, contestant.proposals)
    kwargs = {"obs_type": "pixels", "resolution": model.image_size, "goal_horizon": horizon}
    envs = [make_env(ENV_ID, **kwargs) for _ in seeds]
    budget = Budget(iterations=iterations)
    look_ahead = plan_steps(model, DEFAULT_LOOK_AHEAD)
    agent = MPCAgent(
        model, envs[0].action_space, contestant.planner, objective=objective, horizon=look_ahead, budget=budget
    )
    observations = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    playing, state = list(range(len(seeds))), None
    steps, solved = [0] * len(seeds), [0] * len(seeds)
    while playing:
        seen = {key: np.stack([observations[i][key] for i in playing]) for key in ("pixels", "goal")}
        actions, state = agent.predict(seen, state)
        going_on = []
        for place, (i, action) in enumerate(zip(playing, actions, strict=True)):
            observations[i], _, terminated, truncated, info = envs[i].step(action)
            steps[i] += 1
            solved[i] = int(info["is_success"])
            if not (solved[i] or terminated or truncated):
                going_on.append(place)
        if len(going_on) < len(playing):
            playing, state = [playing[place] for place in going_on], state.select(going_on)
    for env in envs:
        env.close()
    return [
        ClosedRow(name, horizon, seed, milliseconds, iterations, solved[i], steps[i]) for i, seed in enumerate(seeds)
    ]
