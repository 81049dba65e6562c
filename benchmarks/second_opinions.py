"""Do plans get better when a second opinion is asked about the model's predictions?

    python benchmarks/second_opinions.py --model umaze --data runs/umaze_data --out benchmarks/second_opinions/umaze

One plan of 50 environment steps for each goal, without the model's proposals, played to its end without looking again
(open loop). All rows search with the same parts of `GRASP()` and the same number of iterations. Two kinds of doubt:

  ensemble   further dynamics for the same encoder, trained from other weights on other batches. Of the four plans that
             a search ends with, the one is taken whose cost is least by the median of all dynamics, or by the worst
  residual   of an inverse dynamics g, trained on real steps, which tells the action from the states around it:

                 residual = mean over t of  || g(s_{t-h+1}, ..., s_{t+1}) - a_t ||^2 / A

             A predicted step that looks like none in the data has a large one. `weight` times it is added to the cost
             that plans are searched with and chosen by. The weight is the best of four on goals of its own (`tuning`)

Rows with the same cost share one search, so they differ in the choice alone. A last row tells what the best choice
could reach. `tells` is measured as in trust.py: the chance that of two rollouts of recorded actions the one that is
doubted more has the larger error, by noise on the predictions, by the ensemble's spread and by the residual.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from trust import spread_under_noise, telling

from grasp_agent import GRASP, Budget, GRASPAgent, Problem
from grasp_agent.benchmark.counting import CountingModel
from grasp_agent.core.types import Objective
from grasp_agent.data import EpisodeDataset
from grasp_agent.evaluation.statistics import mcnemar_exact, wilson_interval
from grasp_agent.files.atomic import replacing, write_json, write_text
from grasp_agent.models import load_world_model
from grasp_agent.models.latent.dynamics import mlp
from grasp_agent.models.sprites import SpritesModel
from grasp_agent.objectives import default_objective
from grasp_agent.planning import RobustChoice, rollout, solve
from grasp_agent.planning.combine.multi_start import Search
from grasp_agent.planning.rollout import environment_units, true_cost
from grasp_agent.planning.solve import finish
from grasp_agent.training.dynamics import DynamicsTask, LatentWindows, unrolled
from grasp_agent.training.loop import Batch, Losses, Stage, run_stage
from grasp_agent.training.representation import encode_dataset
from grasp_agent.training.sprites_recipe import HUBER, SpritesRecipe

ENV = "grasp_envs:grasp_envs/PointMaze-v0"
MAZES = {"umaze": "umaze", "medium-maze": "medium"}
"""The maze of each model."""

STEPS = 50
"""Environment steps of a plan. The models make one at a time."""

HELD_OUT = SpritesRecipe.held_out
WEIGHTS = (3.0, 10.0, 30.0, 100.0)
INVERSE = Stage("inverse", steps=4_000, batch=512, learning_rate=1e-3)
Latents = NDArray[np.float32]
LENGTH = 5.0
"""Latent units that count as 1 where places are given to a network, as in the models' own dynamics."""

ROBUST = "`RobustChoice()`"
BOUND = "any of the four plans (no choice can do better)"


# ----- the second opinions ----------------------------------------------------------------------------------


class InverseDynamics(nn.Module):
    """g: the action that leads from the last h states to the next one. A state is a place, so one alone has no speed.

    Args:
        model: whose states and actions.
    """

    def __init__(self, model: SpritesModel) -> None:
        super().__init__()
        self.history, self.scale = model.history, model.config.action_scale
        self.net = mlp((model.history + 1) * model.state_shape[0], 128, 3, model.action_dim)

    def forward(self, states: Tensor) -> Tensor:
        """Windows [N, h + 1, D] -> actions in environment units, [N, A]."""
        moves = (states[:, 1:] - states[:, :-1]).flatten(1)
        told: Tensor = self.net(torch.cat([states[:, -2] / LENGTH, moves], dim=1))
        return self.scale * told

    def residuals(self, states: Tensor, actions: Tensor) -> Tensor:
        """States [N, h + T, D] and the actions that led to the last T of them, [N, T, A] -> [N, T]."""
        windows = states.unfold(1, self.history + 1, 1).movedim(-1, 2)
        told: Tensor = self(windows.flatten(0, 1)).view_as(actions)
        return (told - actions).square().mean(2)


@dataclass(frozen=True, eq=False)
class Doubted:
    """An objective, and what the inverse dynamics says against the predicted states.

    Attributes:
        plain: the objective without doubt.
        inverse: g.
        weight: of the residual.
    """

    plain: Objective
    inverse: InverseDynamics
    weight: float

    def state_cost(self, states: Tensor, goal: Tensor) -> Tensor:
        return self.plain.state_cost(states, goal)

    def trajectory_cost(self, states: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
        return self.plain.trajectory_cost(states, actions, goal) + self.doubt(states, actions)

    def doubt(self, states: Tensor, actions: Tensor) -> Tensor:
        """The weighted residual of states [N, T, D] reached by actions [N, T, A], [N].

        The first h steps are left out: the states before the plan are not known here. Gauss-Newton takes a cost's
        curvature for one state at a time, but a residual ties h + 1 of them together. So it is given the slope alone,
        as of a linear cost, and weighs steps by the curvature of the distance to the goal.
        """
        if not (torch.is_grad_enabled() and (states.requires_grad or actions.requires_grad)):
            return self._residual(states, actions)
        s, a = (x.detach().requires_grad_(True) for x in (states, actions))
        value = self._residual(s, a)
        slopes = torch.autograd.grad(value.sum(), (s, a))
        linear = value.detach()
        for x, slope in zip((states, actions), slopes, strict=True):
            linear = linear + (slope * (x - x.detach())).flatten(1).sum(1)
        return linear

    def _residual(self, states: Tensor, actions: Tensor) -> Tensor:
        return self.weight * self.inverse.residuals(states, actions[:, self.inverse.history :]).mean(1)


@dataclass(frozen=True)
class Opinions(RobustChoice):
    """The choice among plans by several dynamics, and by the residual of the model's own rollout.

    Attributes:
        members: dynamics that are asked; none means noisy rollouts, as `RobustChoice` makes them.
        worst: whether the worst opinion counts and not the median.
    """

    members: tuple[Any, ...] = ()
    worst: bool = False

    @torch.no_grad()
    def cost_under_noise(self, problem: Problem, u: Tensor, keys: Tensor) -> Tensor:
        """Cost of normalised plans u [B, M, T, A], [B, M]."""
        objective = problem.objective
        plain = replace(problem, objective=objective.plain) if isinstance(objective, Doubted) else problem
        if self.members:
            costs = torch.stack([true_cost(replace(plain, model=member), u)[0] for member in self.members])
            middle = costs.sort(0).values[(len(costs) - 1) // 2 : len(costs) // 2 + 1].mean(0)
            cost = costs.amax(0) if self.worst else middle
        else:
            cost = super().cost_under_noise(plain, u, keys)
        if isinstance(objective, Doubted):  # of the undisturbed rollout: noise itself looks like no real step
            actions = environment_units(problem, u)
            states = rollout(problem, actions)[:, :, 1:]
            cost = cost + objective.doubt(states.flatten(0, 1), actions.flatten(0, 1)).view_as(cost)
        return cost


# ----- training ---------------------------------------------------------------------------------------------


class InverseTask(LatentWindows):
    """Batches and losses of the inverse dynamics: real steps of some episodes, and the actions that made them."""

    def __init__(self, model: Any, data: EpisodeDataset, latents: Latents, episodes: NDArray[np.int64]) -> None:
        super().__init__(model, data, latents)
        self.module, self.presents = InverseDynamics(model), data.windows(episodes, 2)

    def draw(self, generator: np.random.Generator) -> Batch:
        states, actions = self.window(torch.from_numpy(generator.choice(self.presents, INVERSE.batch)), 1)
        return states, actions[:, -1]

    def losses(self, batch: Batch, progress: float) -> Losses:
        states, actions = batch
        return {"loss": functional.mse_loss(self.module(states), actions)}


def inverse_dynamics(model: SpritesModel, data: EpisodeDataset, latents: Latents, work: Path) -> Any:
    """g, trained on the real steps of the episodes that the model was trained on."""
    torch.manual_seed(0)
    task = InverseTask(model, data, latents, data.split(HELD_OUT)[0])
    run_stage(INVERSE, task, work, seed=0)
    return task.module.requires_grad_(False).eval()


def further(model: SpritesModel, data: EpisodeDataset, latents: Latents, steps: int, work: Path, seed: int) -> Any:
    """A model with the same encoder, whose dynamics began from other weights and saw other batches."""
    recipe, folder = SpritesRecipe(), work / f"member{seed}"
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    member: Any = SpritesModel(model.config).requires_grad_(False)
    member.dynamics.requires_grad_(True)
    stage, training = replace(recipe.dynamics, steps=steps), data.split(HELD_OUT)[0]
    task = DynamicsTask(member, data, latents, training, stage.batch, recipe.unroll, symmetry=False, huber=HUBER)
    run_stage(stage, task, folder, seed=seed)
    return member.requires_grad_(False).eval()


# ----- planning and playing ---------------------------------------------------------------------------------


class Goals:
    """Episodes of one maze that are planned for once.

    Args:
        model: who predicts.
        maze: as the environment names it.
        seeds: of the episodes.
    """

    def __init__(self, model: SpritesModel, maze: str, seeds: Sequence[int]) -> None:
        self.model, self.seeds = model, list(seeds)
        pictured = gym.make(ENV, maze=maze, obs_type="pixels", resolution=model.image_size, max_steps=10_000)
        self.env = gym.make(ENV, maze=maze, max_steps=10_000)  # without pictures it plays faster
        cells = max(pictured.unwrapped.maze.width, pictured.unwrapped.maze.height)  # type: ignore[attr-defined]
        self.radius = 0.45 / cells * 25  # the environment's own, in the unit of latents
        seen = [pictured.reset(seed=seed)[0] for seed in self.seeds]
        observations = {key: np.stack([one[key] for one in seen]) for key in ("pixels", "goal")}
        self.objective = default_objective(model)
        hidden = CountingModel(model, proposals=False)
        agent = GRASPAgent(hidden, self.env.action_space, objective=self.objective, horizon=STEPS)
        self.problem = agent.problem(observations)

    def play(self, actions: Tensor) -> NDArray[np.bool_]:
        """Whether the environment calls each episode solved after each of its actions [B, T, A], [B, T]."""
        solved = []
        for seed, plan in zip(self.seeds, actions.numpy().astype(np.float32), strict=True):
            self.env.reset(seed=seed)
            solved.append([bool(self.env.step(action)[-1]["is_success"]) for action in plan])
        return np.array(solved)


def searched(problem: Problem, iterations: int) -> tuple[Search, float]:
    """What is known after the search, and the seconds that it took for each problem."""
    began = time.process_time()
    _, search = solve(replace(GRASP(), select=None), problem, Budget(iterations=iterations))
    return search, (time.process_time() - began) / problem.batch


def chosen(goals: Goals, problem: Problem, search: Search, choice: RobustChoice | None) -> dict[str, Any]:
    """One row: the choice after a search, and how its plans come out."""
    began = time.process_time()
    plan, _ = finish(replace(GRASP(), select=choice), problem, search)
    seconds = (time.process_time() - began) / problem.batch
    cost = goals.objective.trajectory_cost(plan.states[:, 1:], plan.actions, problem.goal).detach()
    last, played = plan.states[:, -1], goals.play(plan.actions)
    return {
        "seconds": seconds,
        "cost": round(float(cost.mean()), 1),
        "model": int(goals.model.readout.reaches(last, problem.goal).sum()),
        "model_radius": int(((last - problem.goal).norm(dim=1) < goals.radius).sum()),
        "any": int(played.any(1).sum()),
        "solved": [int(x) for x in played[:, -1]],
    }


def tuned(goals: Goals, inverse: InverseDynamics, iterations: int) -> dict[str, Any]:
    """The rows without a choice for every weight, on the tuning goals; the best solves most, the smallest first."""
    found: dict[str, Any] = {}
    for weight in (0.0, *WEIGHTS):
        problem = replace(goals.problem, objective=Doubted(goals.objective, inverse, weight))
        row = chosen(goals, problem, searched(problem, iterations)[0], None)
        found[f"{weight:g}"] = {**row, "solved": sum(row["solved"])}
        print("weight", weight, found[f"{weight:g}"], flush=True)
    best = max(WEIGHTS, key=lambda weight: (found[f"{weight:g}"]["solved"], -weight))
    return {"weights": found, "weight": best}


def compare(goals: Goals, members: tuple[Any, ...], doubted: Doubted, results: dict[str, Any], path: Path) -> None:
    """Every row of the table; what `results` holds already is not planned again."""
    many = Opinions(members=members)
    choices: dict[str, tuple[bool, RobustChoice | None]] = {
        "no choice: the cheapest": (False, None),
        ROBUST: (False, RobustChoice()),
        "ensemble, median": (False, many),
        "ensemble, worst": (False, replace(many, worst=True)),
        f"{ROBUST} and inverse residual": (True, Opinions()),
        "inverse residual alone": (True, None),
        "ensemble, median, and inverse residual": (True, many),
        BOUND: (False, None),
    }
    rows, searches = results["rows"], {}
    for name, (with_residual, choice) in choices.items():
        if name in rows:
            continue
        problem = replace(goals.problem, objective=doubted) if with_residual else goals.problem
        if with_residual not in searches:
            searches[with_residual] = searched(problem, results["settings"]["iterations"])
        search, seconds = searches[with_residual]
        if name == BOUND:
            played = [goals.play(environment_units(problem, u)) for u in search.kept.actions.unbind(1)]
            rows[name] = {
                "any": int(np.any(played, axis=(0, 2)).sum()),
                "solved": [int(x) for x in np.any([of_one[:, -1] for of_one in played], axis=0)],
            }
        else:
            row = chosen(goals, problem, search, choice)
            rows[name] = {**row, "seconds": round(seconds + row["seconds"], 3)}
        write_json(path, results)
        print(f"{name}: {sum(rows[name]['solved'])} of {len(goals.seeds)}", flush=True)


@torch.inference_mode()
def tells(model: Any, members: Sequence[Any], inverse: Any, data: Any, latents: Latents) -> list[dict[str, Any]]:
    """How well each doubt tells which rollouts of held-out actions go wrong. Errors are in hundredths of the spread."""
    starts = data.windows(data.split(HELD_OUT)[1], STEPS + 1)
    some = np.sort(np.random.default_rng(0).choice(starts, min(1000, len(starts)), replace=False))
    states, actions = LatentWindows(model, data, latents).window(torch.from_numpy(some), STEPS)
    h = model.history
    history, real = states[:, :h], states[:, h:]
    unit = float(real.flatten(0, 1).std(0).square().sum().sqrt()) / 100
    paths = torch.stack([unrolled(one, history, actions, STEPS) for one in (model, *members)])
    errors = (paths - real).norm(dim=3) / unit  # [1 + members, N, T]
    noise = spread_under_noise(model, history, actions, paths[0], float(errors[0, :, 0].median()) * unit)
    foreseen, known = (inverse.residuals(torch.cat([history, x], 1), actions[:, h - 1 :]) for x in (paths[0], real))
    sums = foreseen.cumsum(1)
    doubts = {"noise": noise, "ensemble": paths.var(0).sum(2).sqrt(), "residual": sums}
    return [
        {
            "ahead": t,
            "error": round(float(errors[0, :, t - 1].median()), 1),
            "error_of_further": round(float(errors[1:, :, t - 1].median(dim=1).values.mean()), 1),
            "residual": round(float(foreseen[:, :t].mean()), 4),
            "residual_of_real_steps": round(float(known[:, :t].mean()), 4),
            "tells": {k: round(telling(x[:, t - 1], errors[0, :, t - 1]), 3) for k, x in doubts.items()},
        }
        for t in (10, 25, STEPS)
    ]


def table(results: dict[str, Any]) -> str:
    """Rows with intervals, p against the robust choice; then what the doubts tell."""
    rows, goals = results["rows"], results["settings"]["goals"]
    robust = rows[ROBUST]["solved"]
    lines = [
        "| plan taken | solved % [95 % interval] | p | at any step % | under the model % |"
        " under the model, environment's radius % | mean cost | s per plan |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        share = wilson_interval(sum(row["solved"]), goals)
        p = "" if row["solved"] is robust else f"{mcnemar_exact(robust, row['solved']):.3f}"
        solved = f"{100 * share.value:.1f} [{100 * share.low:.0f}, {100 * share.high:.0f}]"
        shares = [f"{100 * row[key] / goals:.0f}" if key in row else "" for key in ("any", "model", "model_radius")]
        rest = [f"{row['cost']:.1f}", f"{row['seconds']:.2f}"] if "cost" in row else ["", ""]
        lines.append("| " + " | ".join([name, solved, p, *shares, *rest]) + " |")
    lines += [
        "",
        "| steps ahead | median error | of the further dynamics | residual | of real steps |"
        " noise tells | ensemble tells | residual tells |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["tells"]:
        errors = [f"{row['error']:.1f}", f"{row['error_of_further']:.1f}"]
        residuals = [f"{row['residual']:.3f}", f"{row['residual_of_real_steps']:.3f}"]
        told = [f"{row['tells'][key]:.2f}" for key in ("noise", "ensemble", "residual")]
        lines.append("| " + " | ".join([str(row["ahead"]), *errors, *residuals, *told]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, choices=MAZES, help="a shipped model")
    parser.add_argument("--data", type=Path, required=True, help="what it was trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; rows that it holds are kept")
    parser.add_argument("--work", type=Path, default=Path("runs/second_opinions"), help="latents and trainings")
    parser.add_argument("--goals", type=int, default=100)
    parser.add_argument("--seed", type=int, default=10000, help="of the first goal")
    parser.add_argument("--tuning-goals", type=int, default=24, help="for the weight, seeds from 20000 on")
    parser.add_argument("--tune-only", action="store_true", help="leave the goals of the table alone")
    parser.add_argument("--iterations", type=int, default=12, help="of GRASP()")
    parser.add_argument("--members", type=int, default=2, help="further dynamics")
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps of each; the recipe's are 8,000")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work, path = options.work / options.model, options.out / "results.json"
    work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    model, data = load_world_model(options.model), EpisodeDataset(options.data)
    assert isinstance(model, SpritesModel)
    if not (work / "latents.npy").is_file():
        with replacing(work / "latents.npy") as unfinished:
            np.save(unfinished, encode_dataset(model, data))
    latents = np.load(work / "latents.npy")
    inverse = inverse_dynamics(model, data, latents, work)
    members = [further(model, data, latents, options.steps, work, seed) for seed in range(1, options.members + 1)]

    names = ("goals", "seed", "tuning_goals", "iterations", "members", "steps")
    settings = {name: getattr(options, name) for name in names}
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"settings": settings, "rows": {}}
    if results["settings"] != settings:
        raise SystemExit(f"{path} was begun with {results['settings']}; choose another folder")
    if "tells" not in results:
        results["tells"] = tells(model, members, inverse, data, latents)
    if "tuning" not in results:
        tuning_goals = Goals(model, MAZES[options.model], range(20000, 20000 + options.tuning_goals))
        results["tuning"] = tuned(tuning_goals, inverse, options.iterations)
    write_json(path, results)
    if options.tune_only:
        return
    goals = Goals(model, MAZES[options.model], range(options.seed, options.seed + options.goals))
    doubted = Doubted(goals.objective, inverse, results["tuning"]["weight"])
    compare(goals, (model, *members), doubted, results, path)
    write_text(options.out / "table.md", table(results))
    print(table(results))


if __name__ == "__main__":
    main()
