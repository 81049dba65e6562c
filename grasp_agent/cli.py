"""The command line: `grasp-agent demo | collect | train | evaluate | video | bench`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console()

ENV = "grasp_envs:grasp_envs/PushTReach-v0"


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def collect(
    out: Path,
    env: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    steps: int = 300_000,
    episode_length: int = 100,
    resolution: int = 64,
    policy: str = "expert",
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """Collect episodes for training a world model; a stopped run goes on where it was.

    Args:
        out: data folder to write.
        env: environment id; give it several times to mix (default: both Push-T tasks).
        steps: environment steps in all (64 px frames take 12 kB each).
        episode_length: steps of an episode, unless it ends before.
        resolution: height and width of the frames.
        policy: "expert" (the environment's scripted expert) or "random".
        seed: same seed, same data, whatever the number of workers.
        workers: processes; default one per core.
    """
    from grasp_agent.data import CollectSettings
    from grasp_agent.data import collect as run

    settings = CollectSettings(
        env_ids=env or (ENV, "grasp_envs:grasp_envs/PushT-v0"),
        steps=steps,
        policy=policy,
        episode_length=episode_length,
        resolution=resolution,
        seed=seed,
    )
    with _progress() as progress:
        bar = progress.add_task("collect", total=settings.shards, note="shards")
        run(settings, out, workers, lambda done, total: progress.update(bar, completed=done, total=total))
    console.print(f"{settings.shards} shards in {out}; next: grasp-agent train --data {out} --out runs/train")


def train(
    data: Path,
    out: Path,
    recipe: str = "pusht",
    encoder_steps: int | None = None,
    dynamics_steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Train a world model on collected episodes; a stopped run goes on from its last checkpoint.

    Args:
        data: folder written by `grasp-agent collect`.
        out: output folder; the model is in OUT/model.
        recipe: "pusht" (pose latents, for planar pushing) or "generic" (free latents from reconstruction).
        encoder_steps: optimiser steps of stage 1; default the recipe's.
        dynamics_steps: optimiser steps of stage 2; default the recipe's.
        seed: of initial weights and batches.
        device: "cpu" or "cuda".
        threads: CPU threads; default PyTorch's choice.
    """
    import torch

    from grasp_agent.data import EpisodeDataset
    from grasp_agent.training import RECIPES
    from grasp_agent.training import train as run

    if recipe not in RECIPES:
        raise ValueError(f"recipe: expected one of {sorted(RECIPES)}, got {recipe!r}")
    if threads:
        torch.set_num_threads(threads)
    chosen = replace(RECIPES[recipe](), seed=seed)
    if encoder_steps:
        chosen = replace(chosen, encoder=replace(chosen.encoder, steps=encoder_steps))
    if dynamics_steps:
        chosen = replace(chosen, dynamics=replace(chosen.dynamics, steps=dynamics_steps))
    episodes = EpisodeDataset(data)
    with _progress() as progress:
        bars: dict[str, Any] = {}

        def on_log(stage: str, step: int, steps: int, terms: dict[str, float]) -> None:
            note = "  ".join(f"{name} {value:.4g}" for name, value in terms.items())
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=steps, note="")
            progress.update(bars[stage], completed=step, note=note)

        metrics = run(episodes, chosen, out, device, on_log, console.print)
    console.print_json(data=metrics)


def evaluate(
    env: str = ENV,
    policy: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    episodes: int = 100,
    seed: int = 10_000,
    goal_horizon: int | None = None,
    model: str = "pusht",
    out: Path = Path("runs/evaluate"),
    seconds: float | None = None,
    horizon: int | None = None,
    replan_every: int = 1,
    goal_weights: tuple[float, ...] = (),
    threads: int | None = None,
) -> None:
    """Let policies play the same seeded episodes side by side; a stopped run goes on where it was.

    Planners (grasp, gd, cem, shooting) see pixels; a stable-baselines3 policy sees what it was trained on.
    Writes OUT/results.csv, OUT/results.json and OUT/success.png. The first policy is the one that the others
    are compared to.

    Args:
        env: environment id.
        policy: grasp, gd, cem, shooting, random, zero, expert, or NAME=PATH.zip for a stable-baselines3
            policy ("sac_her" is the one that ships); give it several times.
        episodes: how many.
        seed: of the first episode; the next ones count up.
        goal_horizon: how many expert steps away the goals are (PushTReach); the time limit is twice that.
        model: world model of the planners: a shipped name, a folder or a hub id.
        out: results folder.
        seconds: wall-clock budget of a decision; default the planner's own number of iterations.
        horizon: model steps a plan spans; default 25 environment steps.
        replan_every: environment steps between plans.
        goal_weights: how much each number of the latent counts in the goal distance; default all alike. In
            the classic task of the shipped model 0 0 1 1 1 1: only the block counts.
        threads: CPU threads; default PyTorch's choice.
    """
    from grasp_agent.evaluation import evaluate as run
    from grasp_agent.evaluation import plot_success, results_table

    _set_threads(threads)
    if episodes < 1:
        raise ValueError(f"episodes: expected at least 1, got {episodes}")
    planning = {"horizon": horizon, "replan_every": replan_every}
    entrants = _entrants(policy or ("grasp", "random"), env, model, planning, seconds, goal_weights)
    kwargs = {} if goal_horizon is None else {"goal_horizon": goal_horizon}
    results = run(entrants, env, range(seed, seed + episodes), env_kwargs=kwargs, out=out)
    console.print(results_table(results))
    plot_success(results, out / "success.png")
    console.print(f"results in {out}")


def video(
    env: str = ENV,
    policy: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    out: Path = Path("runs/video.mp4"),
    seed: tyro.conf.UseAppendAction[tuple[int, ...]] = (),
    goal_horizon: int | None = None,
    model: str = "pusht",
    seconds: float | None = None,
    horizon: int | None = None,
    goal_weights: tuple[float, ...] = (),
    size: int = 320,
    threads: int | None = None,
) -> None:
    """Film policies side by side on the same seeded episodes.

    Args:
        env: environment id.
        policy: as for `grasp-agent evaluate`; give it several times.
        out: the file to write, .mp4 or .gif.
        seed: an episode; give it several times for several (default 10000).
        goal_horizon: how many expert steps away the goals are (PushTReach).
        model: world model of the planners.
        seconds: wall-clock budget of a decision.
        horizon: model steps a plan spans; default 25 environment steps.
        goal_weights: how much each number of the latent counts in the goal distance.
        size: side of one panel in pixels.
        threads: CPU threads; default PyTorch's choice.
    """
    from grasp_agent.evaluation import record_video

    _set_threads(threads)
    entrants = _entrants(policy or ("grasp",), env, model, {"horizon": horizon}, seconds, goal_weights)
    kwargs = {} if goal_horizon is None else {"goal_horizon": goal_horizon}
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = record_video(entrants, env, seed or (10_000,), out, env_kwargs=kwargs, panel_size=size)
    for row in rows:
        solved = f"solved in {row.steps_to_success} steps" if row.success else "not solved"
        console.print(f"{row.entrant}, seed {row.seed}: {solved}")
    console.print(f"video in {out}")


def demo(out: Path = Path("runs/demo"), episodes: int = 12, seed: int = 10_000) -> None:
    """GRASPAgent drives Push-T from pixels beside a stable-baselines3 policy: table, video and results file.

    Args:
        out: output folder.
        episodes: how many are played; two of them are filmed.
        seed: of the first.
    """
    policies = ("grasp", "sac_her", "random")
    console.print("[bold]Push-T from pixels[/bold]: reach the goal picture 25 expert steps away, in 50 steps")
    console.print("grasp: plans with the shipped world model, sees 64 x 64 pixels")
    console.print("sac_her: stable-baselines3 SAC + HER, sees the simulator's state")
    console.print("random: uniform actions\n")
    evaluate(policy=policies, episodes=episodes, seed=seed, out=out, threads=1)
    video(policy=policies, out=out / "side_by_side.mp4", seed=(seed, seed + 1), threads=1)


def bench(seconds: float = 3.0, env: bool = True, planners: bool = True, model: str = "pusht") -> None:
    """Measure speed on this machine: environments (beside gym-pusht if it is installed) and decisions.

    Args:
        seconds: of each measurement.
        env: measure environment steps per second.
        planners: measure decision latency of the planners, from pixels.
        model: world model of the planners.
    """
    from grasp_agent.evaluation.speed import decision_table, environment_table

    if env:
        console.print(environment_table(seconds))
    if planners:
        console.print(decision_table(model, seconds))


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        if threads < 1:
            raise ValueError(f"threads: expected at least 1, got {threads}")
        torch.set_num_threads(threads)


def _entrants(
    policies: tuple[str, ...],
    env: str,
    model: str,
    planning: dict[str, Any],
    seconds: float | None,
    goal_weights: tuple[float, ...],
) -> dict[str, Any]:
    """Turn policy names into entrants of an evaluation."""
    import torch

    from grasp_agent.agent import MPCAgent
    from grasp_agent.evaluation import REFERENCES
    from grasp_agent.evaluation.environments import make_env
    from grasp_agent.models import load_world_model
    from grasp_agent.models.io import PRETRAINED
    from grasp_agent.objectives import GoalDistance
    from grasp_agent.planners import PLANNERS
    from grasp_agent.types import Budget

    entrants: dict[str, Any] = {}
    for policy in policies:
        name, _, path = policy.partition("=")
        if name in entrants:
            raise ValueError(f"--policy {name}: expected different names, got {name!r} twice")
        if path:
            entrants[name] = path
        elif name == "sac_her":
            entrants[name] = PRETRAINED / "sac_her_pusht_reach" / "model.zip"
        elif name in REFERENCES:
            entrants[name] = name
        elif name in PLANNERS:
            world_model = load_world_model(model)
            weights = torch.tensor(goal_weights) if goal_weights else None
            if weights is not None and tuple(weights.shape) != world_model.state_shape:
                raise ValueError(
                    f"--goal-weights: expected {world_model.state_shape[0]} numbers, one per number of the "
                    f"latent, got {len(goal_weights)}"
                )
            planner = PLANNERS[name]()
            budget = Budget(planner.decision_iterations)
            if seconds is not None:
                budget = Budget(iterations=10_000, seconds=seconds)
            probe = make_env(env)
            space = probe.action_space
            probe.close()
            entrants[name] = MPCAgent(
                world_model,
                space,
                planner,
                objective=GoalDistance(weights=weights),
                budget=budget,
                **planning,
            )
        else:
            known = [*PLANNERS, *REFERENCES, "sac_her", "NAME=PATH.zip"]
            raise ValueError(f"--policy {policy}: expected one of {', '.join(known)}")
    return entrants


COMMANDS: dict[str, Any] = {
    "demo": demo,
    "collect": collect,
    "train": train,
    "evaluate": evaluate,
    "video": video,
    "bench": bench,
}


def main(args: list[str] | None = None) -> None:
    """Run the command line; user errors are one sentence on standard error and exit status 2.

    Args:
        args: the words after the program's name; None takes them from the process.
    """
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="grasp-agent",
            description="Planning with learned world models in Gymnasium.",
            args=args,
        )
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"grasp-agent: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("grasp-agent: stopped; run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None
