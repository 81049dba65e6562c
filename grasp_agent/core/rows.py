"""States made of rows, frozen dataclasses whose leaves are all tensors [B, ...], and what picks and replaces rows.

Leaves live on the problem's device, but for those that decide what is launched next (how many iterations a row has
had, whether it is scored): these stay on the CPU, so that no iteration waits to read one back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

Tree = TypeVar("Tree")


def map_rows(fn: Callable[..., Tensor], tree: Tree, *others: Tree) -> Tree:
    """Apply `fn` to the corresponding tensors of equally built states (tensors, dataclasses of them, or None)."""
    if tree is None:
        return tree
    if isinstance(tree, Tensor):
        return fn(tree, *others)  # type: ignore[return-value]
    if not is_dataclass(tree) or isinstance(tree, type):
        raise TypeError(f"planner state: expected tensors and dataclasses of them, got {type(tree).__name__}")
    parts: dict[str, Any] = {
        f.name: map_rows(fn, getattr(tree, f.name), *(getattr(other, f.name) for other in others)) for f in fields(tree)
    }
    return type(tree)(**parts)


def select_rows(state: Tree, rows: Tensor) -> Tree:
    """The rows of a state that `rows` names (indices, or a mask [B])."""
    return map_rows(lambda x: x[rows.to(x.device)], state)


def replace_rows(state: Tree, rows: Tensor, fresh: Tree) -> Tree:
    """A state with the rows named by `rows` taken from `fresh`, which has just these rows."""

    def put(old: Tensor, new: Tensor) -> Tensor:
        out = old.clone()
        out[rows.to(out.device)] = new
        return out

    return map_rows(put, state, fresh)


def where_rows(mask: Tensor, yes: Tree, no: Tree) -> Tree:
    """Row by row, `yes` where mask [B] holds, else `no`."""
    return map_rows(lambda a, b: torch.where(_like(mask, a), a, b), yes, no)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Of M candidates per row those that `index` [B, N] names: [B, M, ...] -> [B, N, ...]."""
    taken: Tensor = torch.take_along_dim(x, index.view(*index.shape, *[1] * (x.ndim - 2)), dim=1)
    return taken


def repeat_rows(x: Tensor, times: int) -> Tensor:
    """Every row `times` times in a row: [B, ...] -> [B * times, ...]."""
    return x.unsqueeze(1).expand(-1, times, *x.shape[1:]).flatten(0, 1)


def _like(mask: Tensor, x: Tensor) -> Tensor:
    return mask.to(x.device).view(-1, *[1] * (x.ndim - 1))
