"""Does GRASP's lifted phase pay in large latents that were learned from pixels? Round walls, and in Push-T.

    python benchmarks/lifted_phase.py --model wall-vector --out benchmarks/lifted_phase/wall-vector --seconds 0.3

Nobody is offered the model's proposals, but for the row "prior", which a model without any has not. There are three
tables. In the first two there is one plan for each goal, played in the environment to its end without looking again
(open loop). A goal is solved if the environment says so after the plan's last step.

  one     one plan from zero actions, as in the paper. Who gets past the wall has searched, not guessed.
  parts   four plans, each the best of eight random ones, and other endings of good plans, the same for every solver.
  closed  `GRASPAgent` plans anew at every step, from the plans of the step before, with parts as in the second table.
          A goal is solved if it is reached within the environment's own number of steps.

Time: the seconds of an iteration are measured first, for all goals in one batch on one thread; every planner gets as
many iterations as fit, the same at every decision. So a result depends on the number of iterations only. `--as FOLDER`
gives each planner the iterations that it had there, in place of a time.

Plans are judged by the model's own distance in steps, if it has one. `--straight` judges them by the straight distance
of latents instead, and tells what the distance is worth:

    python benchmarks/lifted_phase.py --model wall-grid --seconds 0.6 --out runs/steps
    python benchmarks/lifted_phase.py --model wall-grid --straight --as runs/steps --out runs/straight

A third part, `reasons.json`, measures what the paper argues with: how much the model amplifies a disturbance of the
state along the data and in any direction, and how long the gradient of a plan's cost is in its first action, for plans
of different lengths.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from grasp_agent import GRASP, Budget, GradientDescent, GRASPAgent, MultiStart, Problem
from grasp_agent.benchmark.counting import CountingModel
from grasp_agent.core.capabilities import distance_weights_of, look_ahead_of, proposes
from grasp_agent.core.types import WorldModel
from grasp_agent.evaluation.statistics import mcnemar_exact, wilson_interval
from grasp_agent.files.atomic import write_json
from grasp_agent.models import load_world_model
from grasp_agent.objectives import GoalDistance, default_objective
from grasp_agent.planning import (
    CEM,
    ICEM,
    LBFGS,
    MPPI,
    Alternate,
    LatCo,
    Lifted,
    Prior,
    TailResample,
    iterate,
    rollout,
    solve,
)
from grasp_agent.planning.solvers.solver import AnySolver
from grasp_agent.rollouts.policies import AgentPolicy
from grasp_agent.rollouts.vector import Episode, play
from grasp_agent.tasks import task_for

ENDLESS: dict[str, Any] = {"max_steps": 10_000}
WORLDS: dict[str, tuple[str, int, dict[str, Any], dict[str, Any]]] = {
    "wall": ("grasp_envs:grasp_envs/Wall-v0", 50, {}, ENDLESS),
    "umaze": ("grasp_envs:grasp_envs/PointMaze-v0", 50, {}, ENDLESS),
    "pusht": ("grasp_envs:grasp_envs/PushTReach-v0", 25, {"goal_horizon": 25}, {}),
}
"""Environment, steps that open-loop plans span, the environment's arguments, and those that leave room for such a plan,
by how the model's name begins."""

TITLES = {
    "one": "One plan from zero actions",
    "parts": "The same parts for every solver",
    "closed": "Closed loop",
}
"""Of the tables, by name."""

AFFORDABLE = 128
"""Numbers in a latent up to which `GRASP()`, whose solver takes Jacobians, has a row: with 512 they take too long."""

TURN = (20, 10)
"""Lifted iterations, then gradient steps through the rollout."""


def lifted(**changes: Any) -> Lifted:
    """The lifted phase for a plan that is on its own: loud noise, from the rollout bent so that it ends in the goal."""
    settings: dict[str, Any] = {"action_rate": 0.5, "state_rate": 0.3, "noise": 0.5, "init_states": "bent"}
    return Lifted(**{**settings, **changes})


def opening(**changes: Any) -> Lifted:
    """The lifted phase as an opening, from the line to the goal; its noise is gone after 20 iterations."""
    return Lifted(**{"action_rate": 0.2, "state_rate": 0.3, "noise": 0.2, "anneal": TURN[0], **changes})


def one_plan(iterations: int) -> dict[str, MultiStart]:
    """Planners of one plan from zero actions. Noise fades over four fifths of the iterations."""

    def one(solver: AnySolver) -> MultiStart:
        return MultiStart(solver, restarts=1, candidates=0, refresh=0)

    def in_turn(**changes: Any) -> MultiStart:
        solver = Alternate(lifted(anneal=max(1, iterations * 4 // 5), **changes), GradientDescent(0.2), TURN)
        to_the_cheapest = TailResample(0, first=sum(TURN), every=sum(TURN))
        return replace(one(solver), resample=to_the_cheapest)

    return {
        "lifted and gradient steps in turn": in_turn(),
        "the same, gradients into the state input": in_turn(stop_gradient=False),
        "the same, no noise": in_turn(noise=0.0),
        "the same, no goal shaping": in_turn(goal_weight=0.0),
        "the same, states from a line": in_turn(init_states="line"),
        "the same, next to no lifted phase": in_turn(action_rate=1e-9),
        "lifted phase alone": one(lifted(anneal=max(1, iterations * 4 // 5))),
        "GRASP.paper()": GRASP.paper(),
        "gradient descent": one(GradientDescent()),
        "gradient descent, rate 0.2": one(GradientDescent(0.2)),
        "L-BFGS": one(LBFGS()),
        "LatCo": one(LatCo()),
    }


def sampling(solver: AnySolver) -> MultiStart:
    """A sampler begins from the best of as many random plans as four restarts do, and moves one mean."""
    return MultiStart(solver, restarts=1, candidates=32, refresh=0)


def with_parts(iterations: int) -> dict[str, MultiStart]:
    """Planners with restarts, the best of several random plans, and other endings, the same for all."""

    def parts(solver: AnySolver, first: int = 4) -> MultiStart:
        return MultiStart(solver, restarts=4, candidates=8, refresh=0, resample=TailResample(8, first, every=8))

    def opened(**changes: Any) -> MultiStart:
        solver = Alternate(opening(**changes), GradientDescent(), (TURN[0], 100_000))
        return parts(solver, first=TURN[0] + 4)

    return {
        "lifted first, then gradient descent": opened(),
        "the same, gradients into the state input": opened(stop_gradient=False),
        "the same, no noise": opened(noise=0.0),
        "GRASP.large_latent()": GRASP.large_latent(),
        "gradient descent": parts(GradientDescent()),
        "gradient descent, no other endings": replace(parts(GradientDescent()), resample=None),
        "L-BFGS": parts(LBFGS()),
        "LatCo": parts(LatCo()),
        "GRASP()": replace(GRASP(), select=None),
        "CEM": sampling(CEM(correlation=0.9)),
        "iCEM": sampling(ICEM()),
        "MPPI": sampling(MPPI()),
        "prior": Prior(),
    }


def in_closed_loop(iterations: int) -> dict[str, MultiStart]:
    """Planners for an agent, which begin from the plans of the step before; parts as in `with_parts`.

    Gauss-Newton is left out: in 128 numbers one iteration takes longer than all the others' decisions.
    """
    usual = GRASP.large_latent()

    def instead(solver: AnySolver) -> MultiStart:
        return replace(usual, solver=solver)

    def lifting(steps: tuple[int, int] = (8, 1), **changes: Any) -> MultiStart:
        return instead(Alternate(GradientDescent(), Lifted(init_states="rollout", **changes), steps))

    return {
        "GRASP.large_latent()": usual,
        "the same, gradients into the state input": lifting(stop_gradient=False),
        "the same, no noise": lifting(noise=0.0),
        "the same, no goal shaping": lifting(goal_weight=0.0),
        "the same, four lifted iterations to four gradient steps": lifting((4, 4)),
        "lifted iterations first, a third of all": instead(
            Alternate(opening(), GradientDescent(), (max(1, iterations // 3), 100_000))
        ),
        "gradient descent, no lifted phase": instead(GradientDescent()),
        "L-BFGS": instead(LBFGS()),
        "LatCo": instead(LatCo()),
        "CEM": sampling(CEM(correlation=0.9)),
        "iCEM": sampling(ICEM()),
        "MPPI": sampling(MPPI()),
    }


class Goals:
    """Episodes of one environment, each with its goal.

    Args:
        model: who predicts.
        name: of the model.
        seeds: of the episodes.
        straight: judge plans by the straight distance of latents, whatever the model can tell.
    """

    def __init__(self, model: WorldModel, name: str, seeds: Sequence[int], straight: bool = False) -> None:
        self.env_id, steps, self.arguments, endless = next(world for key, world in WORLDS.items() if key in name)
        self.model, self.seeds, self.horizon = model, list(seeds), max(1, round(steps / model.action_block))
        self.look_ahead = max(1, round((look_ahead_of(model) or steps) / model.action_block))
        straight_distance = GoalDistance(weights=distance_weights_of(model))
        self.objective = straight_distance if straight else default_objective(model)
        self.env = self.make(**endless)
        seen = [self.env.reset(seed=seed)[0] for seed in self.seeds]
        self.observations = {key: np.stack([one[key] for one in seen]) for key in ("pixels", "goal")}

    def make(self, **arguments: Any) -> gym.Env[Any, Any]:
        return gym.make(self.env_id, obs_type="pixels", resolution=64, **self.arguments, **arguments)

    def problem(self, proposals: bool = False, horizon: int | None = None) -> Problem:
        counting = CountingModel(self.model, proposals)
        agent = GRASPAgent(counting, self.env.action_space, objective=self.objective)
        return agent.problem(self.observations, horizon or self.horizon)

    def play(self, actions: Tensor) -> list[bool]:
        """Whether each episode is solved after the last of its actions [B, T, A]."""
        size = self.model.action_dim
        plans = actions.reshape(len(actions), -1, size).numpy().astype(np.float32)
        solved = []
        for seed, plan in zip(self.seeds, plans, strict=True):
            self.env.reset(seed=seed)
            for action in plan:
                *_, info = self.env.step(action)
            solved.append(bool(info["is_success"]))
        return solved

    def follow(self, planner: MultiStart, iterations: int) -> list[bool]:
        """Whether an agent with this planner reaches each goal before the environment ends the episode."""
        budget = Budget(iterations=iterations)
        model = CountingModel(self.model, proposals=False)
        agent = GRASPAgent(model, self.env.action_space, planner=planner, objective=self.objective, budget=budget)
        envs = [self.make() for _ in self.seeds]
        episodes = [Episode(index, seed, seed) for index, seed in enumerate(self.seeds)]
        policy = AgentPolicy(agent, task_for(self.env_id))
        solved = [False] * len(envs)
        for step in play(policy, envs, episodes, until=lambda info: bool(info["is_success"])):
            if step.last:
                solved[step.episode.index] = bool(step.info["is_success"])
        return solved


def seconds_of_an_iteration(planner: MultiStart, problem: Problem, rounds: int = 40, limit: float = 15.0) -> float:
    """Seconds of one iteration for one problem of the batch, by the process's own clock, the first left out.

    Args:
        planner: whose turns, and searches for other endings, are short against `rounds`.
        problem: the goals.
        rounds: iterations to measure, at most.
        limit: seconds after which no further one begins.
    """
    began = time.process_time()
    first, count = 0.0, 0
    for count, _ in enumerate(iterate(planner, problem, Budget(iterations=rounds))):
        spent = time.process_time() - began
        first = first if count > 1 else spent  # up to the end of the first iteration
        if count > 3 and spent > limit:
            break
    return (spent - first) / max(1, count - 1) / problem.batch


def compare(goals: Goals, table: str, seconds: float, out: Path, like: Path | None = None) -> dict[str, Any]:
    """Every planner of a table; what `out` holds already is not planned again.

    Args:
        goals: what to plan for.
        table: "one", "parts" or "closed".
        seconds: per plan, or per decision in closed loop.
        out: folder of the results.
        like: folder of other results, whose numbers of iterations are taken in place of `seconds`.
    """
    known: dict[str, Any] = json.loads((like / f"{table}.json").read_text()) if like else {}
    path = out / f"{table}.json"
    rows: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    make = {"one": one_plan, "parts": with_parts, "closed": in_closed_loop}[table]
    closed = table == "closed"
    missing = [] if proposes(goals.model) else ["prior"]
    if math.prod(goals.model.state_shape) > AFFORDABLE:
        missing.append("GRASP()")
    for name in make(1):
        if name in rows or name in missing:
            continue
        problem = goals.problem(name == "prior", goals.look_ahead if closed else None)
        if name in known:
            iterations = int(known[name]["iterations"])
        elif name == "prior":
            iterations = 1
        else:
            iterations = max(2, round(seconds / seconds_of_an_iteration(make(100)[name], problem)))
        planner = make(iterations)[name]
        began = time.process_time()
        plan, _ = solve(planner, problem, Budget(iterations=iterations))
        spent = time.process_time() - began
        solved = goals.follow(planner, iterations) if closed else goals.play(plan.actions)
        rows[name] = {
            "iterations": iterations,
            "seconds": round(spent / problem.batch, 3),
            "cost": round(float(plan.cost.mean()), 2),
            "solved": [int(x) for x in solved],
        }
        write_json(path, rows)
        print(f"{table}: {name}: {sum(rows[name]['solved'])} of {len(goals.seeds)}", flush=True)
    return rows


def show(title: str, rows: dict[str, Any]) -> str:
    """A table of the rows; p against the first."""
    first = next(iter(rows.values()))["solved"]
    table = Table("planner", "iterations", "s per plan", "mean cost", "solved %", "p", title=title)
    lines = [
        "| planner | iterations | s per plan | mean cost | solved % [95 % interval] | p |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        share = wilson_interval(sum(row["solved"]), len(row["solved"]))
        p = "" if row["solved"] is first else f"{mcnemar_exact(first, row['solved']):.3f}"
        solved = f"{100 * share.value:.1f} [{100 * share.low:.0f}, {100 * share.high:.0f}]"
        cells = [name, str(row["iterations"]), f"{row['seconds']:.2f}", f"{row['cost']:.1f}", solved, p]
        table.add_row(*cells)
        lines.append("| " + " | ".join(cells) + " |")
    Console(width=140).print(table)
    return "\n".join([f"## {title}", "", *lines, ""])


def reasons(goals: Goals, lengths: Sequence[int] = (1, 2, 4, 8, 16, 24)) -> dict[str, Any]:
    """What the paper argues with, measured on the states that random plans lead through."""
    problem = goals.problem()
    generator = torch.Generator().manual_seed(0)
    low, high = problem.low, problem.high
    wild = low + (high - low) * torch.rand(problem.batch, problem.horizon, len(low), generator=generator)
    with torch.no_grad():
        states = rollout(problem, wild)[:, 1:].flatten(0, 1)
    here = states.unsqueeze(1).expand(-1, problem.model.history, *states.shape[1:])
    resting = torch.zeros(len(states), problem.model.history, len(low))
    # Along the data: towards the nearest other state. Anywhere: a random direction of the same length.
    flat = states.flatten(1)
    apart = torch.cdist(flat, flat).fill_diagonal_(torch.inf)
    along = (flat[apart.argmin(1)] - flat).view_as(states)
    length = along.flatten(1).norm(dim=1)
    random = torch.randn(states.shape, generator=generator)
    random = random * (length / random.flatten(1).norm(dim=1)).view(-1, *[1] * (states.dim() - 1))

    def gain(change: Tensor) -> list[float]:
        moved = here.clone()
        moved[:, -1] += change
        effect = problem.model.predict(moved, resting) - problem.model.predict(here, resting)
        shares = effect.flatten(1).norm(dim=1) / length
        return [round(float(x), 3) for x in shares.quantile(torch.tensor([0.5, 0.95]))]

    with torch.no_grad():
        found: dict[str, Any] = {"gain along the data": gain(along), "gain in random directions": gain(random)}
    found["gradient in the first action, median"] = {}
    for steps in lengths:
        longer = goals.problem(horizon=steps)
        actions = torch.zeros(longer.batch, steps, len(low), requires_grad=True)
        with torch.enable_grad():
            gap = (rollout(longer, actions)[:, -1] - longer.goal).flatten(1).square().sum(1)
            (slope,) = torch.autograd.grad(gap.sum(), actions)
        found["gradient in the first action, median"][steps] = round(float(slope[:, 0].norm(dim=1).median()), 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a shipped name or a folder whose path names its world")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; what it holds is kept")
    parser.add_argument("--goals", type=int, default=200)
    parser.add_argument("--seed", type=int, default=10000, help="of the first goal")
    parser.add_argument("--seconds", type=float, default=0.3, help="per plan, or per decision of the agent")
    parser.add_argument("--as", dest="like", type=Path, help="folder of results whose numbers of iterations to take")
    parser.add_argument("--straight", action="store_true", help="judge plans by the straight distance of latents")
    parser.add_argument("--table", action="append", choices=TITLES, help="name; repeat it. Default: all")
    options = parser.parse_args()
    tables = options.table or list(TITLES)
    for name in tables:
        if options.like and not (options.like / f"{name}.json").is_file():
            parser.error(f"--as: expected a folder with {name}.json, got {options.like}; try --table or another folder")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seed, options.seed + options.goals)
    goals = Goals(load_world_model(options.model), options.model, seeds, options.straight)
    write_json(options.out / "reasons.json", reasons(goals))
    text = [show(TITLES[name], compare(goals, name, options.seconds, options.out, options.like)) for name in tables]
    (options.out / "table.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
