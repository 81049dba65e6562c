"""Random action sequences whose numbers hang together over time."""

from __future__ import annotations

import torch
from torch import Tensor

from grasp_agent.core.rng import normal
from grasp_agent.core.types import Problem


def smooth_noise(problem: Problem, keys: Tensor, count: int, correlation: float) -> Tensor:
    """Gaussian action sequences of unit variance, [B, count, T, A].

    A number of the action correlates with itself i environment steps later by correlation^i (a stationary
    AR(1) process): white noise mostly cancels itself out, a sequence that keeps its direction for a while
    gets somewhere.
    """
    k, dim = problem.model.action_block, problem.model.action_dim
    steps = problem.horizon * k
    white = normal(keys, (count, steps, dim), problem.goal.dtype)
    if correlation == 0:
        return white.view(problem.batch, count, problem.horizon, k * dim)
    lag = torch.arange(steps, device=white.device)
    lag = (lag[:, None] - lag[None, :]).to(white.dtype)
    memory = torch.pow(correlation, lag).tril()
    memory[:, 1:] *= (1 - correlation**2) ** 0.5  # but the first number has full variance: stationary at once
    return (memory @ white).view(problem.batch, count, problem.horizon, k * dim)


def coloured_noise(problem: Problem, keys: Tensor, count: int, exponent: float) -> Tensor:
    """Gaussian action sequences of unit variance with a power-law spectrum, [B, count, T, A].

    The power of frequency f, over the environment steps of the flat sequence, is proportional to 1 / f^exponent:
    0 is white noise, 2 like a random walk. The mean, f = 0, has the power of the lowest frequency.
    """
    k, dim = problem.model.action_block, problem.model.action_dim
    steps = problem.horizon * k
    white = normal(keys, (count, steps, dim), problem.goal.dtype)
    index = torch.arange(steps, device=white.device)
    frequency = torch.minimum(index, steps - index).clamp(min=1).to(white.dtype)
    gain = frequency.pow(-exponent / 2)
    gain = gain / gain.square().mean().sqrt()  # over both halves of the spectrum: unit variance
    response = torch.fft.irfft(gain[: steps // 2 + 1].to(gain.dtype.to_complex()), n=steps)
    coloured: Tensor = response[(index[:, None] - index[None, :]) % steps] @ white  # a circular convolution along time
    return coloured.view(problem.batch, count, problem.horizon, k * dim)
