"""Small planning problems with known answers, and the analytic world models they are made of.

The linear-quadratic optima are computed here with numpy and scipy alone, by stacking the whole problem into
one bounded least-squares fit: nothing of the package takes part in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import lsq_linear
from torch import Tensor, nn

from grasp_agent.core.types import Problem
from grasp_agent.objectives.goal_distance import GoalDistance


class LinearModel(nn.Module):
    """s_{t+1} = sum_i M_i s_{t-i} + sum_i N_i a_{t-i}, i = 0..h-1; any latent shape and action block."""

    def __init__(
        self, on_states: list[np.ndarray], on_actions: list[np.ndarray], shape: tuple[int, ...], block: int
    ) -> None:
        super().__init__()
        self.state_shape, self.history, self.action_block = shape, len(on_states), block
        self.action_dim = on_actions[0].shape[1] // block
        self.on_states = nn.Parameter(torch.tensor(np.stack(on_states), dtype=torch.float64))
        self.on_actions = nn.Parameter(torch.tensor(np.stack(on_actions), dtype=torch.float64))

    def encode(self, obs: Tensor) -> Tensor:
        return obs

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        newest_first = states.flatten(2).flip(1)
        out = torch.einsum("nhd,hed->ne", newest_first, self.on_states)
        out = out + torch.einsum("nha,hea->ne", actions.flip(1), self.on_actions)
        return out.view(-1, *self.state_shape)


def integrator(block: int = 1) -> LinearModel:
    """A point in the plane moved by its action: history 1; with block k, k half-forgotten moves at a time."""
    moves = [np.eye(2) * 0.2 * 0.9 ** (block - 1 - i) for i in range(block)]
    return LinearModel([np.eye(2)], [np.hstack(moves)], (2,), block)


def double_integrator(block: int = 1) -> LinearModel:
    """Position and speed on a line, pushed by the action; history 1."""
    a, b = np.array([[1.0, 0.5], [0.0, 1.0]]), np.array([[0.0], [0.5]])
    powers = [np.linalg.matrix_power(a, block - 1 - i) @ b for i in range(block)]
    return LinearModel([np.linalg.matrix_power(a, block)], [np.hstack(powers)], (2,), block)


def coasting(block: int = 1) -> LinearModel:
    """History 3: positions in the plane; the speed is in the frames, and earlier actions still echo."""
    eye = np.eye(2)
    action = np.tile(0.15 * eye, (1, block)) / block
    on_actions = [action, 0.5 * action, -0.2 * action]
    return LinearModel([1.6 * eye, -0.5 * eye, -0.1 * eye], on_actions, (2,), block)


def patches() -> LinearModel:
    """Latent of shape (3, 2): three 'patches' that follow a 2-d action, each in its own way; history 1."""
    rng = np.random.default_rng(0)
    mix = np.eye(6) * 0.9 + 0.05 * rng.standard_normal((6, 6))
    return LinearModel([mix], [0.3 * rng.standard_normal((6, 2))], (3, 2), 1)


LINEAR: dict[str, Callable[[], LinearModel]] = {
    "integrator": integrator,
    "integrator, block 2": lambda: integrator(2),
    "double integrator": double_integrator,
    "coasting, history 3": coasting,
    "coasting, history 3, block 2": lambda: coasting(2),
    "patches": patches,
}


def linear_quadratic(
    model: LinearModel,
    batch: int = 2,
    horizon: int = 8,
    action: float = 0.05,
    running: float = 0.3,
    bound: float = 1.0,
) -> Problem:
    """Random starts, pasts and goals of order one; bounds tight enough to bind for some of them."""
    rng = np.random.default_rng(7)
    h, block = model.history, model.action_dim * model.action_block

    def draw(*shape: int) -> Tensor:
        return torch.tensor(rng.uniform(-1, 1, shape))

    start = draw(batch, 1, *model.state_shape)
    states = start + 0.05 * draw(batch, h, *model.state_shape)
    objective = GoalDistance(terminal=1.0, running=running, action=action)
    high = torch.full((block,), bound, dtype=torch.float64)
    past = 0.2 * draw(batch, h - 1, block)
    return Problem(model, objective, states, past, draw(batch, *model.state_shape), horizon, -high, high)


def linear_quadratic_optimum(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Exact optimal cost [B] and actions [B, T, A] of a `linear_quadratic` problem."""
    model, objective = problem.model, problem.objective
    assert isinstance(model, LinearModel) and isinstance(objective, GoalDistance)
    on_states, on_actions = model.on_states.detach().numpy(), model.on_actions.detach().numpy()
    steps, size, h = problem.horizon, problem.action_size, model.history

    def simulate(frames: np.ndarray, past: np.ndarray, actions: np.ndarray) -> np.ndarray:
        frames, blocks = list(frames), list(past)
        for block in actions:
            blocks.append(block)
            parts = [on_states[i] @ frames[-1 - i] + on_actions[i] @ blocks[-1 - i] for i in range(h)]
            frames.append(sum(parts))
        return np.stack(frames[h:])

    costs, plans = [], []
    for b in range(problem.batch):
        frames = problem.states[b].flatten(1).numpy()
        past, goal = problem.past_actions[b].numpy(), problem.goal[b].flatten().numpy()
        free = simulate(frames, past, np.zeros((steps, size)))
        impulses = np.eye(steps * size).reshape(-1, steps, size)
        response = np.stack([simulate(0 * frames, 0 * past, impulse).ravel() for impulse in impulses], axis=1)
        weight = np.full((steps, goal.size), (objective.running / steps) ** 0.5)
        weight[-1] = (objective.running / steps + objective.terminal) ** 0.5
        effort = np.eye(steps * size) * (objective.action / steps) ** 0.5
        matrix = np.vstack([weight.reshape(-1, 1) * response, effort])
        target = np.concatenate([(weight * (goal - free)).ravel(), np.zeros(steps * size)])
        low, high = np.tile(problem.low.numpy(), steps), np.tile(problem.high.numpy(), steps)
        fit = lsq_linear(matrix, target, bounds=(low - 1e-12, high + 1e-12), tol=1e-12)
        costs.append(2 * fit.cost)
        plans.append(fit.x.reshape(steps, size))
    return np.array(costs), np.stack(plans)


class ObstacleModel(nn.Module):
    """A point in the plane that loses its grip inside a round obstacle at the origin."""

    state_shape, history, action_dim, action_block = (2,), 1, 2, 1

    def encode(self, obs: Tensor) -> Tensor:
        return obs

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        s = states[:, -1]
        grip = 1 - 0.95 * torch.exp(-((s / 0.35).square().sum(1, keepdim=True) ** 2))
        return s + 0.2 * grip * actions[:, -1]


def obstacle(batch: int = 2, horizon: int = 16) -> Problem:
    """To the point opposite, 2.4 away: 12 full steps on a clear road, far more straight through."""
    side = torch.linspace(0.05, -0.05, batch, dtype=torch.float64)
    start = torch.stack([torch.full_like(side, -1.2), side], dim=1)
    one = torch.ones(2, dtype=torch.float64)
    past = torch.zeros(batch, 0, 2, dtype=torch.float64)
    objective = GoalDistance(running=0.1)
    return Problem(ObstacleModel(), objective, start.unsqueeze(1), past, -start, horizon, -one, one)


class PendulumModel(nn.Module):
    """A pendulum with latent (cos, sin, speed / 8): Gymnasium's Pendulum-v1 at 0.1 s a step."""

    state_shape, history, action_dim, action_block = (3,), 1, 1, 1

    def encode(self, obs: Tensor) -> Tensor:
        return obs

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        cos, sin, speed = states[:, -1].unbind(1)
        speed = 8 * speed + 0.1 * (15.0 * sin + 3.0 * actions[:, -1, 0])
        turn = 0.1 * speed
        cos, sin = cos * turn.cos() - sin * turn.sin(), sin * turn.cos() + cos * turn.sin()
        return torch.stack([cos, sin, speed / 8], dim=1)


def pendulum(batch: int = 2, horizon: int = 20) -> Problem:
    """Swing up from nearly hanging to upright and still (angle 0), torque at most 5.

    Nobody hangs exactly: there the gradient is zero but for rounding, and plans would differ between machines.
    """
    angle = torch.linspace(torch.pi - 0.1, torch.pi - 0.4, batch, dtype=torch.float64)
    start = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=1).unsqueeze(1)
    goal = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(batch, -1)
    bound = torch.tensor([5.0], dtype=torch.float64)
    past = torch.zeros(batch, 0, 1, dtype=torch.float64)
    return Problem(PendulumModel(), GoalDistance(running=0.1), start, past, goal, horizon, -bound, bound)


def at_the_goal(problem: Problem, row: int) -> Problem:
    """The problem with one row that has long been at its goal."""
    goal, states, past = problem.goal.clone(), problem.states.clone(), problem.past_actions.clone()
    goal[row], past[row] = states[row, -1], 0
    states[row] = states[row, -1:]
    return replace(problem, goal=goal, states=states, past_actions=past)


def random_plans(problem: Problem, count: int | None = None, size: float = 0.8, seed: int = 0) -> Tensor:
    """Normalised plans strictly within the bounds: [B, T, A], or [B, count, T, A]."""
    lead = (problem.batch,) if count is None else (problem.batch, count)
    shape = (*lead, problem.horizon, problem.action_size)
    generator = torch.Generator().manual_seed(seed)
    return size * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)


def advanced(problem: Problem, actions: Tensor) -> Problem:
    """The same problem one model step later, after the first block of `actions` [B, T, A] in environment units."""
    window = torch.cat([problem.past_actions, actions[:, :1]], dim=1)
    following = problem.model.predict(problem.states, window).detach()
    states = torch.cat([problem.states[:, 1:], following.unsqueeze(1)], dim=1)
    return replace(problem, states=states, past_actions=window[:, 1:])


def with_model(problem: Problem, model: object) -> Problem:
    return replace(problem, model=model)  # type: ignore[arg-type]
