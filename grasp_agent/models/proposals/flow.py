"""Plans worth starting from: a conditional flow from noise to the actions that led from a state to a later one.

Flow matching (Lipman et al., arXiv 2210.02747) on hindsight goals. With x_1 the next actions of a recorded
trajectory, g any state that it reaches later, c the history and g, x_0 ~ N(0, I) and t ~ U(0, 1),

    x_t = (1 - t) x_0 + t x_1,      loss = || v(x_t, t, c) - (x_1 - x_0) ||^2,

and dx/dt = v(x, t, c), integrated from noise at t = 0, gives a plan at t = 1: another noise, another of the ways
to go about it. The planner judges them with the world model and improves the best, so a proposal need not be good;
it need only meet what random actions seldom meet, like walking round a block before pushing it.
"""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor, nn

from grasp_agent.models.latent.dynamics import residual_blocks

FLOW_STEPS = 6
_TIME_FEATURES = 8
_WAVES = 64


class Context(Protocol):
    """What a proposal is conditioned on."""

    size: int

    def __call__(self, states: Tensor, past_actions: Tensor, goal: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """History [N, h, D] and [N, h - 1, A] (environment units), goal [N, D] -> features [N, size] and `turn`
        [N, dim, dim], which takes an action (a row vector) to the frame that the features are seen in.

        `shown` [N, 1] is 0 where the proposal shall not look at the part of the goal that seldom matters on the way.
        """
        ...


class WindowContext:
    """The plain numbers, for latents without known structure; all of the goal is always shown."""

    def __init__(self, state_size: int, action_dim: int, action_block: int, history: int, action_scale: float) -> None:
        self.action_dim, self.action_scale = action_dim, action_scale
        self.size = (history + 2) * state_size + (history - 1) * action_dim * action_block

    def __call__(self, states: Tensor, past_actions: Tensor, goal: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        parts = [states.flatten(1), past_actions.flatten(1) / self.action_scale, goal, goal - states[:, -1]]
        return torch.cat(parts, dim=1), torch.eye(self.action_dim, device=goal.device, dtype=goal.dtype).expand(
            len(goal), -1, -1
        )


class ProposalSettings(Protocol):
    """What a model's settings say of its proposals."""

    @property
    def action_dim(self) -> int:
        """Numbers in one environment action."""
        ...

    @property
    def proposal_hidden(self) -> int:
        """Width of the network; 0 means no proposals."""
        ...

    @property
    def proposal_depth(self) -> int:
        """Its residual blocks."""
        ...

    @property
    def proposal_steps(self) -> int:
        """Environment steps of a plan."""
        ...


class PlanProposal(nn.Module):
    """The flow's velocity field, a residual MLP, and its integration.

    Args:
        context: makes the features.
        steps: environment steps of a plan.
        action_dim: numbers in one environment action.
        hidden: width.
        depth: residual blocks.
        action_scale: the action that counts as 1.
    """

    def __init__(
        self, context: Context, steps: int, action_dim: int, hidden: int, depth: int, action_scale: float
    ) -> None:
        super().__init__()
        self.context = context
        self.steps = steps
        self.action_scale = action_scale
        self.waves = nn.Linear(context.size, _WAVES)
        self.from_context = nn.Linear(context.size + _WAVES, hidden)
        self.from_plan = nn.Linear(steps * action_dim, hidden, bias=False)
        self.from_time = nn.Linear(2 * _TIME_FEATURES, hidden, bias=False)
        self.blocks = residual_blocks(hidden, depth)
        self.out = nn.Linear(hidden, steps * action_dim)
        nn.init.normal_(self.waves.weight, std=0.7)
        nn.init.zeros_(self.out.weight)

    @classmethod
    def of(cls, settings: ProposalSettings, context: Context, action_scale: float) -> Self | None:
        """What a model with these settings proposes with; None if it proposes nothing."""
        if not settings.proposal_hidden:
            return None
        steps, hidden, depth = settings.proposal_steps, settings.proposal_hidden, settings.proposal_depth
        return cls(context, steps, settings.action_dim, hidden, depth, action_scale)

    def velocity(self, plan: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """v(x_t, t, c): plan [N, steps * dim], time [N, 1], `embedded` context [N, hidden] -> [N, steps * dim]."""
        angles = time * torch.arange(1, _TIME_FEATURES + 1, device=time.device) * (torch.pi / 2)
        x = context + self.from_plan(plan) + self.from_time(torch.cat([angles.sin(), angles.cos()], dim=1))
        for block in self.blocks:
            x = x + block(x)
        result: Tensor = self.out(x)
        return result

    def embedded(self, features: Tensor) -> Tensor:
        """The context's features [N, size], ready for `velocity`, [N, hidden]."""
        result: Tensor = self.from_context(torch.cat([features, self.waves(features).sin()], dim=1))
        return result

    def loss(self, states: Tensor, past_actions: Tensor, goal: Tensor, shown: Tensor, actions: Tensor, noise: Tensor,
             time: Tensor) -> Tensor:  # fmt: skip
        """The flow-matching loss, a scalar.

        Args:
            states, past_actions, goal, shown: as for `Context`.
            actions: x_1, environment units, [N, steps, dim].
            noise: x_0, [N, steps, dim].
            time: t, [N, 1].
        """
        features, turn = self.context(states, past_actions, goal, shown)
        data = torch.bmm(actions / self.action_scale, turn).flatten(1)
        noise = noise.flatten(1)
        predicted = self.velocity((1 - time) * noise + time * data, time, self.embedded(features))
        return (predicted - (data - noise)).square().mean()

    def forward(self, states: Tensor, past_actions: Tensor, goal: Tensor, shown: Tensor, noise: Tensor) -> Tensor:
        """Plans in environment units, [N, steps, dim], from noise [N, steps, dim]; the rest as for `Context`."""
        features, turn = self.context(states, past_actions, goal, shown)
        context, plan = self.embedded(features), noise.flatten(1)
        for i in range(FLOW_STEPS):
            time = torch.full_like(plan[:, :1], i / FLOW_STEPS)
            plan = plan + self.velocity(plan, time, context) / FLOW_STEPS
        return torch.bmm(plan.view_as(noise), turn.transpose(1, 2)) * self.action_scale
