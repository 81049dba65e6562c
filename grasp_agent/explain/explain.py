"""One planning problem: how a plan comes about, and what becomes of it.

An episode of an environment with goals begins. Its first picture and the goal's are encoded, and a planner improves ONE
plan a_0..a_{T-1}, which is then executed open loop. What there is to see (`pictures.py` draws it):

    virtual states s_0..s_T  as the planner goes on; their dynamics defects || F(s_t, a_t) - s_{t+1} ||^2 / |S|
    the rollout z_0..z_T     of the plan; what it has wrong about the real frames, || z_t - encode(o_t) ||^2 / |S|
    true rollout costs       of the best plan after every iteration, of every restart now and then

with |S| the numbers in a latent. Planning reads pixels only; the rest of the report, where the simulator knows more
(`info`), is for people.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich import box
from rich.table import Table
from rich.text import Text
from torch import Tensor

from grasp_agent.agent import MPCAgent
from grasp_agent.agent.actions import ActionCode
from grasp_agent.agent.observations import Array
from grasp_agent.core.capabilities import decodes, readout_of, trusted_steps_of
from grasp_agent.core.types import Budget, Plan, Problem, Status
from grasp_agent.files.versions import versions
from grasp_agent.models.registry import SavedModel
from grasp_agent.planning import MultiStart, Search, as_planner, iterate
from grasp_agent.planning.solve import finish
from grasp_agent.planning.solvers.solver import AnySolver
from grasp_agent.rollouts.goal_env import GoalEnv
from grasp_agent.rollouts.policies import following
from grasp_agent.rollouts.vector import Episode, play
from grasp_agent.tasks.task import Task

DECISIONS = 4
"""Decisions of an agent whose iterations the plan gets by default: nothing follows that could mend it."""
DISTANCE = 50
"""Environment steps to the goal, where the environment can be asked and nobody says otherwise."""
UNITS = {"deg": "degrees"}
"""Units as people read them, where the ending of a name is short for them."""


@dataclass(frozen=True)
class Snapshot:
    """What a planner held at one moment of its work.

    Attributes:
        iteration: iterations spent by then.
        states: s_0..s_T, [T + 1, *S]: the virtual states of the restart that finally gave the plan; of planners
            without, the rollout of the best plan so far.
        defects: mean squared dynamics defect of every step, [T]; None without virtual states.
        cost: true rollout cost of the best plan so far.
        restarts: true rollout cost of every restart, [R].
    """

    iteration: int
    states: Tensor
    defects: Array | None
    cost: float
    restarts: Array


@dataclass(frozen=True)
class Replay:
    """What the environment made of a plan.

    Attributes:
        frames: observed every k steps, uint8 [T + 1, side, side, 3].
        infos: what the environment says at the start and after every step, T * k + 1 of them.
        scenes: renderings of start and end.
    """

    frames: Array
    infos: Sequence[Mapping[str, Any]]
    scenes: tuple[Array, Array]


@dataclass(frozen=True)
class Explanation:
    """One plan, from the first guess to the real outcome.

    Attributes:
        model: what it was made with.
        plan: for one problem (B = 1).
        snapshots: of the planner: at the beginning, after each third of the iterations, at the end.
        cost_trace: best true rollout cost after 0, 1, ... iterations, [iterations + 1].
        prediction_error: mean squared gap between rollout and encoded real frames, [T + 1]; shorter, as all that is
            real, where the episode ended before the plan did.
        replay: what became of it.
        goal: the goal's picture, uint8 [side, side, 3].
        report: settings, costs, success and errors as JSON can hold them; costs that are not finite are None.
    """

    model: SavedModel
    plan: Plan
    snapshots: Sequence[Snapshot]
    cost_trace: Array
    prediction_error: Array
    replay: Replay
    goal: Array
    report: dict[str, Any]


def explain(
    model: SavedModel,
    planner: MultiStart | AnySolver,
    seed: int,
    *,
    where: GoalEnv | None = None,
    goal_horizon: int | None = None,
    horizon: int | None = None,
    iterations: int | None = None,
    model_name: str | None = None,
    planner_name: str = "planner",
) -> Explanation:
    """Plan once, execute the plan in the environment, and keep what there is to see.

    Args:
        model: a world model with a decoder.
        planner: what searches.
        seed: of the episode, 0 or more.
        where: the environment; None means that of the default task.
        goal_horizon: environment steps to the goal; where the environment sets its goals itself, steps that the plan
            spans. None means 50, and there what the model names.
        horizon: T, model steps of the plan; None means as many as `goal_horizon` environment steps take.
        iterations: of the planner; None means four times what an agent spends on a decision.
        model_name: what to call the model in the report.
        planner_name: what to call the planner there.

    Raises:
        ValueError: an argument out of range, or a model without a decoder or for another action space.
    """
    planner = as_planner(planner)
    iterations = DECISIONS * planner.decision_iterations if iterations is None else iterations
    for name, value, least in (("seed", seed, 0), ("horizon", horizon, 1), ("iterations", iterations, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name}: expected {least} or more, got {value}")
    if not decodes(model):
        raise ValueError("model: expected one with a decoder, which draws its states, got one without")
    where = where or GoalEnv()
    if goal_horizon is None:
        goal_horizon = DISTANCE if where.sets_distance else where.look_ahead(model)
    env, env_kwargs = where.open(model, goal_horizon, render_mode="rgb_array")
    try:
        horizon = math.ceil(goal_horizon / model.action_block) if horizon is None else horizon
        agent = MPCAgent(model, env.action_space, planner, horizon=horizon)
        observation = where.begin(env, seed)
        problem = agent.problem(observation)
        began = time.perf_counter()
        plan, snapshots, trace = follow(planner, problem, iterations)
        seconds = time.perf_counter() - began
        code = ActionCode.for_model(env.action_space, model)
        actions = code.write(plan.actions.cpu().numpy().reshape(-1, model.action_dim))
        replay = carry_out(env, where.task, seed, actions, model.action_block)
    finally:
        env.close()

    with torch.no_grad():
        seen = model.encode(torch.from_numpy(replay.frames).to(plan.states.device))
    prediction_error = (plan.states[0, : len(seen)] - seen).flatten(1).square().mean(1).cpu().numpy()
    report = {
        "settings": {
            "environment": where.env_id,
            **env_kwargs,
            "seed": seed,
            "model": model_name,
            "planner": planner_name,
            "planner_settings": repr(planner),
            "horizon": horizon,
            "iterations": iterations,
            "versions": versions(),
        },
        "trusted_steps": trusted_steps_of(model),
        "status": Status(int(plan.status[0])).name.lower(),
        "cost": plan.cost[0],
        "cost_trace": trace,
        "restarts": snapshots[-1].restarts,
        "defects": snapshots[-1].defects,
        "prediction_error": prediction_error,
        "predicted": _predicted(model, plan, problem),
        "real": _real(replay, where.task),
        "seconds": round(seconds, 3),
        "actions": actions,
    }
    goal = np.asarray(observation["goal"])
    return Explanation(model, plan, snapshots, trace, prediction_error, replay, goal, _as_json(report))


def plan_table(report: dict[str, Any]) -> Table:
    """The report of an `Explanation` for the terminal."""
    settings, predicted, real = report["settings"], report["predicted"], report["real"]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(f"{settings['planner']}, seed {settings['seed']}, at step {len(report['actions'])}")
    for name in ("predicted", "real"):
        table.add_column(name, justify="right")
    names = [name for name in real if "success" not in name]
    table.add_row("goal reached", *("?" if x is None else "yes" if x["success"] else "no" for x in (predicted, real)))
    for name in names:
        what, _, unit = name.rpartition("_")
        known = [f"{x[name]:.1f}" if x and name in x else "?" for x in (predicted, real)]
        table.add_row(*map(Text, (f"{what} error [{UNITS.get(unit, unit)}]", *known)))  # plain text: [px] is no markup
    believed = report["trusted_steps"]
    if believed is not None and believed < len(report["actions"]):
        table.caption = f"the model is to be believed up to step {believed}"
    return table


# ----- the problem, the plan, the truth ---------------------------------------------------------------------


def follow(planner: MultiStart, problem: Problem, iterations: int) -> tuple[Plan, list[Snapshot], Array]:
    """Plan, and keep what the planner holds at the beginning, after each third, and at the end.

    Args:
        planner: what searches; its noise is that of an agent of seed 0.
        problem: one problem (B = 1).
        iterations: how many.

    Returns:
        The plan, the snapshots, and the best true rollout cost after 0, 1, ... iterations, [iterations + 1].
    """
    keys = torch.zeros(1, dtype=torch.int64, device=problem.goal.device)
    marks = {0, round(iterations / 3), round(2 * iterations / 3), iterations}
    held, trace = [], []
    for progress in iterate(planner, problem, Budget(iterations=iterations), seed=keys):
        trace.append(progress.cost)
        if progress.iteration in marks:
            plan, search = finish(planner, problem, progress.search)
            held.append((progress.iteration, plan, search))
    trace[-1] = search.cost
    snapshots = [_snapshot(planner, problem, at, then, what, plan.restart) for at, then, what in held]
    return replace(plan, iterations=iterations), snapshots, torch.cat(trace).cpu().numpy()


def _snapshot(
    planner: MultiStart, problem: Problem, iteration: int, plan: Plan, search: Search, restart: Tensor
) -> Snapshot:
    """What there is to see after an iteration: virtual states of the restart that finally gives the plan, if any."""
    states, defects = plan.states[0], None
    virtual = planner.virtual_states(problem, search)
    if virtual is not None:
        states = virtual[1][0, int(restart)]
        defects = planner.defects(problem, search, restart)[0].cpu().numpy()
    return Snapshot(iteration, states, defects, float(plan.cost[0]), plan.restarts[0].cpu().numpy())


def carry_out(env: gym.Env[Any, Any], task: Task, seed: int, actions: Array, block: int) -> Replay:
    """Execute actions [T * k, ...] in an episode, up to its time limit.

    Args:
        env: with pictures as observations.
        task: what is known of it.
        seed: of the episode.
        actions: as the environment takes them.
        block: k, steps between frames that are kept.
    """
    frames, infos, scenes = [], [], []
    for step in play(following([list(actions)]), [env], [Episode(0, seed, seed)], step_limit=len(actions)):
        infos.append(step.info)
        if step.number % block == 0:
            frames.append(task.picture(step.observation))
        if step.number == 0 or step.last:
            scenes.append(np.asarray(env.render()))
    return Replay(np.stack(frames), infos, (scenes[0], scenes[-1]))


def _real(replay: Replay, task: Task) -> dict[str, Any]:
    """Success and errors in the environment."""
    solved = [bool(task.solved(info)) for info in replay.infos]
    outcome: dict[str, Any] = {
        "success": solved[-1],
        "success_at_any_step": any(solved),
        "first_success_step": solved.index(True) if any(solved) else None,
    }
    if task.states is not None and {"state", "goal_state"} <= replay.infos[-1].keys():
        last, goal = (
            torch.from_numpy(task.states.latents_of_states(replay.infos[-1][k])) for k in ("state", "goal_state")
        )
        outcome |= {name: float(error) for name, error in task.states.errors(last, goal).items()}
    return outcome


def _predicted(model: SavedModel, plan: Plan, problem: Problem) -> dict[str, Any] | None:
    """Success and errors of the rollout's last state; None where a latent's numbers have no known meaning."""
    readout = readout_of(model)
    if readout is None:
        return None
    last, goal = plan.states[0, -1], problem.goal[0]
    errors = {name: float(error) for name, error in readout.errors(last, goal).items()}
    return {"success": bool(readout.reaches(last, goal)), **errors}


def _as_json(value: Any) -> Any:
    """Arrays as lists, numbers that are not finite as None."""
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, Tensor | np.ndarray):
        return _as_json(value.tolist())
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
