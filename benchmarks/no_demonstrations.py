"""Push-T without demonstrations: success against environment steps, from random play and the planner's own play alone.

    python benchmarks/no_demonstrations.py --work runs/no_demonstrations --out benchmarks/no_demonstrations

1. Random actions are recorded, and a model of sprites is trained on them (recipe "sprites").
2. GRASP plans with that model to the goal pictures that the environment shows, its actions disturbed; what happens is
   recorded. Training goes on with all data so far.
3. And again, `--rounds` times. After each training the agent plays held-out goals.

No expert is recorded, and no simulator state is read. The goals themselves are pictures of where the environment's
expert would be 25 steps later: that is what the task asks for, not how to do it. Whatever is there already is kept.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from grasp_agent import GRASPAgent
from grasp_agent.data import CollectSettings, EpisodeDataset, collect
from grasp_agent.evaluation import evaluate
from grasp_agent.files.atomic import replacing, write_json
from grasp_agent.models import load_world_model
from grasp_agent.planning import planner_for
from grasp_agent.rollouts.environments import make_env
from grasp_agent.training import SpritesRecipe, train

ENV = "grasp_envs:grasp_envs/PushTReach-v0"


def play(folder: Path, model: Path | None, steps: int, noise: float, seed: int) -> Path:
    """Record random actions, or a planner's."""
    policy: dict[str, Any] = {"policy": "random"}
    if model is not None:
        policy = {"policy": "planner", "model": str(model), "noise": noise}
    settings = CollectSettings((ENV,), steps, seed=seed, **policy)
    return collect(settings, folder, on_shard=lambda done, shards: print(f"{folder}: {done} of {shards}", flush=True))


def learn(data: list[Path], out: Path, initial: Path | None) -> Path:
    """Train on all the data, from the model of the round before if there is one."""
    recipe = SpritesRecipe()
    if initial is not None:
        recipe = replace(
            recipe,
            encoder=replace(recipe.encoder, steps=200, learning_rate=3e-4),
            dynamics=replace(recipe.dynamics, steps=4_000),
            proposal=replace(recipe.proposal, steps=4_000),
        )
    if not (out / "metrics.json").is_file():
        train(EpisodeDataset(*data), recipe, out, initial=initial, on_message=lambda text: print(text, flush=True))
    return out / "model"


def success(model: Path, out: Path, distance: int, options: argparse.Namespace) -> dict[str, float]:
    """Share of held-out goals that are reached, with its interval."""
    world_model = load_world_model(model)
    with make_env(ENV) as env:
        space = env.action_space
    agent = GRASPAgent(world_model, space, planner_for("grasp", world_model))
    seeds = range(options.seed, options.seed + options.episodes)
    results = evaluate(
        {"grasp": agent}, ENV, seeds, env_kwargs={"goal_horizon": distance}, out=out, batch=options.batch
    )
    share = results.summary()[0].success
    assert share is not None
    return {"value": share.value, "low": share.low, "high": share.high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="data and models")
    parser.add_argument("--out", type=Path, required=True, help="curve.json and curve.png")
    parser.add_argument("--random-steps", type=int, default=40_000, help="steps of random play")
    parser.add_argument("--steps", type=int, default=15_000, help="steps of the planner in each round")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of the planner")
    parser.add_argument("--noise", type=float, default=0.2, help="added to the planner's actions, in half-ranges")
    parser.add_argument("--distance", type=int, action="append", help="expert steps to the goal; default 25 and 50")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=10_000, help="of the first goal")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    data, model, steps = [], None, 0
    for number in range(options.rounds + 1):
        more = options.steps if number else options.random_steps
        data.append(play(options.work / f"data_{number}", model, more, options.noise, seed=100 + number))
        steps += more
        model = learn(data, options.work / f"train_{number}", model)
        row: dict[str, Any] = {"round": number, "environment_steps": steps}
        for distance in options.distance or (25, 50):
            row[str(distance)] = success(model, options.work / f"results_{number}_{distance}", distance, options)
        rows.append(row)
        print(json.dumps(row), flush=True)
        write_json(options.out / "curve.json", {"episodes": options.episodes, "seed": options.seed, "rows": rows})
        plot(rows, options.out / "curve.png")


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axis = figure.subplots()
    steps = [row["environment_steps"] / 1000 for row in rows]
    for distance in (key for key in rows[0] if key.isdigit()):
        shares = [row[distance] for row in rows]
        values = [100 * share["value"] for share in shares]
        errors = [[100 * (s["value"] - s["low"]) for s in shares], [100 * (s["high"] - s["value"]) for s in shares]]
        axis.errorbar(steps, values, errors, marker="o", capsize=3, label=f"goals {distance} steps ahead")
    axis.set(xlabel="thousand environment steps", ylabel="success [%]", ylim=(0, 102))
    axis.grid(alpha=0.3)
    axis.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


if __name__ == "__main__":
    main()
