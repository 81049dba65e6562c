"""The command line: `grasp-agent demo | collect | train | evaluate | video | plan | bench`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

console = Console()

ENV = "grasp_envs:grasp_envs/PushTReach-v0"
CLASSIC_ENV = "grasp_envs:grasp_envs/PushT-v0"

# What the help shows of an argument that may be left out.
Words = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")]
Numbers = Annotated[tuple[int, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")]
Weights = Annotated[tuple[float, ...], tyro.conf.arg(metavar="NUMBER NUMBER ...", help_behavior_hint="(optional)")]
Paths = Annotated[
    tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(required, repeatable)")
]
MaybeStr = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")]
MaybeInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(optional)")]
MaybeFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(optional)")]


def collect(
    out: Path,
    env: Words = (),
    steps: int = 300_000,
    episode_length: int = 100,
    resolution: int = 64,
    policy: str = "expert",
    model: MaybeStr = None,
    noise: float = 0.0,
    goal_horizon: MaybeInt = None,
    seed: int = 0,
    workers: MaybeInt = None,
) -> None:
    """Collect episodes for training a world model; a stopped run goes on where it was.

    With more --steps the same command adds to the data. In use:
        grasp-agent collect --out runs/data
        grasp-agent collect --out runs/data --steps 500000

    Args:
        out: data folder to write.
        env: environment id; several take turns. Default: the two Push-T tasks.
        steps: environment steps in all, rounded up to shards of 5000 (60 MB each with 64 px frames).
        episode_length: steps of an episode, unless it ends before.
        resolution: height and width of the frames; the recipes of `grasp-agent train` read 64.
        policy: "expert" (the environment's scripted expert), "random", or "planner": GRASP with --model, so that a
            model can learn from what its planner gets into.
        model: world model of policy "planner". Default: the shipped "pusht".
        noise: deviation of what is added to the planner's actions, in half-ranges of the action; 0.15 explores.
        goal_horizon: expert steps to the goal (PushTReach). Default: the environment's 25.
        seed: same seed, same data, whatever the number of workers.
        workers: processes that collect. Default: one per core.
    """
    from grasp_agent.data import CollectSettings
    from grasp_agent.data import collect as run

    settings = CollectSettings(
        env_ids=env or (ENV, CLASSIC_ENV),
        steps=steps,
        env_kwargs=() if goal_horizon is None else (("goal_horizon", goal_horizon),),
        policy=policy,
        model=model or ("pusht" if policy == "planner" else None),
        noise=noise,
        episode_length=episode_length,
        resolution=resolution,
        seed=seed,
    )
    with _progress() as progress:
        show = _bars(progress)
        run(settings, out, workers, lambda done, total: show("collect", done, total, "shards"))
    _say(f"{settings.shards} shard{'s' * (settings.shards > 1)} in {out}")
    _say(f"next: grasp-agent train --data {out} --out runs/train")


def train(
    data: Paths,
    out: Path,
    recipe: str = "pusht",
    initial: MaybeStr = None,
    encoder_steps: MaybeInt = None,
    dynamics_steps: MaybeInt = None,
    proposal_steps: MaybeInt = None,
    backbone: str = "facebook/dinov2-small",
    seed: int = 0,
    device: str = "cpu",
    threads: MaybeInt = None,
) -> None:
    """Train a world model on collected episodes; a stopped run goes on from its last checkpoint.

    Writes OUT/model (what --model takes), OUT/metrics.json (prediction errors on held-out episodes), OUT/rollouts.png
    (predicted frames under real ones) and OUT/curves.png. In use:
        grasp-agent train --data runs/data --out runs/train
        grasp-agent evaluate --model runs/train/model
        grasp-agent train --data runs/data --data runs/planned --initial runs/train/model --out runs/tuned

    Args:
        data: folder written by `grasp-agent collect`; repeat it to train on several, the metrics are of the first.
        out: output folder; the model is in OUT/model.
        recipe: "pusht" (pose latents, for planar pushing), "generic" (free latents from reconstruction), "joint" (free
            latents from prediction, encoder and dynamics together) or "dino_wm" (patches of a frozen DINOv2; without
            OUT/rollouts.png).
        initial: model to begin from (a shipped name, a folder or a hub id). Default: random weights.
        encoder_steps: optimiser steps of stage 1, the encoder (recipe "joint": and the dynamics). Default: the
            recipe's.
        dynamics_steps: optimiser steps of stage 2, the dynamics. Default: the recipe's.
        proposal_steps: optimiser steps of stage 3, the plan proposals. Default: the recipe's.
        backbone: DINOv2 of recipe "dino_wm", a folder or a hub id.
        seed: of initial weights and batches.
        device: "cpu" or "cuda".
        threads: CPU threads. Default: PyTorch's choice.
    """
    from grasp_agent.data import EpisodeDataset
    from grasp_agent.training import RECIPES, dino_wm_recipe, train_dino_wm
    from grasp_agent.training import train as run
    from grasp_agent.training.report import metrics_table, probes_sentence

    if recipe not in (*RECIPES, "dino_wm"):
        raise ValueError(f"--recipe: expected one of {', '.join(sorted([*RECIPES, 'dino_wm']))}, got {recipe!r}")
    _check_device(device)
    _set_threads(threads)
    episodes = EpisodeDataset(*data)
    with _progress() as progress:
        show = _bars(progress)

        def on_log(stage: str, step: int, steps: int, terms: dict[str, float]) -> None:
            show(stage, step, steps, f"loss {terms['loss']:.4g}")

        if recipe == "dino_wm":
            if (initial, encoder_steps, proposal_steps) != (None, None, None):
                raise ValueError("--recipe dino_wm: expected no other option of the stages than --dynamics-steps")
            patches = replace(dino_wm_recipe(episodes, backbone), seed=seed)
            if dynamics_steps is not None:
                patches = replace(patches, predictor=replace(patches.predictor, steps=dynamics_steps))
            metrics = train_dino_wm(episodes, patches, out, device, on_log, _say)
        else:
            chosen = replace(RECIPES[recipe](), seed=seed)
            if encoder_steps is not None:
                chosen = replace(chosen, encoder=replace(chosen.encoder, steps=encoder_steps))
            if dynamics_steps is not None:
                chosen = replace(chosen, dynamics=replace(chosen.dynamics, steps=dynamics_steps))
            if proposal_steps is not None:
                chosen = replace(chosen, proposal=replace(chosen.proposal, steps=proposal_steps))
            metrics = run(episodes, chosen, out, device, initial, on_log, _say)
    console.print(metrics_table(metrics))
    if known := probes_sentence(metrics):
        _say(known)
    _say(f"model in {out / 'model'}")
    _say(f"next: grasp-agent evaluate --model {out / 'model'}")


def evaluate(
    env: str = ENV,
    policy: Words = (),
    episodes: int = 100,
    seed: int = 10_000,
    goal_horizon: MaybeInt = None,
    model: str = "pusht",
    out: Path = Path("runs/evaluate"),
    seconds: MaybeFloat = None,
    horizon: MaybeInt = None,
    replan_every: int = 1,
    goal_weights: Weights = (),
    workers: int = 1,
    threads: MaybeInt = None,
) -> None:
    """Let policies play the same seeded episodes side by side; a stopped run goes on where it was.

    Planners (grasp, gd, cem, ...) see pixels; a stable-baselines3 policy sees what it was trained on. The first
    policy is the one that the others are compared to. Writes OUT/results.csv, OUT/results.json and OUT/success.png.
    In use:
        grasp-agent evaluate --policy grasp --policy cem --policy sac_her --episodes 20
        grasp-agent evaluate --policy grasp --policy mine=my_policy.zip --out runs/mine

    Args:
        env: environment id.
        policy: a planner (grasp, gd, gauss_newton, cem, icem, mppi, latco, shooting), sac_her (ships with the package),
            random, zero, expert or NAME=PATH.zip.
        episodes: how many.
        seed: of the first episode; the next ones count up.
        goal_horizon: expert steps to the goal, half the time limit (PushTReach). Default: the environment's 25.
        model: world model of the planners: a shipped name, a folder or a hub id.
        out: results folder.
        seconds: wall-clock budget of a decision. Default: the planner's own number of iterations.
        horizon: model steps a plan spans. Default: 25 environment steps.
        replan_every: environment steps between plans.
        goal_weights: how much each latent number counts; 0.001 0.001 1 1 1 1 for PushT-v0, where only the block must
            arrive.
        workers: processes that play, each with one thread; the latencies are honest up to one per core.
        threads: CPU threads of a single worker. Default: PyTorch's choice.
    """
    from grasp_agent.evaluation import evaluate as run
    from grasp_agent.evaluation import plot_success, results_table

    _set_threads(threads)
    if episodes < 1:
        raise ValueError(f"--episodes: expected at least 1, got {episodes}")
    planning = {"horizon": horizon, "replan_every": replan_every}
    entrants = _entrants(policy or ("grasp", "random"), env, model, planning, seconds, goal_weights)
    kwargs = {} if goal_horizon is None else {"goal_horizon": goal_horizon}
    results = run(entrants, env, range(seed, seed + episodes), env_kwargs=kwargs, out=out, workers=workers)
    console.print(results_table(results))
    plot_success(results, out / "success.png")
    _say(f"results in {out}")


def video(
    env: str = ENV,
    policy: Words = (),
    out: Path = Path("runs/video.mp4"),
    seed: Numbers = (),
    goal_horizon: MaybeInt = None,
    model: str = "pusht",
    seconds: MaybeFloat = None,
    horizon: MaybeInt = None,
    goal_weights: Weights = (),
    size: int = 320,
    threads: MaybeInt = None,
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
        goal_horizon: expert steps to the goal, half the time limit (PushTReach). Default: the environment's 25.
        model: world model of the planners: a shipped name, a folder or a hub id.
        seconds: wall-clock budget of a decision. Default: the planner's own number of iterations.
        horizon: model steps a plan spans. Default: 25 environment steps.
        goal_weights: how much each latent number counts; 0.001 0.001 1 1 1 1 for PushT-v0, where only the block must
            arrive.
        size: side of one panel in pixels.
        threads: CPU threads. Default: PyTorch's choice.
    """
    from grasp_agent.evaluation import record_video

    _set_threads(threads)
    if size < 64:
        raise ValueError(f"--size: expected at least 64 pixels, got {size}")
    seeds = seed or (10_000,)
    if min(seeds) < 0:
        raise ValueError(f"--seed: expected 0 or more, got {min(seeds)}")
    entrants = _entrants(policy or ("grasp",), env, model, {"horizon": horizon}, seconds, goal_weights)
    kwargs = {} if goal_horizon is None else {"goal_horizon": goal_horizon}
    rows = record_video(entrants, env, seeds, out, env_kwargs=kwargs, panel_size=size)
    for row in rows:
        solved = f"solved in {row.steps_to_success} steps" if row.success else "not solved"
        _say(f"{row.entrant}, seed {row.seed}: {solved}")
    _say(f"video in {out}")


def plan(
    seed: int = 10_000,
    planner: str = "grasp",
    goal_horizon: int = 50,
    horizon: MaybeInt = None,
    iterations: MaybeInt = None,
    model: str = "pusht",
    out: Path = Path("runs/plan"),
    threads: MaybeInt = None,
) -> None:
    """Draw one plan: what the planner thought, how the plan got better, where it led.

    One episode of PushTReach, one plan, executed to its end without looking again. Writes OUT/states.png, OUT/cost.png,
    OUT/path.png and OUT/plan.json. In use:
        grasp-agent plan --seed 10005
        grasp-agent plan --planner cem --goal-horizon 25 --out runs/cem

    Args:
        seed: of the episode.
        planner: what searches, by the names of `grasp-agent evaluate`.
        goal_horizon: expert steps to the goal.
        horizon: model steps the plan spans. Default: as many as --goal-horizon environment steps take.
        iterations: of the planner. Default: four times those of an agent's decision.
        model: world model with a decoder: a shipped name, a folder or a hub id.
        out: output folder.
        threads: CPU threads. Default: PyTorch's choice.
    """
    from grasp_agent.evaluation.explain import explain, plan_table
    from grasp_agent.evaluation.plan_pictures import save_explanation
    from grasp_agent.models import load_world_model
    from grasp_agent.planners import PLANNERS

    _set_threads(threads)
    if planner not in PLANNERS:
        raise ValueError(f"--planner: expected one of {', '.join(PLANNERS)}, got {planner!r}")
    explanation = explain(
        load_world_model(model),
        PLANNERS[planner](),
        seed,
        goal_horizon=goal_horizon,
        horizon=horizon,
        iterations=iterations,
        model_name=model,
    )
    files = save_explanation(explanation, out)
    console.print(plan_table(explanation.report))
    for file in files:
        _say(str(file))


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


def bench(
    stage: Words = (),
    planner: Words = (),
    horizon: Numbers = (),
    goals: MaybeInt = None,
    seed: int = 10_000,
    seconds: MaybeFloat = None,
    closed_goals: MaybeInt = None,
    milliseconds: Numbers = (),
    ablation_horizon: Numbers = (),
    tune_goals: MaybeInt = None,
    tune_seed: int = 20_000,
    tune_horizon: Numbers = (),
    trials: MaybeInt = None,
    settings: MaybeStr = None,
    proposals: bool = True,
    model: str = "pusht",
    threshold: MaybeFloat = None,
    out: Path = Path("runs/bench"),
    workers: int = 2,
    quick: bool = False,
) -> None:
    """Compare planners as table 1 of the GRASP paper does, on Push-T; a stopped run goes on where it was.

    Stages: "open" (one open-loop plan per goal), "closed" (replanning at every step), "ablation" (of GRASP), "tune"
    (random search over every planner's hyperparameters, on other goals) and "speed" (environment steps and decisions on
    this machine). Time limits are turned into numbers of iterations, measured first. Writes OUT/results.json,
    OUT/table.md, plots, and OUT/STAGE.csv with a line per planner and goal. In use:
        grasp-agent bench --quick
        grasp-agent bench --stage tune --out runs/tune
        grasp-agent bench --stage open --horizon 40 --horizon 80 --planner grasp --planner cem --settings
            runs/tune/tuning.json
        grasp-agent bench --stage speed

    Args:
        stage: open, closed, ablation, tune or speed. Default: open, closed and ablation.
        planner: who takes part; the others are compared to the first. Default: every planner.
        horizon: environment steps to the goals. Default: 40, 50, 60, 70 and 80.
        goals: how many, stages open and ablation. Default: 200.
        seed: of the first goal; the next ones count up.
        seconds: time limit of a plan; stage speed: of a measurement. Default: 1 (speed: 3).
        closed_goals: how many, stage closed. Default: 40.
        milliseconds: time limit of a decision, stage closed. Default: 50, 100 and 200.
        ablation_horizon: environment steps to the goals. Default: 40 and 60.
        tune_goals: how many, stage tune. Default: 40.
        tune_seed: of the first of them.
        tune_horizon: environment steps to them. Default: 60.
        trials: settings tried per planner, its defaults included. Default: 12.
        proposals: offer the model's proposed plans to the planners; without, they search by themselves.
        settings: tuning.json whose chosen settings the planners get. Default: the planners' own.
        model: world model: a shipped name, a folder or a hub id.
        threshold: latent distance (root mean square) that is success under the model; needed unless latents are poses.
        out: results folder.
        workers: processes, each with one thread.
        quick: a look at everything in two minutes: few goals, short time limits, closed loop at the first horizon.
    """
    from grasp_agent.evaluation.benchmark import STAGES, Benchmark
    from grasp_agent.evaluation.benchmark_report import write_report
    from grasp_agent.evaluation.benchmark_settings import ablations, load_settings, planners
    from grasp_agent.planners import PLANNERS

    stages = stage or ("open", "closed", "ablation")
    for name in stages:
        if name not in (*STAGES, "speed"):
            raise ValueError(f"--stage: expected one of {', '.join((*STAGES, 'speed'))}, got {name!r}")
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"--seconds: expected a positive number, got {seconds}")
    if "speed" in stages:
        from grasp_agent.evaluation.speed import decision_table, environment_table

        console.print(environment_table(seconds or (0.5 if quick else 3.0)))
        console.print(decision_table(model, seconds or (0.5 if quick else 3.0)))
        if set(stages) == {"speed"}:
            return
    numbers = {
        "--goals": goals if goals is not None else 4 if quick else 200,
        "--closed-goals": closed_goals if closed_goals is not None else 2 if quick else 40,
        "--tune-goals": tune_goals if tune_goals is not None else 4 if quick else 40,
        "--trials": trials if trials is not None else 2 if quick else 12,
        "--horizon": min(horizon, default=1),
        "--ablation-horizon": min(ablation_horizon, default=1),
        "--tune-horizon": min(tune_horizon, default=1),
        "--milliseconds": min(milliseconds, default=1),
    }
    for option, number in numbers.items():
        if number < 1:
            raise ValueError(f"{option}: expected at least 1, got {number}")
    if min(seed, tune_seed) < 0:
        raise ValueError(f"--seed, --tune-seed: expected 0 or more, got {min(seed, tune_seed)}")
    limit = seconds or (0.2 if quick else 1.0)
    horizons = horizon or ((40, 60) if quick else (40, 50, 60, 70, 80))
    seeds = range(seed, seed + max(numbers["--goals"], numbers["--closed-goals"]))
    open_seeds, closed_seeds = seeds[: numbers["--goals"]], seeds[: numbers["--closed-goals"]]
    names = planner or tuple(PLANNERS)
    chosen = None if settings is None else load_settings(settings)
    contestants = planners(names, chosen, proposals)
    benchmark = Benchmark(model, out, workers, threshold=threshold)
    if "tune" in stages:
        tune_seeds = range(tune_seed, tune_seed + numbers["--tune-goals"])
        benchmark.tune(names, tune_horizon or (60,), tune_seeds, limit, numbers["--trials"], seeds, proposals=proposals)
    if "open" in stages:
        benchmark.open_loop(contestants, horizons, open_seeds, limit)
    if "closed" in stages:
        budgets = milliseconds or ((50,) if quick else (50, 100, 200))
        benchmark.closed_loop(contestants, horizons[:1] if quick else horizons, closed_seeds, budgets)
    if "ablation" in stages:
        at = ablation_horizon or ((40,) if quick else (40, 60))
        full = planners(["grasp"], chosen, proposals)["grasp"]
        benchmark.open_loop(ablations(full), at, open_seeds, limit, stage="ablation")
    files = write_report(out)
    console.print((out / "table.md").read_text(), markup=False, highlight=False, soft_wrap=True)
    _say(f"results in {', '.join(str(file) for file in files)}")


def _say(text: str) -> None:
    """Print a line as it is: never broken in two, so that a command in it can be copied."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


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


def _bars(progress: Progress) -> Callable[[str, int, int, str], None]:
    """Return what shows (name, done, total, note), with a bar for each name."""
    bars: dict[str, TaskID] = {}

    def show(name: str, done: int, total: int, note: str) -> None:
        if name not in bars:
            # Work that an earlier run did is no measure of this one's speed: the bar begins behind it.
            bars[name] = progress.add_task(name, total=total, completed=done, note=note)
        progress.update(bars[name], completed=done, note=note)

    return show


def _check_device(device: str) -> None:
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"--device: expected cpu or cuda, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: expected a GPU that PyTorch can use, found none; try --device cpu")


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        if threads < 1:
            raise ValueError(f"--threads: expected at least 1, got {threads}")
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
        if not name:
            raise ValueError(f"--policy {policy}: expected a name before the =, as in mine=my_policy.zip")
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
            budget = None if seconds is None else Budget(iterations=10_000, seconds=seconds)
            probe = make_env(env)
            space = probe.action_space
            probe.close()
            entrants[name] = MPCAgent(
                world_model,
                space,
                PLANNERS[name](),
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
    "plan": plan,
    "bench": bench,
}


RESUMABLE = ("demo", "collect", "train", "evaluate", "bench")


def _overview() -> Table:
    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify = "Planning with learned world models in Gymnasium", "left"
    table.caption, table.caption_justify = "grasp-agent COMMAND --help says more, with examples", "left"
    for name, command in COMMANDS.items():
        table.add_row(f"grasp-agent {name}", (command.__doc__ or "").splitlines()[0])
    return table


def main(args: list[str] | None = None) -> None:
    """Run the command line; user errors are one sentence on standard error and exit status 2.

    Args:
        args: the words after the program's name; None takes them from the process. Without any, the help is shown.
    """
    words = sys.argv[1:] if args is None else args
    if words in ([], ["-h"], ["--help"]):
        console.print(_overview())
        return
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="grasp-agent",
            args=words,
        )
    except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
        print(f"grasp-agent: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        hint = "; what is finished is kept, the same command goes on from there" * (words[0] in RESUMABLE)
        print(f"grasp-agent: stopped{hint}", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
