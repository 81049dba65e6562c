"""TailResample: keep the beginning of a plan and try other endings.

    t(m) = floor(T * v(m)),   v = 1/2, 1/4, 3/4, 1/8, ...     the van der Corput sequence, m = 1, 2, ...
    plan'_j = (a_0, ..., a_{t-1}, a^j_t, ..., a^j_{T-1}),     j = 1..tails, from the state that a_{0..t-1} lead to

The new endings are what the model proposes from that state or, where it makes no proposals, the old ending with smooth
noise. Only the endings are rolled out. It helps where the first half of a plan is right and the second half is stuck in
a local minimum: a restart would throw both away.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_agent.core.capabilities import proposes
from grasp_agent.core.checks import at_least, fraction
from grasp_agent.core.types import Problem
from grasp_agent.planning.action_noise import smooth_noise
from grasp_agent.planning.initial_guesses import proposed_actions
from grasp_agent.planning.plans import Plans, repeated
from grasp_agent.planning.rollout import environment_units, frozen, problem_from, rollout, rollout_cost


@dataclass(frozen=True)
class TailResample:
    """Other endings, tried now and then; each plan then goes on from its cheapest version so far.

    Attributes:
        tails: endings tried for each plan. With 0 plans only return to their cheapest version.
        first: iterations before the first time.
        every: iterations from one time to the next.
        scale: standard deviation of the noise, in half-ranges of the action.
        correlation: of the noise on an action with that an environment step later.
    """

    tails: int = 8
    first: int = 1
    every: int = 1
    scale: float = 0.5
    correlation: float = 0.9

    def __post_init__(self) -> None:
        at_least(self, 0, "tails", "scale")
        at_least(self, 1, "first", "every")
        fraction(self, "correlation")

    def turn(self, iterations: int) -> int:
        """The how manieth time it is after so many iterations; 0 if it is not time."""
        late = iterations - self.first
        return 0 if late < 0 or late % self.every else 1 + late // self.every

    @torch.no_grad()
    def improved(self, problem: Problem, plans: Plans, keys: Tensor, turn: int) -> Plans:
        """Plans [B, M], each replaced by the cheapest of its versions with another ending if that is cheaper.

        Args:
            problem: B problems.
            plans: M plans for each.
            keys: random key per row, [B].
            turn: m, from 1 on: where plans are cut.
        """
        t = int(problem.horizon * van_der_corput(turn))
        if self.tails == 0 or problem.horizon == 1:
            return plans
        b, m = plans.cost.shape
        rest = problem_from(problem, plans.actions, plans.states, t)
        keys = repeated(keys, m)
        if proposes(problem.model):
            tails = proposed_actions(rest, keys, self.tails)
        else:
            noise = smooth_noise(rest, keys, self.tails, self.correlation)
            tails = (plans.actions.flatten(0, 1)[:, None, t:] + self.scale * noise).clamp(-1, 1)
        with frozen(problem.model):
            led = rollout(rest, environment_units(rest, tails))[:, :, 1:]

        def with_head(whole: Tensor, tail: Tensor, length: int) -> Tensor:
            head = whole[:, :, :length].unsqueeze(2).expand(-1, -1, self.tails, *[-1] * (whole.ndim - 2))
            return torch.cat([head, tail.unflatten(0, (b, m))], dim=3).flatten(1, 2)

        u, states = with_head(plans.actions, tails, t), with_head(plans.states, led, t + 1)
        versions = Plans(u, states, rollout_cost(problem, u, states))
        return plans.or_cheaper(versions.cheapest_of_each(self.tails))


def van_der_corput(i: int) -> float:
    """Numbers in [0, 1) that fill it evenly: 1/2, 1/4, 3/4, 1/8, ... for i = 1, 2, 3, ..."""
    value, unit = 0.0, 0.5
    while i:
        value, unit, i = value + unit * (i & 1), unit / 2, i >> 1
    return value
