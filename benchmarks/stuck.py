"""Where a greedy planner gets stuck and GRASP does not: the paths of both, drawn, in three worlds.

    python benchmarks/stuck.py --out benchmarks/stuck

The greedy agent improves one plan by gradient descent on the straight distance to the goal, from zero actions, and the
model's proposals are hidden from it. GRASPAgent has its defaults. Both plan with the same model, replan at every step
and play the same episodes. Success is counted, and the first episode that one of them alone solves is drawn.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from grasp_agent import GradientDescent, GRASPAgent, MPCAgent, MultiStart, load_world_model
from grasp_agent.core.capabilities import distance_weights_of
from grasp_agent.files.atomic import replacing, write_json
from grasp_agent.objectives import GoalDistance
from grasp_agent.rollouts.environments import make_env


@dataclass(frozen=True)
class World:
    """One environment and its model.

    Attributes:
        env_id: for `make_env`.
        model: a shipped name.
        side: height and width of the world, in the units of its states.
        arguments: of the environment.
    """

    env_id: str
    model: str
    side: float
    arguments: dict[str, Any] = field(default_factory=dict)


WORLDS = {
    "Wall": World("grasp_envs:grasp_envs/Wall-v0", "wall", 65, {"success": "strict", "max_steps": 60}),
    "U-maze": World("grasp_envs:grasp_envs/PointMaze-v0", "umaze-vector", 5, {"max_steps": 80}),
    "medium maze": World("grasp_envs:grasp_envs/PointMaze-v0", "medium-maze", 8, {"maze": "medium", "max_steps": 100}),
}


@dataclass(frozen=True)
class Episode:
    """One episode of one agent.

    Attributes:
        path: places, [steps + 1, 2].
        goal: place of the goal, [2].
        picture: of the world at the end.
        solved: whether the goal was reached.
    """

    path: NDArray[np.float64]
    goal: NDArray[np.float64]
    picture: NDArray[np.uint8]
    solved: bool


def agents(model: Any, space: Any) -> dict[str, MPCAgent]:
    """Who plays."""
    greedy = MultiStart(GradientDescent(), restarts=1, candidates=0, refresh=0, iterations=20)
    straight = GoalDistance(weights=distance_weights_of(model))
    silent = copy.deepcopy(model)
    silent.proposes = False
    return {"greedy": MPCAgent(silent, space, greedy, objective=straight), "GRASPAgent": GRASPAgent(model, space)}


def play(agent: MPCAgent, world: World, seeds: Sequence[int]) -> list[Episode]:
    """Play episodes until their goal is reached or their time is up, side by side."""
    kwargs = {**world.arguments, "obs_type": "pixels", "resolution": 64, "render_mode": "rgb_array"}
    envs = [make_env(world.env_id, **kwargs) for _ in seeds]
    begun = [env.reset(seed=seed) for env, seed in zip(envs, seeds, strict=True)]
    observations = [observation for observation, _ in begun]
    paths, solved = [[info["state"][:2]] for _, info in begun], [False] * len(envs)
    rows, state = list(range(len(envs))), None
    while rows:
        seen = {key: np.stack([observations[row][key] for row in rows]) for key in ("pixels", "goal")}
        actions, state = agent.predict(seen, state)
        going = []
        for place, (row, action) in enumerate(zip(rows, actions, strict=True)):
            observations[row], _, terminated, truncated, info = envs[row].step(action)
            paths[row].append(info["state"][:2])
            solved[row] = bool(info["is_success"])
            if not (solved[row] or terminated or truncated):
                going.append(place)
        state, rows = state.select(going), [rows[place] for place in going]
    episodes = [
        Episode(np.array(path), np.array(info["goal_state"][:2]), np.asarray(env.render()), done)
        for path, (_, info), env, done in zip(paths, begun, envs, solved, strict=True)
    ]
    for env in envs:
        env.close()
    return episodes


def draw(shown: dict[str, tuple[World, dict[str, Episode]]], path: Path) -> None:
    """A column per world, a row per agent."""
    figure = Figure(figsize=(3.2 * len(shown), 6.6), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False)
    for column, (name, (world, episodes)) in enumerate(shown.items()):
        for row, (who, episode) in enumerate(episodes.items()):
            axis = axes[row, column]
            axis.imshow(episode.picture, extent=(0, world.side, world.side, 0))
            axis.plot(*episode.path.T, "-", color="#187a3c" if episode.solved else "#b03060", linewidth=2)
            axis.plot(*episode.path[0], "o", color="#4169e1")
            axis.plot(*episode.goal, "*", color="#e8a35c", markersize=14, markeredgecolor="black")
            steps = len(episode.path) - 1
            axis.set(
                xticks=[],
                yticks=[],
                title=f"{name}, {who}: {'there' if episode.solved else 'not there'}, {steps} steps",
            )
            axis.title.set_fontsize(9)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for counts.json and stuck.png")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=10_000, help="of the first episode")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seed, options.seed + options.episodes)
    counts: dict[str, Any] = {"seed": options.seed, "episodes": options.episodes}
    shown = {}
    for name, world in WORLDS.items():
        model = load_world_model(world.model)
        with make_env(world.env_id, **world.arguments) as env:
            space = env.action_space
        played = {who: play(agent, world, seeds) for who, agent in agents(model, space).items()}
        counts[name] = {who: sum(episode.solved for episode in episodes) for who, episodes in played.items()}
        print(name, counts[name], flush=True)
        different = [i for i in range(len(seeds)) if len({episodes[i].solved for episodes in played.values()}) > 1]
        chosen = (different or [0])[0]
        shown[name] = world, {who: episodes[chosen] for who, episodes in played.items()}
        write_json(options.out / "counts.json", counts)
        draw(shown, options.out / "stuck.png")


if __name__ == "__main__":
    main()
