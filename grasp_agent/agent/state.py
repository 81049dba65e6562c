"""What an agent remembers between decisions, and what it tells about the latest one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from grasp_agent.agent.actions import ActionCode
from grasp_agent.agent.history import History
from grasp_agent.agent.observations import Array
from grasp_agent.core.checks import shown
from grasp_agent.core.rows import select_rows
from grasp_agent.core.types import Plan
from grasp_agent.planning.combine.multi_start import Search


@dataclass(frozen=True)
class AgentState:
    """Everything an agent remembers between decisions; hand it back to `MPCAgent.predict` unchanged.

    Attributes:
        code: how actions of the environment are told in numbers.
        history: what was seen and done lately.
        goal: encoded goals, [B, *S].
        goal_input: the goals as they were given, to notice a change, [B, ...].
        search: what the planner knows, every leaf [B, ...].
        plan: the plan being executed, one environment action per entry, [B, T * k, action_dim].
        executed: actions of that plan already executed, [B].
    """

    code: ActionCode
    history: History
    goal: Tensor
    goal_input: Array
    search: Search | None
    plan: Tensor
    executed: Array

    def select(self, rows: Sequence[int] | Array) -> AgentState:
        """The memory of some rows of the batch (indices, or a mask [B]), for when the other episodes are over.

        Raises:
            ValueError: these are neither, or there are no such rows.
        """
        try:
            kept = np.arange(len(self.executed))[list(rows)]
        except (IndexError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise ValueError(
                f"select: expected indices of {len(self.executed)} rows, or a mask of them, got {shown(rows)}"
            ) from error
        index = torch.as_tensor(kept, device=self.goal.device)
        return replace(
            self,
            history=self.history.select(kept),
            goal=self.goal[index],
            goal_input=self.goal_input[kept],
            search=select_rows(self.search, index),
            plan=self.plan[index],
            executed=self.executed[kept],
        )

    def with_last_action(self, executed: Array) -> AgentState:
        """The memory after other actions than the chosen ones were executed, as exploration noise does.

        Args:
            executed: what the environment received in place of the actions that `predict` returned, of their shape.

        Raises:
            TypeError: no numbers.
            ValueError: another number of actions, actions of another size, choices that there are not, or NaN or
                infinity.
        """
        latest = self.history.actions[:, -1]
        try:
            actions = np.asarray(executed.detach().cpu() if isinstance(executed, Tensor) else executed)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"with_last_action: expected an array of numbers, got {shown(executed)}") from error
        if actions.dtype.kind not in "fiub":
            raise TypeError(f"with_last_action: expected an array of numbers, got {shown(executed)}")
        if not np.isfinite(actions).all():
            raise ValueError("with_last_action: expected finite numbers, got NaN or infinity")
        numbers = len(self.code.choices) or self.code.size
        if actions.size != len(latest) * numbers:
            raise ValueError(
                f"with_last_action: expected {len(latest)} actions of {numbers} numbers, as predict returned them, got"
                f" shape {list(actions.shape)}"
            )
        told = torch.as_tensor(self.code.read(actions)).to(latest)
        return replace(self, history=self.history.with_last_action(told))


@dataclass(frozen=True)
class Diagnostics:
    """How the latest planning went, for the P rows of the batch that planned (all of them when `replan_every`
    is 1).

    Attributes:
        rows: which rows of the batch planned, [P].
        iterations: planner iterations spent.
        plan_cost: true rollout cost of each plan, [P].
        dynamics_residual: mean squared gap between the plan's virtual states and one-step predictions, [P].
        prediction_error: mean squared difference between the latent observed now and the model's prediction
            of it one model step (k environment steps) earlier from the actions really executed, [P]; NaN in
            an episode's first k steps.
        seconds: wall-clock time of the whole decision, encoding included.
        trusted_steps: environment steps ahead up to which the model's predictions are to be believed, as measured when
            it was trained; what the plan holds beyond is a guess. None if that is unknown.
    """

    rows: Array
    iterations: int
    plan_cost: Array
    dynamics_residual: Array
    prediction_error: Array
    seconds: float
    trusted_steps: int | None


def joined_plans(parts: Sequence[tuple[Array, Plan]]) -> tuple[Array, Plan]:
    """Join plans of different rows into one, in the order of the rows; shorter traces repeat their last value."""
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate([rows for rows, _ in parts])
    order = torch.as_tensor(np.argsort(rows))
    plans = [plan for _, plan in parts]
    longest = max(plan.cost_trace.shape[1] for plan in plans)
    traces = [
        torch.cat([t, t[:, -1:].expand(-1, longest - t.shape[1])], dim=1) for t in (plan.cost_trace for plan in plans)
    ]
    names = ("actions", "states", "cost", "status", "defects", "restarts", "restart")
    joined = {name: torch.cat([getattr(plan, name) for plan in plans])[order] for name in names}
    return np.sort(rows), Plan(
        **joined,
        cost_trace=torch.cat(traces)[order],
        iterations=max(plan.iterations for plan in plans),
        seconds=sum(plan.seconds for plan in plans),
    )
