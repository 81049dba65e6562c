"""Notices a new episode that the agent was not told of.

An agent that takes a new episode for the old one's continuation plans from a history made of two episodes. Nobody
tells it so, but the observation jumps: farther than any change so far, and not as the world model predicted.
"""

from __future__ import annotations

import warnings

import numpy as np

from grasp_agent.agent.observations import Array

_EXPLAINED = 0.25
"""A change counts as explained if the model's error (mean square) is below this share of it."""
_JUMP = 9.0
"""A jump is this many times larger than any explained change (mean square)."""
_ENOUGH = 20
"""Explained changes that must have been seen before anything counts as a jump."""


class Continuity:
    """Compares every change of the latent with those before it, and warns once of a jump."""

    def __init__(self) -> None:
        self._explained, self._largest, self._warned = 0, 0.0, False

    def watch(self, error: Array, change: Array) -> None:
        """Look at the newest observations.

        Args:
            error: mean squared prediction error of each row, [B]; NaN where it is not known.
            change: mean squared change of the latent over the same time, [B].
        """
        known = np.isfinite(error)
        explained = known & (error < _EXPLAINED * change)
        jumped = known & ~explained & (change > _JUMP * self._largest)
        if self._explained >= _ENOUGH and jumped.any() and not self._warned:
            self._warned = True
            warnings.warn(
                "observation: expected one that follows from the one before, got a jump farther than any step so far,"
                " which the world model cannot explain; if a new episode has begun, call agent.reset(), or pass"
                " episode_start=True to predict with its first observation (with next-step autoreset that is one step"
                " after `terminated or truncated`)",
                stacklevel=3,
            )
        self._explained += int(explained.sum())
        self._largest = max(self._largest, float(change[explained].max(initial=0.0)))
