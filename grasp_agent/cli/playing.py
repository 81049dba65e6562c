"""Policies at play in an environment: `grasp-agent evaluate`, `video` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grasp_agent.cli.entrants import Planning, entrants_of
from grasp_agent.cli.options import (
    ENV,
    MaybeFloat,
    MaybeInt,
    MaybeStr,
    Numbers,
    Weights,
    Words,
    check_number,
    console,
    env_arguments,
    say,
    set_threads,
)
from grasp_agent.tasks import DEFAULT_TASK, task_for
from grasp_agent.tasks.task import GOAL_FUNCTION, GOAL_IMAGE, HINDSIGHT, SUCCESS_FUNCTION


def evaluate(
    env: str = ENV,
    policy: Words = (),
    episodes: int = 100,
    seed: int = 10_000,
    goal_horizon: MaybeInt = None,
    hindsight: MaybeInt = None,
    goal_image: MaybeStr = None,
    goal_function: MaybeStr = None,
    success_function: MaybeStr = None,
    env_arg: Words = (),
    model: MaybeStr = None,
    out: Path = Path("runs/evaluate"),
    seconds: MaybeFloat = None,
    iterations: MaybeInt = None,
    horizon: MaybeInt = None,
    replan_every: int = 1,
    goal_weights: Weights = (),
    workers: int = 1,
    batch: int = 1,
    threads: MaybeInt = None,
    trust: bool = False,
) -> None:
    """Let policies play the same seeded episodes side by side; a stopped run goes on where it was.

    Planners (grasp, gd, cem, ...) see pixels; a stable-baselines3 policy sees what it was trained on. The first
    policy is the one that the others are compared to. Writes OUT/results.csv, OUT/results.json and OUT/success.png.
    Other policies, and more episodes, can be added to a folder later.
    In use:
        grasp-agent evaluate --policy grasp --policy cem --policy sac_her --episodes 20
        grasp-agent evaluate --policy grasp --policy mine=my_policy.zip --trust --out runs/mine

    Args:
        env: environment id.
        policy: a planner (grasp, gd, gauss_newton, lbfgs, cem, icem, mppi, latco, shooting, or prior: the model's
            proposals without search), a shipped baseline (sac_her), random, zero, expert, NAME=PATH.zip, or
            NAME=module:factory, which makes your own object with `predict`.
        episodes: how many.
        seed: of the first episode; the next ones count up.
        goal_horizon: expert steps to the goal, where the environment can be told. Default: the environment's own.
        hindsight: goals for an environment without any, where random actions lead in so many steps from the same start.
        goal_image: file of a picture that is the goal in every episode, as the environment would show it.
        goal_function: module:function of yours, called with (env, seed) before each episode, that returns its goal.
        success_function: module:function of yours, called with (env, observation, info) after each step, that returns
            whether it is a success.
        env_arg: an argument of the environment, NAME=VALUE, as in success=strict.
        model: world model of the planners: a shipped name, a folder, a hub id, or module:factory, which makes your own.
            Default: what ships for the environment.
        out: results folder.
        seconds: time limit of a decision; actions then depend on the machine's speed. Default: none.
        iterations: planner iterations of a decision; more find better plans and take longer. Default: the planner's
            own number, or as many as --seconds allows.
        horizon: model steps a plan spans. Default: what the model names, or 25 environment steps.
        replan_every: environment steps between plans.
        goal_weights: how much each latent number counts in the distance to a goal. Default: what the task says.
        workers: processes that play, each with one thread; the latencies are honest up to one per core.
        batch: episodes planned side by side, faster on the same cores; latencies are then of a whole batch's decision,
            so keep 1 to measure them.
        threads: CPU threads of a single worker. Default: PyTorch's choice.
        trust: load .zip files of others: such a file can run any code, so know who made it. Shipped ones need no trust.
    """
    from grasp_agent.evaluation import evaluate as run
    from grasp_agent.evaluation import plot_success, results_table

    set_threads(threads)
    check_number("--episodes", episodes)
    goals = {HINDSIGHT: hindsight, GOAL_IMAGE: goal_image, GOAL_FUNCTION: goal_function}
    kwargs = _arguments(env, env_arg, goal_horizon, {**goals, SUCCESS_FUNCTION: success_function})
    planning = Planning(model, seconds, iterations, horizon, replan_every, goal_weights)
    entrants = entrants_of(policy or ("grasp", "random"), env, kwargs, planning, trust)
    seeds = range(seed, seed + episodes)
    results = run(entrants, env, seeds, env_kwargs=kwargs, out=out, workers=workers, batch=batch)
    console.print(results_table(results))
    plot_success(results, out / "success.png")
    say(f"results in {out}")


def video(
    env: str = ENV,
    policy: Words = (),
    out: Path = Path("runs/video.mp4"),
    seed: Numbers = (),
    goal_horizon: MaybeInt = None,
    hindsight: MaybeInt = None,
    goal_image: MaybeStr = None,
    goal_function: MaybeStr = None,
    success_function: MaybeStr = None,
    env_arg: Words = (),
    model: MaybeStr = None,
    seconds: MaybeFloat = None,
    iterations: MaybeInt = None,
    horizon: MaybeInt = None,
    goal_weights: Weights = (),
    size: int = 320,
    threads: MaybeInt = None,
    trust: bool = False,
) -> None:
    """Film policies side by side on the same seeded episodes.

    In use:
        grasp-agent video --policy grasp --policy sac_her --seed 10000 --seed 10001
        grasp-agent video --policy grasp --out runs/grasp.gif

    Args:
        env: environment id.
        policy: as for `grasp-agent evaluate`.
        out: the file to write, .mp4 or .gif.
        seed: an episode. Default: 10000.
        goal_horizon: expert steps to the goal, where the environment can be told. Default: the environment's own.
        hindsight: goals for an environment without any, where random actions lead in so many steps from the same start.
        goal_image: file of a picture that is the goal in every episode, as the environment would show it.
        goal_function: module:function of yours, called with (env, seed) before each episode, that returns its goal.
        success_function: module:function of yours, called with (env, observation, info) after each step, that returns
            whether it is a success.
        env_arg: an argument of the environment, NAME=VALUE, as in success=strict.
        model: world model of the planners: a shipped name, a folder, a hub id, or module:factory, which makes your own.
            Default: what ships for the environment.
        seconds: time limit of a decision; actions then depend on the machine's speed. Default: none.
        iterations: planner iterations of a decision; more find better plans and take longer. Default: the planner's
            own number, or as many as --seconds allows.
        horizon: model steps a plan spans. Default: what the model names, or 25 environment steps.
        goal_weights: how much each latent number counts in the distance to a goal. Default: what the task says.
        size: side of one panel in pixels.
        threads: CPU threads. Default: PyTorch's choice.
        trust: as for `grasp-agent evaluate`.
    """
    from grasp_agent.evaluation import record_video

    set_threads(threads)
    if size < 64:
        raise ValueError(f"--size: expected at least 64 pixels, got {size}")
    seeds = seed or (10_000,)
    if min(seeds) < 0:
        raise ValueError(f"--seed: expected 0 or more, got {min(seeds)}")
    goals = {HINDSIGHT: hindsight, GOAL_IMAGE: goal_image, GOAL_FUNCTION: goal_function}
    kwargs = _arguments(env, env_arg, goal_horizon, {**goals, SUCCESS_FUNCTION: success_function})
    planning = Planning(model, seconds, iterations, horizon, goal_weights=goal_weights)
    entrants = entrants_of(policy or ("grasp",), env, kwargs, planning, trust)
    rows = record_video(entrants, env, seeds, out, env_kwargs=kwargs, panel_size=size)
    for row in rows:
        solved = f"solved in {row.steps_to_success} steps" if row.success else "not solved"
        if row.success is None:
            solved = f"return {row.total_return:.1f} in {row.steps} steps"
        say(f"{row.entrant}, seed {row.seed}: {solved}")
    say(f"video in {out}")


def demo(out: Path = Path("runs/demo"), episodes: int = 12, seed: int = 10_000) -> None:
    """GRASPAgent plays from pixels beside a stable-baselines3 policy: table, video and results file.

    Args:
        out: output folder.
        episodes: how many are played; two of them are filmed.
        seed: of the first.
    """
    policies = ("grasp", *DEFAULT_TASK.baselines, "random")
    console.print(f"[bold]{DEFAULT_TASK.about}[/bold]")
    console.print("grasp: plans with the shipped world model, sees 64 x 64 pixels")
    for baseline in DEFAULT_TASK.baselines:
        console.print(f"{baseline}: trained with stable-baselines3, sees the simulator's state")
    console.print("random: uniform actions\n")
    evaluate(policy=policies, episodes=episodes, seed=seed, out=out, threads=1)
    video(policy=policies, out=out / "side_by_side.mp4", seed=(seed, seed + 1), threads=1)


def _arguments(env: str, given: Words, goal_horizon: int | None, goals: dict[str, Any]) -> dict[str, Any]:
    """The environment's arguments, and those of its goals and their success; None stands for none."""
    asked = {name: value for name, value in goals.items() if value is not None}
    return {**env_arguments(given), **task_for(env).goals_at(env, goal_horizon), **asked}
