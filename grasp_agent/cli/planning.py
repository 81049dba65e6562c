"""Planners by themselves: `grasp-agent plan` draws one plan, `grasp-agent bench` compares many."""

from __future__ import annotations

import math
from pathlib import Path

from grasp_agent.cli.entrants import model_name
from grasp_agent.cli.options import (
    ENV,
    MaybeFloat,
    MaybeInt,
    MaybeStr,
    Numbers,
    Words,
    check_number,
    console,
    env_arguments,
    say,
    set_threads,
)


def plan(
    env: str = ENV,
    env_arg: Words = (),
    seed: int = 10_000,
    planner: str = "grasp",
    goal_horizon: MaybeInt = None,
    horizon: MaybeInt = None,
    iterations: MaybeInt = None,
    model: MaybeStr = None,
    out: Path = Path("runs/plan"),
    threads: MaybeInt = None,
) -> None:
    """Draw one plan: how the planner finds it, what the model predicts, and what really happens.

    The plan is made at the start of an episode and executed open loop, that is to its end without replanning. Writes
    OUT/states.png, OUT/cost.png, OUT/path.png and OUT/plan.json. Examples:
        grasp-agent plan --seed 10005
        grasp-agent plan --planner cem --goal-horizon 25 --out runs/cem
        grasp-agent plan --env grasp_envs:grasp_envs/Wall-v0

    Args:
        env: Environment id; one with goals.
        env_arg: Argument of the environment, NAME=VALUE, as in success=strict.
        seed: Seed of the episode.
        planner: Planner, by a name that `grasp-agent evaluate --policy` takes.
        goal_horizon: Environment steps to the goal; where the environment sets its goals itself, steps that the plan
            spans. Default: 50; what the model names.
        horizon: Model steps that the plan spans. Default: enough for --goal-horizon environment steps.
        iterations: Iterations of the planner. Default: four times those of an agent's decision.
        model: World model with a decoder: a shipped name, a folder or a hub id. Default: what ships for the
            environment.
        out: Folder for the pictures and the report.
        threads: CPU threads. Default: PyTorch's choice.
    """
    from grasp_agent.explain.explain import explain, plan_table
    from grasp_agent.explain.pictures import save_explanation
    from grasp_agent.models import load_world_model
    from grasp_agent.planning import planner_for
    from grasp_agent.rollouts.goal_env import GoalEnv

    set_threads(threads)
    env_kwargs = env_arguments(env_arg)
    name = model_name(model, env, env_kwargs)
    world_model = load_world_model(name)
    explanation = explain(
        world_model,
        planner_for(planner, world_model),
        seed,
        where=GoalEnv(env, env_kwargs),
        goal_horizon=goal_horizon,
        horizon=horizon,
        iterations=iterations,
        model_name=name,
        planner_name=planner,
    )
    files = save_explanation(explanation, out)
    console.print(plan_table(explanation.report))
    for file in files:
        say(str(file))


def bench(
    env: str = ENV,
    env_arg: Words = (),
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
    equal_parts: bool = False,
    model: MaybeStr = None,
    threshold: MaybeFloat = None,
    out: Path = Path("runs/bench"),
    workers: int = 2,
    quick: bool = False,
) -> None:
    """Compare planners at equal time, as table 1 of the GRASP paper does; run it again to resume.

    Stages: "open" makes one open-loop plan per goal, "closed" replans at every step, "ablation" changes one part of
    GRASP at a time, "tune" searches every planner's hyperparameters at random and on other goals, and "speed" measures
    environment steps and decisions on this machine. A time limit is first turned into a number of iterations, by
    measurement. Writes OUT/results.json, OUT/table.md, plots, and OUT/STAGE.csv with a line per planner
    and goal. Examples:
        grasp-agent bench --quick
        grasp-agent bench --stage tune --out runs/tune
        grasp-agent bench --stage open --horizon 40 --planner grasp --planner cem --settings runs/tune/tuning.json
        grasp-agent bench --stage speed
        grasp-agent bench --env grasp_envs:grasp_envs/Wall-v0 --env-arg success=strict --stage closed

    Args:
        env: Environment id; one with goals.
        env_arg: Argument of the environment, NAME=VALUE, as in success=strict.
        stage: Stage to run: open, closed, ablation, tune or speed. Default: open, closed and ablation.
        planner: Planner that takes part; the others are compared to the first. Default: every planner.
        horizon: Environment steps to the goals; where the environment sets its goals itself, steps that plans span.
            Default: 40, 50, 60, 70 and 80; what the model names.
        goals: Number of goals in stages open and ablation. Default: 200.
        seed: Seed of the first goal; the next ones count up.
        seconds: Time limit of a plan, or of a measurement in stage speed. Default: 1, or 3 in stage speed.
        closed_goals: Number of goals in stage closed. Default: 40.
        milliseconds: Time limit of a decision in stage closed. Default: 50, 100 and 200.
        ablation_horizon: The same as --horizon in stage ablation. Default: 40 and 60; what the model names.
        tune_goals: Number of goals in stage tune. Default: 40.
        tune_seed: Seed of the first goal in stage tune.
        tune_horizon: The same as --horizon in stage tune. Default: 60; what the model names.
        trials: Settings that stage tune tries per planner, the default ones included. Default: 12.
        settings: The tuning.json with the settings to use. Default: every planner's own.
        proposals: Offer the model's proposals to the planners as initial guesses.
        equal_parts: Give every solver the restarts, initial guesses, successive halving, tail resampling and robust
            choice of planner grasp, so that only the solvers differ.
        model: World model: a shipped name, a folder or a hub id. Default: what ships for the environment.
        threshold: Latent distance (root mean square) that counts as success under the model. Default: the task's own
            test, which needs a model whose latents have a physical meaning.
        out: Folder for the results.
        workers: Processes that plan, each with one thread.
        quick: Try everything in two minutes: few goals, short time limits, stage closed at the first horizon only.
    """
    from grasp_agent.benchmark.contestants import ablations, load_settings, planners
    from grasp_agent.benchmark.contestants import equal_parts as share_parts
    from grasp_agent.benchmark.report import write_report
    from grasp_agent.benchmark.stages import STAGES, Benchmark
    from grasp_agent.core.capabilities import proposes
    from grasp_agent.files.lock import locked
    from grasp_agent.models import load_world_model
    from grasp_agent.planning import PLANNERS
    from grasp_agent.rollouts.goal_env import GoalEnv

    stages = stage or ("open", "closed", "ablation")
    for name in stages:
        if name not in (*STAGES, "speed"):
            raise ValueError(f"--stage: expected one of {', '.join((*STAGES, 'speed'))}, got {name!r}")
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"--seconds: expected a positive number, got {seconds}")
    env_kwargs = env_arguments(env_arg)
    where, model = GoalEnv(env, env_kwargs), model_name(model, env, env_kwargs)
    if "speed" in stages:
        from grasp_agent.benchmark.speed import decision_table

        console.print(decision_table(where, model, seconds or (0.5 if quick else 3.0)))
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
        check_number(option, number)
    if min(seed, tune_seed) < 0:
        raise ValueError(f"--seed, --tune-seed: expected 0 or more, got {min(seed, tune_seed)}")
    limit = seconds or (0.2 if quick else 1.0)
    seeds = range(seed, seed + max(numbers["--goals"], numbers["--closed-goals"]))
    open_seeds, closed_seeds = seeds[: numbers["--goals"]], seeds[: numbers["--closed-goals"]]
    chosen = None if settings is None else load_settings(settings)
    world_model = load_world_model(model)
    own = () if where.sets_distance else (where.look_ahead(world_model),)
    horizons = horizon or own or ((40, 60) if quick else (40, 50, 60, 70, 80))
    offered = proposals and proposes(world_model)  # the prior alone needs them
    names = planner or tuple(name for name in PLANNERS if name != "prior" or offered)
    contestants = planners(names, world_model, chosen, proposals)
    if equal_parts:
        contestants = share_parts(contestants, planners(["grasp"], world_model, chosen, proposals)["grasp"].planner)
    benchmark = Benchmark(model, out, where, workers, threshold=threshold)
    with locked(out):
        if "tune" in stages:
            tune_seeds = range(tune_seed, tune_seed + numbers["--tune-goals"])
            tuned_at = tune_horizon or own or (60,)
            benchmark.tune(names, tuned_at, tune_seeds, limit, numbers["--trials"], seeds, proposals=proposals)
        if "open" in stages:
            benchmark.open_loop(contestants, horizons, open_seeds, limit)
        if "closed" in stages:
            budgets = milliseconds or ((50,) if quick else (50, 100, 200))
            benchmark.closed_loop(contestants, horizons[:1] if quick else horizons, closed_seeds, budgets)
        if "ablation" in stages:
            at = ablation_horizon or own or ((40,) if quick else (40, 60))
            variants = ablations(planners(["grasp"], world_model, chosen, proposals)["grasp"])
            shown = dict(list(variants.items())[:6]) if quick else variants
            benchmark.open_loop(shown, at, open_seeds, limit, stage="ablation")
        files = write_report(out)
    console.print((out / "table.md").read_text(), markup=False, highlight=False, soft_wrap=True)
    say(f"results in {', '.join(str(file) for file in files)}")
