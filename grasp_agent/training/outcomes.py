"""The stage that learns what steps earn, on the latents of the stages before it, which stay as they are.

    reward      mean ( r(w_{t+1}, a_t) - r_t )^2
    goes on     mean cross entropy of c(w_{t+1}) against "the episode did not end in t + 1"
    value       mean over i of huber( V_i(w_t) - y_t )
                y_t = r_t + gamma * (1 if the episode did not end, else 0) * V'(w_{t+1})

w_t are the last h latents, to s_t. V_i are several networks, V' is the least of slow copies of them (temporal
differences; Sutton, 1988). So V is the value of going on as whoever made the data did. Rewards and values are measured
in their own deviations. A time limit ends no episode: the value goes on behind it.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.core.types import WorldModel
from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.outcomes import VALUES, Outcomes, TellingOutcomes
from grasp_agent.training.dynamics import FrameWindows
from grasp_agent.training.latent import latents_of
from grasp_agent.training.loop import Batch, Losses, Stage
from grasp_agent.training.recipe import RecipeStage, Run

OUTCOMES = Stage("outcomes", steps=6_000, batch=512, learning_rate=1e-3)
"""Schedule of the stage; its batch counts steps."""

OUTCOME_HIDDEN = 128
"""Width of the networks."""

FOLLOWS = 0.01
"""Share of the way that the slow copy follows in each step."""


class OutcomesTask(FrameWindows):
    """Batches and losses of the stage.

    Args:
        model: its `outcomes` are trained.
        data: rewards, ends and actions.
        latents: of all frames, [F, *S].
        episodes: to train on.
        batch: steps per batch.

    Raises:
        ValueError: the model has no such networks, or the data no rewards.
    """

    def __init__(
        self,
        model: WorldModel,
        data: EpisodeDataset,
        latents: NDArray[np.float32],
        episodes: NDArray[np.int64],
        batch: int,
    ) -> None:
        told = model.outcomes if isinstance(model, TellingOutcomes) else None
        if told is None:
            raise ValueError("training rewards: expected a model that foresees them, got outcome_hidden = 0")
        check_rewards(data)
        assert data.rewards is not None and data.terminated is not None
        super().__init__(model, data)
        self.told = told
        self.module = nn.ModuleDict({"told": self.told, "slow": copy.deepcopy(self.told).requires_grad_(False)})
        self.block = model.action_block
        self.latents = torch.from_numpy(latents)
        ahead = np.cumsum(np.concatenate([[0.0], data.rewards.astype(np.float64)]))
        last = np.minimum(np.arange(len(data)) + self.block, len(data))
        self.rewards = torch.from_numpy((ahead[last] - ahead[:-1]).astype(np.float32))  # of a block from each frame
        self.terminated = torch.from_numpy(data.terminated)
        self.presents = data.windows(episodes, self.block + 1)
        self.batch = batch
        self.data = data

    def fit_scales(self) -> None:
        """Standardise latents, rewards and values by the task's episodes; before the first step of training."""
        returns = discounted(self.rewards.numpy(), self.data, self.told.discount, self.block)
        steps = torch.from_numpy(self.presents)
        windows = self.latents[self.numbers(steps, 1)[0][:, :-1]]
        for networks in (self.told, self.slow):
            networks.fit_scales(windows, self.rewards[steps], torch.from_numpy(returns)[steps])

    @property
    def slow(self) -> Outcomes:
        """The slow copy, part of what a checkpoint holds."""
        slow = self.module["slow"]
        assert isinstance(slow, Outcomes)
        return slow

    def draw(self, generator: np.random.Generator) -> Batch:
        present = torch.from_numpy(generator.choice(self.presents, self.batch))
        return self.steps(present)

    def steps(self, present: Tensor) -> Batch:
        """What is known of the steps from frames [B]: windows before and after [B, h, *S], actions [B, A], rewards [B]
        and whether the episode ended [B]."""
        numbers, actions = self.numbers(present, 1)
        windows = self.latents[numbers]
        return windows[:, :-1], windows[:, 1:], actions[:, -1], self.rewards[present], self.terminated[numbers[:, -1]]

    def losses(self, batch: Batch, progress: float) -> Losses:
        states, following, actions, rewards, ended = batch
        told, unit = self.told, self.told.reward_moments[1]
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), told.parameters(), strict=True):
                slow.lerp_(fast, FOLLOWS)
            worth = rewards + told.discount * torch.where(ended, 0.0, self.slow.value(following))
        scale = told.value_moments[1]
        terms = {
            "reward": functional.mse_loss(told.reward(following, actions) / unit, rewards / unit),
            "goes_on": functional.binary_cross_entropy_with_logits(told.goes_on_logit(following), (~ended).float()),
            "value": functional.huber_loss(told.values(states) / scale, (worth / scale).expand(VALUES, -1)),
        }
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def outcomes_stage(schedule: Stage) -> RecipeStage:
    """The stage as recipes declare it, on the latents of the stages before it."""

    def task(run: Run) -> OutcomesTask:
        made = OutcomesTask(run.model, run.data, latents_of(run), run.training, schedule.batch)
        made.fit_scales()
        return made

    return RecipeStage(schedule, "rewards", "steps", task)


def check_rewards(data: EpisodeDataset) -> None:
    """Raise a ValueError unless the data hold finite rewards and the ends of episodes."""
    if data.rewards is None or data.terminated is None:
        raise ValueError(f"{data.folder}: expected data with rewards, got older ones without; collect them again")
    data.check_finite("rewards", data.rewards[:, None])


def discounted(rewards: NDArray[np.float32], data: EpisodeDataset, discount: float, block: int) -> NDArray[np.float32]:
    """Returns from each frame to the end of its episode, [F], of the rewards of blocks [F]: their scale for values."""
    returns = np.zeros(len(rewards) + block, dtype=np.float64)
    last = np.repeat(data.starts + data.lengths - 1, data.lengths)
    for i in range(len(rewards) - 1, -1, -1):
        if i + block <= last[i]:
            returns[i] = rewards[i] + discount * returns[i + block]
    return returns[: len(rewards)].astype(np.float32)


def held_out_outcomes(run: Run, batch: int) -> dict[str, float]:
    """`outcome_errors` on the episodes that were held out."""
    return outcome_errors(OutcomesTask(run.model, run.data, latents_of(run), run.held_out, batch))


@torch.inference_mode()
def outcome_errors(task: OutcomesTask, steps: int = 5000, seed: int = 0) -> dict[str, float]:
    """How well outcomes are told on the task's episodes.

    Returns:
        "reward": root mean square error of a step's reward over the deviation of rewards; "value_explained": share of
        the variance of r + gamma V(s') that V(s) explains; "ends_found" and "false_ends": share of ends that are told
        with a chance above one half, and of other steps that are; ends only where there are any.
    """
    chosen = np.random.default_rng(seed).choice(task.presents, min(steps, len(task.presents)), replace=False)
    states, following, actions, rewards, ended = task.steps(torch.from_numpy(chosen))
    told = task.told
    error = (told.reward(following, actions) - rewards).square().mean().sqrt()
    worth = rewards + told.discount * torch.where(ended, 0.0, told.value(following))
    unexplained = (told.value(states) - worth).var() / worth.var().clamp(min=1e-12)
    ends = told.goes_on_logit(following) < 0
    table = {
        "reward": _rounded(error / told.reward_moments[1]),
        "value_explained": _rounded(1 - unexplained),
        "false_ends": _rounded(ends[~ended].float().mean()),
    }
    if ended.any():
        table["ends_found"] = _rounded(ends[ended].float().mean())
    return table


def _rounded(value: Tensor) -> float:
    return round(float(value), 4)
