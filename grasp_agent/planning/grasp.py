"""GRASP as a composition: the paper's lifted iteration, a serial solver in turn with it, and restarts of both.

    GRASP.paper()         one plan, the paper's algorithm to the letter
    GRASP()               the default, for compact latents
    GRASP.large_latent()  for larger ones, where Jacobians cost too much
    GRASP.for_rewards()   for tasks without a goal
    GRASP.for_model(m)    the one of the latter three that suits a model, and what plans are judged by

Psenka et al., "Parallel Stochastic Gradient-Based Planning for World Models", arXiv 2602.00475. The lifted iteration is
in `solvers/lifted.py`. Restarts, successive halving, tail resampling and the robust choice are not the paper's; they
serve any solver (`MultiStart`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from grasp_agent.core.capabilities import needs_goal
from grasp_agent.core.types import Objective, WorldModel
from grasp_agent.planning.combine.alternate import Alternate
from grasp_agent.planning.combine.multi_start import MultiStart
from grasp_agent.planning.combine.robust_choice import RobustChoice
from grasp_agent.planning.combine.tail_resample import TailResample
from grasp_agent.planning.solvers.gauss_newton import GaussNewton
from grasp_agent.planning.solvers.gradient import GradientDescent
from grasp_agent.planning.solvers.icem import ICEM
from grasp_agent.planning.solvers.lifted import Lifted
from grasp_agent.planning.solvers.solver import AnySolver

COMPACT = 64
"""Numbers in a latent up to which Jacobians are worth their price. With 128 numbers planning by Gauss-Newton takes
twenty times as long as by gradient steps, and ends no nearer to the goal."""

WIDE = 1024
"""Numbers in a latent above which the search needs more iterations: 17 are enough in grids of 512 numbers, and too few
in one of 2,048 (docs/training_log.md)."""


@dataclass(frozen=True)
class GRASP(MultiStart):
    """Restarts of Gauss-Newton in turn with the lifted iteration; the fields are those of `MultiStart`."""

    solver: AnySolver = Alternate(GaussNewton(), Lifted(init_states="rollout"), steps=(1, 1))
    restarts: int = 4
    refresh: int = 2
    resample: TailResample | None = TailResample(8, first=1, every=2)
    select: RobustChoice | None = RobustChoice(0.1)
    iterations: int | None = 3

    @classmethod
    def for_model(cls, model: WorldModel, objective: Objective | None = None) -> Self:
        """`GRASP()` for compact latents, `large_latent` where Jacobians of the model cost too much, `for_rewards` where
        there is no goal. A wide latent gets more iterations.

        Args:
            model: who predicts.
            objective: what plans are judged by; None means the distance to a goal.
        """
        if objective is not None and not needs_goal(objective):
            return cls.for_rewards()
        numbers = math.prod(model.state_shape)
        if numbers <= COMPACT:
            return cls()
        return cls.large_latent(iterations=42 if numbers > WIDE else 17)

    @classmethod
    def large_latent(cls, iterations: int = 17) -> Self:
        """For latents whose serial iterations are costly: gradient descent in place of Gauss-Newton, several steps of
        it, and no time spent on the choice among plans.

        Args:
            iterations: of a decision, 8 of 9 of them gradient steps.
        """
        return cls(
            Alternate(GradientDescent(), Lifted(init_states="rollout"), steps=(8, 1)),
            resample=TailResample(8, first=8, every=9),
            select=None,
            iterations=iterations,
        )

    @classmethod
    def for_rewards(cls) -> Self:
        """For tasks without a goal, where plans are judged by rewards. The lifted iteration needs a goal to pull the
        last state to, so iCEM searches in its place, and gradient steps through the rollout refine what it finds."""
        return cls(
            Alternate(ICEM(), GradientDescent(), steps=(4, 2)),
            restarts=1,
            candidates=32,
            refresh=0,
            resample=None,
            select=None,
            iterations=6,
        )

    @classmethod
    def paper(cls) -> Self:
        """The paper's algorithm: one plan from zero actions and a noised line, losses that are sums in the latent's
        own unit, plain gradient descent, constant noise and goal weight, ten gradient steps through the rollout after
        every 100 iterations. Rates of plain descent depend on the latent; these suit numbers of order one."""
        lifted = Lifted(
            action_rate=0.05,
            state_rate=0.1,
            optimizer="sgd",
            goal_weight=1.0,
            noise=0.005,
            anneal=None,
            init_noise=0.005,
            state_scale=1.0,
        )
        serial = GradientDescent(rate=0.05, optimizer="sgd")
        return cls(
            Alternate(lifted, serial, steps=(100, 10)),
            restarts=1,
            candidates=0,
            refresh=0,
            resample=None,
            select=None,
            iterations=110,
        )
