"""What an agent has seen and done lately, and the planning problem that follows from it.

    window = (z_{t-(h-1)k}, ..., z_{t-k}, z_t)      the last h latents, k environment steps apart

At an episode's beginning the first observation stands for those before it, and rest for the actions between them. The
agent, the benchmark and the pictures pose their problems here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grasp_agent.agent.observations import Array
from grasp_agent.core.types import Objective, Problem, WorldModel


@dataclass(frozen=True)
class ActionLimits:
    """Which environment actions plans may use.

    Attributes:
        low: [action_dim].
        high: [action_dim].
        rest: the action that stands for "nothing was done", [action_dim].
    """

    low: Tensor
    high: Tensor
    rest: Tensor

    @classmethod
    def of(
        cls, low: NDArray[np.floating], high: NDArray[np.floating], largest: float | None, like: Tensor
    ) -> ActionLimits:
        """Bounds of an action space, narrowed to the largest action that a model was trained on (None: not narrowed).

        They get the dtype and device of `like`, and may take part in gradients whatever mode the caller is in.

        Raises:
            ValueError: the model was trained on none of the space's actions.
        """
        limit = np.inf if largest is None else largest
        if (low > limit).any() or (high < -limit).any():
            raise ValueError(
                f"action_space: expected bounds that reach into the world model's actions, {-limit} to {limit}, got"
                f" {low.tolist()} to {high.tolist()}; wrap the environment in gymnasium.wrappers.RescaleAction"
            )
        with torch.inference_mode(False):
            lowest, highest = (
                torch.tensor(np.clip(bound, -limit, limit), dtype=like.dtype, device=like.device)
                for bound in (low, high)
            )
            return cls(lowest, highest, torch.zeros_like(lowest).clamp(lowest, highest))


@dataclass(frozen=True)
class History:
    """The latest environment steps of B episodes.

    Attributes:
        latents: encoded observations of the last h * k + 1 environment steps, oldest first, [B, h * k + 1, *S].
        actions: environment actions between them, [B, h * k, action_dim].
        age: environment steps since the row's episode began, [B].
    """

    latents: Tensor
    actions: Tensor
    age: NDArray[np.int64]

    @classmethod
    def begin(cls, model: WorldModel, latent: Tensor, rest: Tensor) -> History:
        """B episodes that begin with `latent` [B, *S]."""
        span, batch = model.history * model.action_block, len(latent)
        return cls(
            latents=latent.unsqueeze(1).expand(batch, span + 1, *latent.shape[1:]),
            actions=rest.expand(batch, span, -1),
            age=np.zeros(batch, np.int64),
        )

    def observed(self, model: WorldModel, latent: Tensor, fresh: NDArray[np.bool_], rest: Tensor) -> History:
        """The history with the newest latents [B, *S]; rows of `fresh` [B] begin a new episode with theirs."""
        begun = History.begin(model, latent, rest)
        latents = torch.cat([self.latents[:, 1:], latent.unsqueeze(1)], dim=1)
        if not fresh.any():
            return replace(self, latents=latents)
        anew = torch.as_tensor(fresh, device=latent.device)
        return History(
            latents=torch.where(_like(anew, latents), begun.latents, latents),
            actions=torch.where(_like(anew, self.actions), begun.actions, self.actions),
            age=np.where(fresh, 0, self.age),
        )

    def executed(self, actions: Tensor) -> History:
        """The history after one more environment step with `actions` [B, action_dim]."""
        return replace(self, actions=torch.cat([self.actions[:, 1:], actions.unsqueeze(1)], dim=1), age=self.age + 1)

    def with_last_action(self, actions: Tensor) -> History:
        """The history in which the latest actions were `actions` [B, action_dim]."""
        return replace(self, actions=torch.cat([self.actions[:, :-1], actions.unsqueeze(1)], dim=1))

    def select(self, rows: Sequence[int] | NDArray[np.intp]) -> History:
        """The history of some rows."""
        index = torch.as_tensor(np.asarray(rows, np.int64), device=self.latents.device)
        return History(self.latents[index], self.actions[index], self.age[np.asarray(rows, np.int64)])

    def problem(
        self, model: WorldModel, objective: Objective, goal: Tensor, horizon: int, limits: ActionLimits
    ) -> Problem:
        """What to plan now: latents k steps apart, the actions between them regrouped in blocks.

        Args:
            model: the world model.
            objective: what plans are judged by.
            goal: encoded goals, [B, *S].
            horizon: T, model steps.
            limits: of the actions.
        """
        block = model.action_block
        return Problem(
            model=model,
            objective=objective,
            states=self.latents[:, block::block],
            past_actions=self.actions[:, block:].reshape(len(goal), model.history - 1, block * model.action_dim),
            goal=goal,
            horizon=horizon,
            low=limits.low.repeat(block),
            high=limits.high.repeat(block),
        )

    def prediction_error(self, model: WorldModel) -> tuple[Array, Array]:
        """How well the model explains the latest k environment steps.

        Returns:
            Mean squared difference between the present latent and the model's prediction of it from k steps earlier,
            and between the present latent and the one k steps earlier, [B] each; NaN in an episode's first k steps.
        """
        k = model.action_block
        known = self.age >= k
        if not known.any():
            nothing = np.full(len(known), np.nan)
            return nothing, nothing
        with torch.no_grad():
            predicted = model.predict(
                self.latents[:, :-1:k], self.actions.reshape(len(self.age), model.history, k * model.action_dim)
            )
            now = self.latents[:, -1]
            error = (predicted - now).square().flatten(1).mean(dim=1).cpu().numpy()
            change = (self.latents[:, -1 - k] - now).square().flatten(1).mean(dim=1).cpu().numpy()
        return np.where(known, error, np.nan), np.where(known, change, np.nan)


def _like(mask: Tensor, target: Tensor) -> Tensor:
    """Reshape a row mask [B] so that it broadcasts over `target` [B, ...]."""
    return mask.reshape(-1, *(1,) * (target.ndim - 1))
