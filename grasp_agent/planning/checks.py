"""Checks of what planning begins with: problem, model, budget, seed, and what is known from before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from grasp_agent.core.checks import instance_of, shown, whole_number
from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget, Objective, Problem, WorldModel
from grasp_agent.planning.combine.multi_start import MultiStart, Search

LONGEST_HORIZON = 10_000
"""Model steps of the longest plan. Nobody needs as many; a slip of the pen must not ask for all memory."""
_MOST = 1_000_000
"""Of whatever a world model counts."""
_NEEDED = ("encode", "predict", "state_shape", "history", "action_dim", "action_block")
_TENSORS = ("states", "past_actions", "goal", "low", "high")
_DTYPES = (torch.float32, torch.float64)


def check_world_model(model: Any, name: str = "world_model") -> WorldModel:
    """Return `model` if it has what every world model has.

    Raises:
        TypeError: it lacks something, or has something of another kind.
        ValueError: a number of its is out of range.
    """
    missing = [needed for needed in _NEEDED if not hasattr(model, needed)]
    if missing:
        raise TypeError(
            f"{name}: expected an object with {', '.join(_NEEDED)} (see grasp_agent.WorldModel), got"
            f" {type(model).__name__} without {', '.join(missing)}; for a saved model try GRASPAgent.from_pretrained"
        )
    for number in ("history", "action_dim", "action_block"):
        value = whole_number(f"{name}.{number}", getattr(model, number), 1, _MOST)
        if not isinstance(getattr(model, number), int):  # NumPy's overflow: they hold 200, but not minus 200
            raise TypeError(
                f"{name}.{number}: expected an int of Python, got {shown(getattr(model, number))}; try {value}"
            )
    shape = model.state_shape
    if not isinstance(shape, Sequence) or isinstance(shape, str) or not shape:
        raise TypeError(f"{name}.state_shape: expected a tuple of whole numbers such as (6,), got {shown(shape)}")
    for number in shape:
        whole_number(f"{name}.state_shape", number, 1, _MOST)
    checked: WorldModel = model
    return checked


def an_objective(value: Any, name: str = "objective") -> Objective:
    """Return `value` if plans can be judged by it.

    Raises:
        TypeError: they cannot.
    """
    return instance_of(name, value, Objective, "one such as GoalDistance()")  # type: ignore[type-abstract]


def a_budget(value: Any, name: str = "budget") -> Budget:
    """Return `value` if it is a `Budget`.

    Raises:
        TypeError: it is not.
    """
    advice = "; try Budget(iterations=10) or Budget(seconds=0.1)"
    return instance_of(name, value, Budget, "a Budget or None", advice)


def check_problem(problem: Problem) -> None:
    """Say what does not fit, before a model turns it into an obscure error.

    Raises:
        TypeError: a part is of another kind.
        ValueError: a part has another shape or dtype, there are no rows, or the bounds are not finite.
    """
    instance_of("problem", problem, Problem, "a Problem")
    model = check_world_model(problem.model, "Problem.model")
    an_objective(problem.objective, "Problem.objective")
    whole_number("Problem.horizon", problem.horizon, 1, LONGEST_HORIZON, " (model steps)")
    for name in _TENSORS:
        part = instance_of(f"Problem.{name}", getattr(problem, name), Tensor, "a tensor")
        if part.dtype not in _DTYPES or part.dtype != problem.states.dtype:
            raise ValueError(
                f"Problem.{name}: expected float32 or float64 as in all other parts, got {part.dtype} beside states of"
                f" {problem.states.dtype}"
            )
    h, block, shape = model.history, model.action_dim * model.action_block, tuple(model.state_shape)
    rows = problem.states.shape[0] if problem.states.ndim else 0
    if rows == 0:
        raise ValueError(
            f"Problem.states: expected at least one row, shape {['B', h, *shape]}, got {list(problem.states.shape)}"
        )
    expected = {
        "states": (rows, h, *shape),
        "past_actions": (rows, h - 1, block),
        "goal": (rows, *shape),
        "low": (block,),
        "high": (block,),
    }
    for name, want in expected.items():
        got = tuple(getattr(problem, name).shape)
        if got != want:
            raise ValueError(
                f"Problem.{name}: expected shape {list(want)}, got {list(got)} "
                f"(history {h}, action_dim * action_block = {block}, latent shape {list(shape)})"
            )
    if not bool(((problem.high - problem.low).isfinite() & (problem.low <= problem.high)).all()):
        raise ValueError(
            f"Problem.low, Problem.high: expected finite action bounds with low <= high, "
            f"got {problem.low.tolist()} and {problem.high.tolist()}; try an action space with finite bounds"
        )


def check_search(planner: MultiStart, problem: Problem, search: Search) -> None:
    """Say why a planner cannot go on from what another planner, or it itself for another problem, has found.

    Raises:
        TypeError: it is no `Search`.
        ValueError: it was made by another planner, or for another problem.
    """
    instance_of("search", search, Search, "what begin(), shift() or solve() returned", "; try begin()")
    made_for = list(search.nothing.actions[:, 0].shape)
    wanted = [problem.batch, problem.horizon, problem.action_size]
    if made_for != wanted:
        raise ValueError(f"search: expected one for plans [B, T, A] = {wanted}, got {made_for}; try begin()")
    latents, dtype = search.kept.states[:, 0], search.nothing.actions.dtype
    if latents.shape[2:] != problem.goal.shape[1:] or dtype != problem.goal.dtype:
        raise ValueError(
            f"search: expected one for latents {list(problem.goal.shape[1:])} of {problem.goal.dtype}, got"
            f" {list(latents.shape[2:])} of {dtype}; try begin()"
        )
    restarts = search.kept.cost.shape[1]
    if restarts != planner.restarts or not planner.solver.holds(search.inner):
        raise ValueError(
            f"search: expected one of {planner.restarts} restarts of this {type(planner.solver).__name__}, got"
            f" {restarts} with a {type(search.inner).__name__} of other settings or another solver; try begin()"
        )


def keys_of(seed: int | Tensor, problem: Problem) -> Tensor:
    """Random keys [B]: those given, or those of a whole number.

    Raises:
        TypeError: neither a tensor nor a whole number.
        ValueError: a tensor of another shape or dtype.
    """
    if not isinstance(seed, Tensor):
        return make_keys(whole_number("seed", seed), problem.batch, problem.goal.device)
    if seed.shape != (problem.batch,) or seed.dtype != torch.int64:
        raise ValueError(
            f"seed: expected a whole number, or int64 keys of shape [{problem.batch}], got {seed.dtype} of shape"
            f" {list(seed.shape)}"
        )
    return seed
