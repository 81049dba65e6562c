"""What GRASP knows of its problems, and of which restarts: the first ones take part, the others wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from grasp_agent.core.rows import map_rows, take
from grasp_agent.planning.solve import Best
from grasp_agent.planning.solvers.descent import Moments


@dataclass(frozen=True)
class GRASPState:
    """Attributes:
    keys: random key per row, [B].
    iteration: iterations since `init` or `shift`, [B], on the CPU.
    scored: whether every restart stands at a plan whose cost is known, [B], on the CPU.
    actions: u, normalised, [B, R, T, A].
    states: virtual states s_1..s_{T-1}, [B, R, T - 1, *S].
    scale: the unit of the states, [B].
    action_moments: the optimiser's memory of u in lifted iterations.
    state_moments: the optimiser's memory of s.
    sync: the serial planner's state, with every leaf [B, R, ...].
    kept: cheapest plan of each restart since it began, [B, R, T, A].
    kept_states: its rollout, [B, R, T + 1, *S].
    cost: its true rollout cost, [B, R]; infinite before it is scored.
    best: best plan scored so far.
    """

    keys: Tensor
    iteration: Tensor
    scored: Tensor
    actions: Tensor
    states: Tensor
    scale: Tensor
    action_moments: Moments
    state_moments: Moments
    sync: Any
    kept: Tensor
    kept_states: Tensor
    cost: Tensor
    best: Best


def _of_restarts(change: Callable[..., Tensor], state: GRASPState, *others: GRASPState) -> GRASPState:
    """The state, with every leaf [B, R, ...] changed."""
    changed: dict[str, Any] = {}
    for name in ("actions", "states", "action_moments", "state_moments", "sync", "kept", "kept_states", "cost"):
        parts = [getattr(each, name) for each in (state, *others)]
        if isinstance(parts[0], Moments):
            moments = {m: change(*(getattr(part, m) for part in parts)) for m in ("first", "second")}
            changed[name] = replace(parts[0], **moments)
        else:
            changed[name] = map_rows(change, *parts)
    return replace(state, **changed)


def first_restarts(state: GRASPState, width: int) -> GRASPState:
    """The state of the first `width` restarts."""
    return state if width == state.cost.shape[1] else _of_restarts(lambda x: x[:, :width], state)


def with_the_others(active: GRASPState, state: GRASPState) -> GRASPState:
    """The first restarts as in `active`, the rest as in `state`."""
    width = active.cost.shape[1]
    if width == state.cost.shape[1]:
        return active
    return _of_restarts(lambda first, all_of: torch.cat([first, all_of[:, width:]], dim=1), active, state)


def cheapest_first(state: GRASPState) -> GRASPState:
    """The state with its restarts in the order of their costs."""
    order = state.cost.argsort(dim=1, stable=True)
    # leaves without numbers have no order, and those on the CPU are the same for all restarts of a row
    ordered = _of_restarts(lambda x: take(x, order) if x.shape[1] and x.device == order.device else x, state)
    place = (order == state.best.candidate.unsqueeze(1)).int().argmax(dim=1)
    candidate = torch.where(state.best.candidate < 0, state.best.candidate, place)
    return replace(ordered, best=replace(state.best, candidate=candidate))
