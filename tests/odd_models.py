"""World models with one peculiarity each, which planners must notice, refuse or live with."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor, nn


class Wrapped:
    """A model that does what another one does; not a module, so nobody freezes its weights."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.state_shape, self.history = inner.state_shape, inner.history
        self.action_dim, self.action_block = inner.action_dim, inner.action_block

    def encode(self, obs: Tensor) -> Tensor:
        return obs

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        predicted: Tensor = self.inner.predict(states, actions)
        return predicted


class SpyModel(Wrapped):
    """Counts its calls, keeps the batch sizes, and what gradient came back into its inputs."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.calls = 0
        self.batches: list[int] = []
        self.into_states: list[Tensor] = []
        self.into_actions: list[Tensor] = []

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        self.calls += 1
        self.batches.append(len(states))
        if states.requires_grad:
            states.register_hook(self.into_states.append)
        if actions.requires_grad:
            actions.register_hook(self.into_actions.append)
        return super().predict(states, actions)


class Proposes(Wrapped):
    """Proposes to do `around` with a little noise, and remembers what it was asked."""

    proposes = True

    def __init__(self, inner: Any, around: float = 0.25, spread: float = 0.01) -> None:
        super().__init__(inner)
        self.around, self.spread = around, spread
        self.asked = 0
        self.questions: list[tuple[Tensor, Tensor, Tensor]] = []

    def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        assert noise.shape[3] == self.action_dim and noise.shape[2] % self.action_block == 0
        self.asked += noise.shape[1]
        self.questions.append((states, past_actions, goal))
        return self.around + self.spread * noise


class Integrator(nn.Module):
    """A point in the plane moved by its action."""

    state_shape, history, action_dim, action_block = (2,), 1, 2, 1

    def encode(self, obs: Tensor) -> Tensor:
        return obs

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        return states[:, -1] + 0.2 * actions[:, -1]


class Slow(Integrator):
    """Every call takes a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.calls = seconds, 0

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        time.sleep(self.seconds)
        self.calls += 1
        return super().predict(states, actions)


class Broken(Integrator):
    """States far out lead to NaN."""

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        return torch.where(states[:, -1, :1] > 50, math.nan, super().predict(states, actions))


class Detached(Integrator):
    """Lets no gradient through."""

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        return super().predict(states, actions).detach()


class StatesOnly(Integrator):
    """Ignores the actions."""

    def __init__(self) -> None:
        super().__init__()
        self.drift = nn.Parameter(torch.tensor(0.9, dtype=torch.float64))

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        return self.drift * states[:, -1]


class ActionsOnly(Integrator):
    """Ignores the states: goes where the action says."""

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        return 0.8 * actions[:, -1]


class Forked(nn.Module):
    """Two ways to the goal at 1: by the first action, whatever noise does, or by the second, which amplifies it."""

    state_shape, history, action_dim, action_block = (1,), 1, 2, 1

    def encode(self, obs: Tensor) -> Tensor:
        return obs

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        s, (calm, bold) = states[:, -1], actions[:, -1].split(1, dim=1)
        return s + calm + bold + bold * 40 * (s - s.round(decimals=1)).abs()
