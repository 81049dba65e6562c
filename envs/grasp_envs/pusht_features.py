"""Feature extractor for stable-baselines3 policies on `grasp_envs/PushTReach-v0` with state observations.

A network learns slowly from positions in the hundreds and an angle that jumps at 2 pi. Here the same state
becomes relative quantities of order one: where agent and block are from each other and from their goals, in
the arena's frame and in the block's, coarsely (over the arena) and finely (around the success tolerance).

It lives in an importable module because stable-baselines3 pickles a policy's classes into the .zip by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

REACH = 100.0
"""px that an action of 1 asks for: the scale of displacements."""
SPEED = 200.0
"""px/s, the scale of velocities."""
POSITION_TOLERANCE = 20.0
ANGLE_TOLERANCE = math.pi / 9
CENTRE = 45.0
"""px from the block's origin to its centre of gravity, which a push turns it about."""


class PushTReachFeatures(BaseFeaturesExtractor):
    """Goal-relative features [B, 40] of PushTReach's `observation`, `achieved_goal` and `desired_goal`.

    Args:
        observation_space: the environment's Dict with those three Boxes of shapes (7,), (6,) and (6,).

    Raises:
        ValueError: the space is another one.
    """

    def __init__(self, observation_space: spaces.Dict) -> None:
        shapes = {key: space.shape for key, space in getattr(observation_space, "spaces", {}).items()}
        if shapes != {"observation": (7,), "achieved_goal": (6,), "desired_goal": (6,)}:
            raise ValueError(
                "expected observation (7,), achieved_goal (6,) and desired_goal (6,), "
                f'got {shapes}, try gymnasium.make("grasp_envs/PushTReach-v0", obs_type="state").'
            )
        super().__init__(observation_space, features_dim=40)
        achieved = observation_space["achieved_goal"]
        assert isinstance(achieved, spaces.Box)
        # The agent cannot leave the arena, so its bounds are the arena's.
        self._half_arena = float(achieved.high[0] - achieved.low[0]) / 2.0

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Features [B, 40] of a batch of observations [B, ...] in px, rad and px/s."""
        achieved, desired = observations["achieved_goal"], observations["desired_goal"]
        agent, agent_goal = achieved[:, 0:2], desired[:, 0:2]
        heading, heading_goal = achieved[:, 4:6], desired[:, 4:6]
        block, block_goal = _centre(achieved), _centre(desired)
        block_error = block_goal - block

        # Displacements as seen in the arena's frame and in the block's: agent, its goal and the block's goal
        # from the block, the agent's way to go, and its velocity.
        ways = torch.stack([agent - block, agent_goal - block, block_error, agent_goal - agent], dim=1)
        velocity = observations["observation"][:, 5:7].unsqueeze(1) / SPEED
        seen = torch.cat([ways / REACH, velocity], dim=1)
        from_block = _rotate(seen, heading)
        turn = _rotate(heading_goal.unsqueeze(1), heading).squeeze(1)
        angle = torch.atan2(turn[:, 1:], turn[:, :1])
        pose_error = (desired[:, :4] - achieved[:, :4]).norm(dim=1, keepdim=True)

        parts = [
            agent / self._half_arena - 1.0,
            block / self._half_arena - 1.0,
            heading,
            heading_goal,
            turn,
            seen.flatten(1),
            from_block.flatten(1),
            _rotate((agent_goal - block_goal).unsqueeze(1) / REACH, heading_goal).squeeze(1),
            # Fine scale: how far inside or outside the success test's tolerances.
            torch.tanh(torch.cat([block_error, agent_goal - agent], dim=1) / POSITION_TOLERANCE),
            torch.tanh(angle / ANGLE_TOLERANCE),
            torch.tanh(pose_error / POSITION_TOLERANCE - 1.0),
            torch.tanh(angle.abs() / ANGLE_TOLERANCE - 1.0),
            angle,
        ]
        return torch.cat(parts, dim=1)


def _rotate(vectors: Tensor, heading: Tensor) -> Tensor:
    """`vectors` [B, K, 2] as seen in frames turned by `heading` = (cos, sin) [B, 2]."""
    x, y, cos, sin = vectors[..., 0], vectors[..., 1], heading[:, :1], heading[:, 1:]
    return torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1)


def _centre(goal: Tensor) -> Tensor:
    """The block's centre of gravity [B, 2] px of a goal vector [B, 6]."""
    return torch.stack([goal[:, 2] - CENTRE * goal[:, 5], goal[:, 3] + CENTRE * goal[:, 4]], dim=1)
