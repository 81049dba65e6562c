"""Does the planner's cost fall when the task is closer? Latent goal distance against steps to go and task distance.

    python benchmarks/goal_distance.py --data runs/data --model pusht-pose --out benchmarks/goal_distance

Takes held-out expert trajectories, their frame 80 steps ahead as the goal, and compares for every frame on the way the
cost of its encoding with the steps that are left and with the task's own distance, max(pose error / 20 px, angle error
/ 20 degrees), which is below 1 on success. Writes results.json and distance.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from grasp_agent.data import EpisodeDataset
from grasp_agent.models import load_world_model
from grasp_agent.objectives.goal_distance import GoalDistance

AHEAD = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder written by grasp-agent collect")
    parser.add_argument("--model", action="append", required=True, help="a model's name or folder; repeat to compare")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trajectories", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)

    data = EpisodeDataset(options.data)
    assert data.states is not None
    _, held_out = data.split(0.05)
    starts = data.starts[held_out][data.lengths[held_out] > AHEAD][: options.trajectories]
    numbers = starts[:, None] + np.arange(AHEAD + 1)
    states = data.states[numbers]
    task = task_distance(states, states[:, -1:])
    left = np.broadcast_to(np.arange(AHEAD, -1, -1), task.shape)

    results: dict[str, Any] = {}
    curves: dict[str, tuple[Any, Any]] = {}
    for name in options.model:
        model = load_world_model(name)
        with torch.inference_mode():
            latents = torch.stack([model.encode(torch.from_numpy(data.frames(row))) for row in numbers])
            goals = latents[:, -1:].expand_as(latents)
            cost = GoalDistance().state_cost(latents.flatten(0, 1), goals.flatten(0, 1)).view(task.shape).numpy()
        results[name] = {
            "spearman_with_task_distance": round(float(spearmanr(cost.ravel(), task.ravel()).statistic), 3),
            "spearman_with_steps_left": round(float(spearmanr(cost.ravel(), left.ravel()).statistic), 3),
            "lower_cost_after_10_steps": round(float((cost[:, 10:] < cost[:, :-10]).mean()), 3),
            "lower_task_distance_after_10_steps": round(float((task[:, 10:] < task[:, :-10]).mean()), 3),
        }
        curves[name] = (cost, task)
        print(name, results[name], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    text = {"trajectories": len(starts), "frames_ahead": AHEAD, "models": results}
    (options.out / "results.json").write_text(json.dumps(text, indent=2) + "\n")
    plot(curves, options.out / "distance.png")


def task_distance(states: Any, goals: Any) -> Any:
    """max(pose error / 20 px, angle error / 20 degrees) of simulator states [..., >= 5]."""
    pose = np.linalg.norm(states[..., :4] - goals[..., :4], axis=-1) / 20.0
    angle = np.abs(np.remainder(states[..., 4] - goals[..., 4] + np.pi, 2 * np.pi) - np.pi) / (np.pi / 9)
    return np.maximum(pose, angle)


def plot(curves: dict[str, tuple[Any, Any]], path: Path) -> None:
    """Per model: cost by steps left (median and quartiles), and cost against task distance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.3 * len(curves)), layout="constrained")
    for (name, (cost, task)), (by_steps, by_task) in zip(
        curves.items(), figure.subplots(len(curves), 2, squeeze=False), strict=True
    ):
        left = np.arange(cost.shape[1] - 1, -1, -1)
        low, middle, high = np.quantile(cost, [0.25, 0.5, 0.75], axis=0)
        by_steps.fill_between(left, low, high, alpha=0.3)
        by_steps.plot(left, middle)
        by_steps.set(xlabel="expert steps left", ylabel=f"{'/'.join(Path(name).parts[-2:])}: cost", xlim=(left[0], 0))
        by_task.loglog(np.maximum(task.ravel(), 1e-2), np.maximum(cost.ravel(), 1e-4), ".", markersize=2, alpha=0.3)
        by_task.axvline(1.0, color="black", linewidth=0.8)
        by_task.set(xlabel="task distance (success below 1)", ylabel="cost")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
