"""A ball, a barrier in its way, and why a planner needs more than a slope to go down.

The straight way to the goal leads into a barrier. Whoever only ever comes closer to the goal gets stuck beneath it: no
small change of the actions brings the ball any nearer. Everybody here plans with the exact dynamics (`BallModel`, a
world model written by hand), so nothing but the planner is to blame.

Open loop: one plan of 40 steps for each episode. It is solved if it ends within 0.1 of the goal.

  gradient descent   down the slope of the cost, through the rollout
  GRASP, loud noise  one plan, the paper's lifted phase in turn with Gauss-Newton steps on the true cost. The states of
                     the plan are variables of their own (virtual states): they may cross the barrier, and noise that
                     slowly fades shakes them
  GRASP, no noise    the same without noise: is it the noise that helps?
  GRASP.paper()      the paper's algorithm with this package's settings
  GRASP()            the package's default, which tries several random plans

The film shows what gradient descent and GRASP with loud noise make of the first episode. Red dots are virtual states. A
line joins two of them where the second follows from the first up to half a step; across the barrier it never does. The
green curve is where the cheapest actions so far lead, the orange one where the present actions lead. Watch the orange
curve: noise throws it out of the trap now and then, Gauss-Newton takes it to the goal, and the cheapest is kept.

Closed loop: plan, take one step, look, plan again. `GRASPAgent` with its defaults plays beside a greedy agent (gradient
descent, one plan) and an agent that has all parts of GRASP() but the lifted phase. Here the random plans do the work.

    python examples/ball_navigation.py
    python examples/ball_navigation.py --episodes 5 --out ball.mp4 --figure paths.png

The environment is a reconstruction of the toy of the GRASP paper (arXiv 2602.00475); the numbers are not the paper's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v3 as imageio
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table
from torch import Tensor

from grasp_agent import GRASP, Budget, GaussNewton, GradientDescent, GRASPAgent, MPCAgent, MultiStart, Problem
from grasp_agent.core.types import Observation
from grasp_agent.planning import Alternate, Lifted, Search, TailResample, rollout
from grasp_agent.planning.solve import finish, iterate
from grasp_envs.ball_nav import BARRIER_HALF_HEIGHT, BARRIER_HALF_WIDTH, STEP, TOLERANCE, WORLD

ENV = "grasp_envs:grasp_envs/BallNav-v0"
HORIZON = 40
FRAMES = 60
GREEDY, NOISY, AGENT = "gradient descent", "GRASP, loud noise", "GRASPAgent"

Places = NDArray[Any]
"""x and y, or several of them, one after the other, [..., 2]."""


class BallModel:
    """The dynamics of BallNav-v0 as a world model: a latent is the ball's place.

    A step is that of `grasp_envs.ball_nav.moved`, for a batch. It has a gradient almost everywhere; what the barrier
    stops does not depend on the action. Virtual states can be inside the barrier. From there the ball starts at the
    nearest face, so that no plan gets across for free.
    """

    state_shape: tuple[int, ...] = (2,)
    history, action_dim, action_block = 1, 2, 1
    half = torch.tensor([BARRIER_HALF_WIDTH, BARRIER_HALF_HEIGHT], dtype=torch.float64)

    def encode(self, obs: Observation) -> Tensor:
        """Observations [B, 2] are latents already."""
        assert isinstance(obs, Tensor)
        return obs

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        """States [N, 1, 2] and actions [N, 1, 2] -> next states [N, 2]."""
        here, move = states[:, -1], STEP * actions[:, -1]
        half = self.half.to(here)
        with torch.no_grad():
            face = torch.copysign(half, here)
            depth = half - here.abs()
            pushed = (depth.amin(1, keepdim=True) > 0) & (depth <= depth.flip(1))
            start = torch.where(pushed, face, here)
            # When the motion passes the two faces across each axis, in shares of the motion.
            one, other = (-half - start) / move, (half - start) / move
            enter, leave = torch.minimum(one, other), torch.maximum(one, other)
            enter_x, enter_y = enter.unbind(1)
            first, last = torch.maximum(enter_x, enter_y), leave.amin(1).clamp(max=1)
            meets = (first >= 0) & (first < last)
            by_x = enter_x > enter_y
            stopped = torch.stack([meets & by_x, meets & ~by_x], dim=1)
        return torch.where(stopped, face, torch.where(pushed, face, here) + move).clamp(-WORLD, WORLD)


def one_noisy_plan(noise: float, iterations: int) -> MultiStart:
    """GRASP without restarts: noise on the virtual states is all that can get it out of a local minimum.

    The noise fades until five sixths of the iterations are over. Every turn of the lifted phase begins from the
    cheapest plan so far, its states bent so that they would end at the goal.
    """
    turn = (40, 8)  # lifted iterations, then Gauss-Newton steps
    lifted = Lifted(
        action_rate=1.0,
        state_rate=0.1,
        optimizer="sgd",
        goal_weight=2.0,
        noise=noise,
        anneal=max(iterations * 5 // 6, 1),
        init_states="bent",
        init_noise=0.005,
        state_scale=1.0,
    )
    to_the_cheapest = TailResample(0, first=sum(turn), every=sum(turn))
    return MultiStart(Alternate(lifted, GaussNewton(), turn), restarts=1, candidates=0, resample=to_the_cheapest)


def greedy() -> MultiStart:
    """Plain gradient descent on one plan, from zero actions."""
    return MultiStart(GradientDescent(rate=0.5, optimizer="sgd"), restarts=1, candidates=0)


# ---------------------------------------------------------------------- open loop


@dataclass(frozen=True)
class LiftedMoment:
    """The lifted phase of one plan.

    Attributes:
        states: virtual states between start and goal, [T + 1, 2].
        gaps: distance from each of them to what the model predicts from the one before, [T].
        leads: where the actions that belong to them really lead, [T + 1, 2].
    """

    states: Places
    gaps: NDArray[np.float64]
    leads: Places


@dataclass(frozen=True)
class Moment:
    """What a planner knows of the first problem after some iterations.

    Attributes:
        iteration: how many.
        cost: true cost of the cheapest actions so far.
        best: where these actions lead, [T + 1, 2].
        lifted: the lifted phase; None for planners without any.
    """

    iteration: int
    cost: float
    best: Places
    lifted: LiftedMoment | None


def plan_once(planner: MultiStart, problem: Problem, iterations: int) -> tuple[Tensor, list[Moment]]:
    """Plan for a batch -> where the plans end [B, 2], and about `FRAMES` moments of the first row's planning."""
    moments, every = [], -(-iterations // FRAMES)
    for progress in iterate(planner, problem, Budget(iterations=iterations)):
        if progress.iteration % every == 0:
            moments.append(moment_of(planner, problem, progress.search, progress.iteration))
    plan, _ = finish(planner, problem, progress.search)
    return plan.states[:, -1], moments


def moment_of(planner: MultiStart, problem: Problem, search: Search, iteration: int) -> Moment:
    """What there is to see in the first row of a search."""
    best = search.best.states[0, 0].numpy()
    return Moment(iteration, float(search.cost[0]), best, lifted_moment(planner, problem, search))


def lifted_moment(planner: MultiStart, problem: Problem, search: Search) -> LiftedMoment | None:
    """The virtual states of the first row's cheapest restart, if there are any."""
    virtual = planner.virtual_states(problem, search)
    if virtual is None:
        return None
    restart = search.kept.cost.argmin(dim=1)
    actions, states = (x[torch.arange(problem.batch), restart].detach() for x in virtual)
    gaps = (2 * planner.defects(problem, search, restart)[0]).sqrt()  # a defect is the mean over the two coordinates
    return LiftedMoment(states[0].numpy(), gaps.numpy(), rollout(problem, actions)[0].numpy())


def starting_problems(model: BallModel, seeds: Sequence[int]) -> Problem:
    """What the first observations of these episodes ask for."""
    env = gym.make(ENV)
    observations = [env.reset(seed=seed)[0] for seed in seeds]
    agent = GRASPAgent(model, env.action_space)
    return agent.problem(stacked(observations), HORIZON)


def stacked(observations: Sequence[dict[str, Any]]) -> dict[str, NDArray[np.float64]]:
    return {key: np.stack([o[key] for o in observations]) for key in ("observation", "desired_goal")}


# ---------------------------------------------------------------------- closed loop


@dataclass(frozen=True)
class Played:
    """Episodes of one agent.

    Attributes:
        paths: where the ball was, one for each episode.
        solved: whether each reached its goal.
        goals: of each episode, [episodes, 2].
        milliseconds: for a decision; all episodes are planned for side by side.
    """

    paths: list[Places]
    solved: list[bool]
    goals: NDArray[np.float64]
    milliseconds: float

    @property
    def mean_steps(self) -> float:
        """Steps until the goal, or until the episode's end."""
        return float(np.mean([len(path) - 1 for path in self.paths]))


def play(agent: MPCAgent, seeds: Sequence[int]) -> Played:
    """Play one episode per seed, each until its goal is reached or its time is up."""
    envs = [gym.make(ENV) for _ in seeds]
    begun = [env.reset(seed=seed) for env, seed in zip(envs, seeds, strict=True)]
    observations = [observation for observation, _ in begun]
    paths, solved = [[info["state"]] for _, info in begun], [False] * len(envs)
    rows, state, seconds, decisions = list(range(len(envs))), None, 0.0, 0
    while rows:
        started = time.perf_counter()
        actions, state = agent.predict(stacked([observations[row] for row in rows]), state)
        seconds, decisions = seconds + time.perf_counter() - started, decisions + len(rows)
        going = []
        for place, (row, action) in enumerate(zip(rows, actions, strict=True)):
            observations[row], _, _, truncated, info = envs[row].step(action)
            paths[row].append(info["state"])
            solved[row] = info["is_success"]
            if not (solved[row] or truncated):
                going.append(place)
        state, rows = state.select(going), [rows[place] for place in going]
    goals = np.array([info["goal_state"] for _, info in begun])
    return Played([np.array(path) for path in paths], solved, goals, 1000 * seconds / decisions)


# ---------------------------------------------------------------------- pictures

GREY, PALE, BLUE, GREEN, ORANGE, RED = "#778899", "#a0bef5", "#4169e1", "#187a3c", "#e8a35c", "#b03060"


class Panel:
    """A square picture of the world, drawn at twice its size: Pillow has no smooth edges."""

    side, band = 400, 32

    def __init__(self) -> None:
        self._image = Image.new("RGB", (2 * self.side, 2 * (self.side + self.band)), "white")
        self._draw = ImageDraw.Draw(self._image)
        corners = np.array([[-BARRIER_HALF_WIDTH, BARRIER_HALF_HEIGHT], [BARRIER_HALF_WIDTH, -BARRIER_HALF_HEIGHT]])
        self._draw.rectangle(self._pixels(corners), fill=GREY)

    def disk(self, place: Places, radius: float, colour: str) -> None:
        """A disk; the radius in units of the world."""
        around = np.array([[place[0] - radius, place[1] + radius], [place[0] + radius, place[1] - radius]])
        self._draw.ellipse(self._pixels(around), fill=colour)

    def line(self, path: Places, width: int, colour: str) -> None:
        """A line through the places of a path."""
        self._draw.line(self._pixels(path), fill=colour, width=2 * width, joint="curve")

    def titled(self, title: str) -> NDArray[np.uint8]:
        """The picture with its title, [432, 400, 3]."""
        width, top = 2 * self.side, 2 * self.band
        self._draw.rectangle((0, 0, width, top), fill="white")  # virtual states may be outside of the world
        self._draw.rectangle((2, top, width - 3, width + top - 3), outline="black", width=2)
        self._draw.text((width / 2, top / 2), title, fill="black", font=ImageFont.load_default(size=28), anchor="mm")
        return np.asarray(self._image.resize((self.side, self.side + self.band), Image.Resampling.BOX))

    def _pixels(self, path: Places) -> list[tuple[float, float]]:
        scale = self.side / WORLD
        return [(scale * (WORLD + x), scale * (WORLD - y) + 2 * self.band) for x, y in path.tolist()]


def film_panel(name: str, moment: Moment, goal: Places) -> NDArray[np.uint8]:
    """One planner at one moment."""
    panel = Panel()
    panel.disk(goal, TOLERANCE, PALE)
    if moment.lifted is not None:
        panel.line(moment.lifted.leads, 1, ORANGE)
        for state in moment.lifted.states:
            panel.disk(state, 0.014, RED)
        for index in np.flatnonzero(moment.lifted.gaps < STEP / 2):
            panel.line(moment.lifted.states[index : index + 2], 1, RED)
    panel.line(moment.best, 3, GREEN)
    panel.disk(moment.best[0], 0.03, BLUE)
    return panel.titled(f"{name}: iteration {moment.iteration}, cost {moment.cost:.3f}")


def save_film(panels: dict[str, list[Moment]], goal: Places, out: Path) -> None:
    """Write a .gif or .mp4 with the planners side by side; who has fewer moments waits with its last one."""
    frames = []
    for index in range(max(map(len, panels.values()))):
        shown = {name: moments[min(index, len(moments) - 1)] for name, moments in panels.items()}
        frames.append(np.hstack([film_panel(name, moment, goal) for name, moment in shown.items()]))
    frames += 20 * frames[-1:]
    timing: dict[str, Any] = {"fps": 10} if out.suffix == ".mp4" else {"duration": 100, "loop": 0}
    imageio.imwrite(out, np.stack(frames), **timing)


def save_paths(played: dict[str, Played], out: Path) -> None:
    """Draw where the balls went in closed loop, a panel per agent; a big dot marks where one is stuck."""
    panels = []
    for name, episodes in played.items():
        panel = Panel()
        for goal in episodes.goals:
            panel.disk(goal, 0.03, PALE)
        for path, solved in zip(episodes.paths, episodes.solved, strict=True):
            panel.line(path, 1, GREEN if solved else RED)
            panel.disk(path[0], 0.02, BLUE)
            if not solved:
                panel.disk(path[-1], 0.03, RED)
        title = f"{name}: {sum(episodes.solved)} of {len(episodes.solved)} reach their goal"
        panels.append(panel.titled(title))
    imageio.imwrite(out, np.hstack(panels))


# ---------------------------------------------------------------------- the whole


def film_path(text: str) -> Path:
    """The argument of --out."""
    path = Path(text)
    if path.suffix not in (".gif", ".mp4"):
        raise argparse.ArgumentTypeError(f"expected a path ending in .gif or .mp4, got {text}")
    return path


def at_least_one(text: str) -> int:
    """The argument of --episodes and --iterations."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return int(text)


def main() -> None:
    """Parse the arguments, plan, film, play."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="the first episode, which the film is about (default 0)")
    parser.add_argument("--episodes", type=at_least_one, default=20, help="episodes in both tables (default 20)")
    iterations = "of the two planners that differ by their noise; the others' follow from it (default 600)"
    parser.add_argument("--iterations", type=at_least_one, default=600, help=iterations)
    parser.add_argument("--out", type=film_path, default="ball_navigation.gif", help="the film, .gif or .mp4")
    parser.add_argument("--figure", type=Path, help="a picture of the paths in closed loop, such as paths.png")
    args = parser.parse_args()
    torch.set_num_threads(1)  # the tensors are tiny
    model, console = BallModel(), Console()
    seeds = range(args.seed, args.seed + args.episodes)

    panels, problem = open_loop(model, seeds, args.iterations, console)
    save_film({name: panels[name] for name in (GREEDY, NOISY)}, problem.goal[0].numpy(), args.out)
    console.print(f"wrote {args.out}")
    played = closed_loop(model, seeds, console)
    if args.figure is not None:
        save_paths({name: played[name] for name in (GREEDY, AGENT)}, args.figure)
        console.print(f"wrote {args.figure}")


def open_loop(
    model: BallModel, seeds: Sequence[int], iterations: int, console: Console
) -> tuple[dict[str, list[Moment]], Problem]:
    """Let every planner plan once for each episode, and print how that went."""
    planners = {
        GREEDY: (greedy(), iterations // 6),
        NOISY: (one_noisy_plan(0.2, iterations), iterations),
        "GRASP, no noise": (one_noisy_plan(0.0, iterations), iterations),
        "GRASP.paper()": (GRASP.paper(), iterations // 2),
        "GRASP()": (GRASP(), iterations // 20),
    }
    problem = starting_problems(model, seeds)
    columns = ("planner", "iterations", "past the barrier", "solved", "seconds")
    table = Table(*columns, title=f"one plan of {HORIZON} steps")
    moments = {}
    for name, (planner, count) in planners.items():
        started = time.perf_counter()
        ends, moments[name] = plan_once(planner, problem, max(count, 1))
        solved, past = (ends - problem.goal).norm(dim=1) < TOLERANCE, ends[:, 1] >= BARRIER_HALF_HEIGHT
        counts = [f"{int(x.sum())} of {len(seeds)}" for x in (past, solved)]
        table.add_row(name, str(max(count, 1)), *counts, f"{time.perf_counter() - started:.1f}")
    console.print(table)
    return moments, problem


def agents_for(model: BallModel) -> dict[str, MPCAgent]:
    """Who plays; each has three iterations for a decision, which is what `GRASPAgent` has by default."""
    actions = gym.make(ENV).action_space
    return {
        GREEDY: MPCAgent(model, actions, greedy(), budget=Budget(iterations=3)),
        AGENT: GRASPAgent(model, actions),
        "no lifted phase": MPCAgent(model, actions, replace(GRASP(), solver=GaussNewton())),
    }


def closed_loop(model: BallModel, seeds: Sequence[int], console: Console) -> dict[str, Played]:
    """Let every agent play all episodes, and print how that went."""
    table = Table("agent", "solved", "mean steps", "ms per decision", title="closed loop, all episodes side by side")
    played = {}
    for name, agent in agents_for(model).items():
        played[name] = play(agent, seeds)
        solved, steps = f"{sum(played[name].solved)} of {len(seeds)}", f"{played[name].mean_steps:.1f}"
        table.add_row(name, solved, steps, f"{played[name].milliseconds:.1f}")
    console.print(table)
    return played


if __name__ == "__main__":
    main()
