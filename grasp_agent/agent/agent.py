"""A world model and a planner as a closed-loop Gymnasium agent (receding-horizon control).

Each decision: encode the newest observation, look back over the last h latents k environment steps apart,
move the previous plan on by the time that has passed, improve it within a budget, execute its first action.

    z_t = encode(o_t),   window = (z_{t-(h-1)k}, ..., z_{t-k}, z_t)
    plan = argmin_a cost(rollout(window, a), encode(goal))

All memory lives in an `AgentState` whose leaves are [B, ...], so `predict` is a function of what it is given
and rows of a batch can start, finish and replan independently. The agent reads observations only: never the
environment's `info`, its simulator state or its success flag.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from grasp_agent.agent.actions import ActionCode
from grasp_agent.agent.choosing import ChoosingModel
from grasp_agent.agent.continuity import Continuity
from grasp_agent.agent.history import ActionLimits, History
from grasp_agent.agent.model import made_ready
from grasp_agent.agent.observations import AnyObservation, Array, ObservationReader, read_flags
from grasp_agent.agent.state import AgentState, Diagnostics, joined_plans
from grasp_agent.core.capabilities import (
    action_limit_of,
    image_size_of,
    look_ahead_of,
    needs_goal,
    proprio_dim_of,
    trusted_steps_of,
)
from grasp_agent.core.checks import usable_device, whole_number
from grasp_agent.core.rows import replace_rows, select_rows
from grasp_agent.core.types import Budget, Objective, Plan, Problem, WorldModel
from grasp_agent.models import load_world_model
from grasp_agent.objectives.goal_distance import default_objective
from grasp_agent.planning.checks import LONGEST_HORIZON, a_budget, an_objective, check_world_model
from grasp_agent.planning.combine.multi_start import MultiStart, Search
from grasp_agent.planning.grasp import GRASP
from grasp_agent.planning.solve import as_planner, begin, shift, solve
from grasp_agent.planning.solvers.solver import AnySolver

DEFAULT_LOOK_AHEAD = 25
"""Environment steps a plan spans unless a horizon is given or the model knows better."""


class MPCAgent:
    """Closed-loop agent: plan with a world model, execute, observe, plan again.

    `predict` is stable-baselines3's policy contract, so the agent runs in `evaluate_policy` and in vector
    environments as it is; `reset` and `act` are a thin stateful shell over it for a plain Gymnasium loop. An
    episode's actions follow from the seed and the episode alone, whatever else is in the batch and whichever
    episodes came before.

    Args:
        world_model: what predicts. A torch module is put in evaluation mode (and moved to `device` if one is
            given).
        action_space: the environment's action space, or a smaller box inside it: a bounded `Box` of any shape whose
            size is the model's `action_dim`, or a `Discrete`, `MultiDiscrete` or `MultiBinary` for a model that takes
            one number for each way of each choice. Plans also keep to the model's `action_limit`, if it has one: beyond
            the actions it was trained on, a model is guessing.
        planner: what searches, e.g. `GRASP()`, `MultiStart(LBFGS())` or a bare solver such as `CEM()`, which improves
            one plan.
        objective: what a plan is judged by; None means `default_objective(world_model)`.
        horizon: T, model steps to look ahead; None means as many as it takes to span the environment steps that the
            model names (`look_ahead`), or 25.
        budget: when to stop planning, per decision; None means the planner's `decision_iterations`. A budget
            in seconds makes actions depend on the machine's speed.
        first_budget: the same for an episode's first decision, which has no earlier plan to begin from; None
            means `budget`.
        replan_every: actions of a plan that are executed before the next plan is made.
        device: where to plan; None means where the model is.
        seed: what the planner's randomness is drawn from.

    Attributes:
        last_plan: the latest `Plan`, one row for each of `diagnostics.rows`; None before the first decision.
        diagnostics: the latest `Diagnostics`; None before the first decision.

    Raises:
        TypeError: the action space is of another kind, or an argument is of the wrong kind.
        ValueError: the action space has infinite bounds or another size than the model's actions, or an argument is
            out of range.
    """

    def __init__(
        self,
        world_model: WorldModel,
        action_space: spaces.Space[Any],
        planner: MultiStart | AnySolver,
        *,
        objective: Objective | None = None,
        horizon: int | None = None,
        budget: Budget | None = None,
        first_budget: Budget | None = None,
        replan_every: int = 1,
        device: torch.device | str | None = None,
        seed: int = 0,
    ) -> None:
        block = check_world_model(world_model).action_block
        if horizon is None:
            horizon = max(1, round((look_ahead_of(world_model) or DEFAULT_LOOK_AHEAD) / block))
        self.horizon = whole_number("horizon", horizon, 1, LONGEST_HORIZON, " (model steps to look ahead)")
        self.replan_every = whole_number(
            "replan_every", replan_every, 1, self.horizon * block, " (the actions in a plan, horizon x action block)"
        )
        self.seed = whole_number("seed", seed)
        self.objective: Objective = default_objective(world_model) if objective is None else an_objective(objective)
        self.planner = as_planner(planner)
        self.budget = Budget(iterations=self.planner.decision_iterations) if budget is None else a_budget(budget)
        self.first_budget = self.budget if first_budget is None else a_budget(first_budget, "first_budget")
        self._code = ActionCode.for_model(action_space, world_model)
        self._code.check_size(world_model.action_dim)
        self.action_space = self._code.space
        self._reader = ObservationReader(
            image_size_of(world_model), needs_goal(self.objective), proprio_dim_of(world_model)
        )
        like = made_ready(world_model, usable_device(device))
        self._limits = ActionLimits.of(self._code.low, self._code.high, action_limit_of(world_model), like)
        self.device, self.dtype = like.device, like.dtype
        self.world_model = world_model
        self._planned_with = ChoosingModel(world_model, self._code.choices) if self._code.choices else world_model
        self.last_plan: Plan | None = None
        self.diagnostics: Diagnostics | None = None

        self._continuity = Continuity()
        self._given_goal: Array | None = None
        self._state: AgentState | None = None

    @classmethod
    def from_pretrained(cls, name: str | Path, action_space: spaces.Space[Any], **options: Any) -> Self:
        """Make an agent around a saved world model.

        Args:
            name: what `load_world_model` accepts: a shipped model's name, a folder or a hub id.
            action_space: as for the class.
            options: the other arguments of the class.

        Raises:
            ValueError, FileNotFoundError, ImportError: as `load_world_model`.
        """
        return cls(load_world_model(name), action_space, **options)

    def reset(self, goal: Array | None = None, seed: int | None = None) -> None:
        """Forget the episode that `act` was in, and set the goal.

        Args:
            goal: what to reach, in the form of one observation (or of a batch); it takes precedence over a
                goal in the observations. None means that the observations bring it.
            seed: a new seed; None keeps the present one.

        Raises:
            TypeError, ValueError: a goal that is no observation, or a seed that is no whole number.
        """
        seed = self.seed if seed is None else whole_number("seed", seed)
        self._given_goal = None if goal is None else np.array(self._reader.read_goal("goal", goal))  # a copy
        self._state = None
        self.seed = seed

    def act(self, observation: AnyObservation) -> Array:
        """Return the action for the next observation of the episode that `reset` began; else as `predict`."""
        action, self._state = self.predict(observation, self._state)
        return action

    def predict(
        self,
        observation: AnyObservation,
        state: AgentState | None = None,
        episode_start: Array | bool | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, AgentState]:
        """Choose actions for one observation or a batch of B.

        Args:
            observation: an array, or a dictionary holding it under "pixels", "image", "observation" or
                "state" and optionally the goal under "goal" or "desired_goal"; with or without a leading
                batch dimension. Images are uint8 [height, width, 3] (channel-first ones, as
                `VecTransposeImage` makes them, are understood too).
            state: what the previous call returned, None at the very beginning.
            episode_start: [B], True where the observation is the first of an episode; None means nowhere. In a vector
                environment with same-step autoreset that is `terminated | truncated` of the latest step. With
                next-step autoreset, gymnasium's default, it is that of the step before: the observation that comes
                with `terminated | truncated` is still the old episode's last. Flags that come too early or not at all
                mix two episodes in one history; an observation that jumps farther than any before, and not as the
                model predicts, is warned of once.
            deterministic: part of the contract; plans are deterministic given the seed either way.

        Returns:
            Actions of the action space's shape and dtype ([B, ...] for a batch), and the state for the next
            call.

        Raises:
            TypeError: observation or state of the wrong kind.
            ValueError: wrong shape, dtype or size, NaN or infinity, or no goal.

        Warns:
            UserWarning: once, if the observation does not seem to follow from the one before.
        """
        started = time.perf_counter()
        inputs, goals, batched = self._reader.read(observation, self._given_goal)
        batch = len(inputs)
        fresh = self._fresh_rows(batch, state, episode_start)
        with _ordinary_tensors():
            state, replan = self._observe(state, fresh, inputs, goals)
            error, change = state.history.prediction_error(self.world_model)
            self._continuity.watch(error, change)
            if replan.any():
                state = self._replan(state, replan, fresh, error, started)

            rows = torch.arange(batch, device=self.device)
            chosen = state.plan[rows, torch.as_tensor(state.executed, device=self.device)]
            actions = self._code.write(_numpy(chosen))
            # History holds what the environment really receives, after the cast to its dtype.
            done = torch.as_tensor(self._code.read(actions), dtype=self.dtype, device=self.device)
            state = replace(state, history=state.history.executed(done), executed=state.executed + 1)
        return (actions if batched else actions[0]), state

    def problem(self, observation: AnyObservation, horizon: int | None = None) -> Problem:
        """The planning problem that an episode's first observation poses, for pictures and benchmarks.

        Args:
            observation: as for `predict`.
            horizon: T, model steps; None means the agent's.

        Raises:
            TypeError, ValueError: as `predict`.
        """
        inputs, goals, _ = self._reader.read(observation, self._given_goal)
        with _ordinary_tensors():
            history = History.begin(self.world_model, self._encode(inputs), self._limits.rest)
            goal = self._encode(goals)
        steps = self.horizon if horizon is None else whole_number("horizon", horizon, 1, LONGEST_HORIZON)
        return history.problem(self._planned_with, self.objective, goal, steps, self._limits)

    # ---- one decision, step by step ------------------------------------------------------------------------

    def _observe(
        self, state: AgentState | None, fresh: NDArray[np.bool_], inputs: Array, goals: Array
    ) -> tuple[AgentState, NDArray[np.bool_]]:
        """Take the new observations into the state; also say which rows need a new plan."""
        latent, rest = self._encode(inputs), self._limits.rest
        if state is None:
            batch, steps = len(inputs), self.horizon * self.world_model.action_block
            state = AgentState(
                code=self._code,
                history=History.begin(self.world_model, latent, rest),
                goal=self._encode(goals),
                goal_input=np.array(goals),
                search=None,
                plan=rest.expand(batch, steps, -1),
                executed=np.zeros(batch, np.int64),
            )
            return state, np.ones(batch, bool)

        changed = np.array([not np.array_equal(a, b) for a, b in zip(goals, state.goal_input, strict=True)])
        goal, goal_input = state.goal, state.goal_input
        if changed.any():
            goal = goal.clone()
            goal[torch.as_tensor(changed, device=self.device)] = self._encode(goals[changed])
            goal_input = np.array(goals)
        replan = fresh | changed | (state.executed >= self.replan_every)
        history = state.history.observed(self.world_model, latent, fresh, rest)
        return replace(state, history=history, goal=goal, goal_input=goal_input), replan

    def _replan(
        self,
        state: AgentState,
        replan: NDArray[np.bool_],
        fresh: NDArray[np.bool_],
        error: Array,
        started: float,
    ) -> AgentState:
        """Plan anew for the rows of `replan`, from their shifted previous plans where there are any."""
        if self.first_budget == self.budget:
            groups = [(np.flatnonzero(replan), self.budget)]
        else:
            groups = [(np.flatnonzero(fresh), self.first_budget), (np.flatnonzero(replan & ~fresh), self.budget)]
        done: list[tuple[NDArray[np.intp], Plan]] = []
        for rows, budget in groups:
            if len(rows):
                state, plan = self._solve(state, rows, fresh, budget)
                done.append((rows, plan))
        rows, plan = joined_plans(done)
        self.last_plan = plan
        self.diagnostics = Diagnostics(
            rows=rows,
            iterations=plan.iterations,
            plan_cost=_numpy(plan.cost),
            dynamics_residual=_numpy(plan.defects.mean(dim=1)),
            prediction_error=error[rows],
            seconds=time.perf_counter() - started,
            trusted_steps=trusted_steps_of(self.world_model),
        )
        return state

    def _solve(
        self, state: AgentState, rows: NDArray[np.intp], fresh: NDArray[np.bool_], budget: Budget
    ) -> tuple[AgentState, Plan]:
        """Plan for `rows` within one budget, and note plan and search."""
        began = time.perf_counter()
        search = self._warm_start(state, rows, fresh)
        if budget.seconds is not None:  # a warm start draws and scores plans of its own
            budget = replace(budget, seconds=max(budget.seconds - (time.perf_counter() - began), 1e-9))
        plan, search = solve(self.planner, self._problem(state, rows), budget, search=search)

        index = torch.as_tensor(rows, device=self.device)
        flat = state.plan.clone()
        flat[index] = plan.actions.reshape(len(rows), *flat.shape[1:]).to(flat.dtype)
        executed = state.executed.copy()
        executed[rows] = 0
        everyone = search if len(rows) == len(executed) else replace_rows(state.search, index, search)
        return replace(state, search=everyone, plan=flat, executed=executed), plan

    def _problem(self, state: AgentState, rows: NDArray[np.intp]) -> Problem:
        """Pose the problem of `rows`."""
        goal = state.goal[torch.as_tensor(rows, device=self.device)]
        return state.history.select(rows).problem(self._planned_with, self.objective, goal, self.horizon, self._limits)

    def _warm_start(self, state: AgentState, rows: NDArray[np.intp], fresh: NDArray[np.bool_]) -> Search:
        """Return searches for `rows`: new ones where an episode begins, shifted ones elsewhere."""
        new, old = np.flatnonzero(fresh[rows]), np.flatnonzero(~fresh[rows])  # places in `rows`
        search = select_rows(state.search, torch.as_tensor(rows, device=self.device))  # None at the very beginning
        if search is not None:
            for steps in np.unique(state.executed[rows[old]]):
                places = old[state.executed[rows[old]] == steps]
                at = torch.as_tensor(places, device=self.device)
                moved = shift(self.planner, self._problem(state, rows[places]), select_rows(search, at), int(steps))
                search = replace_rows(search, at, moved)
        if len(new):
            # Every episode starts from the same key: its noise depends on neither neighbours nor earlier episodes.
            key = (self.seed + 2**63) % 2**64 - 2**63  # as a signed 64-bit number
            keys = torch.full((len(new),), key, dtype=torch.int64, device=self.device)
            begun = begin(self.planner, self._problem(state, rows[new]), keys)
            search = begun if search is None else replace_rows(search, torch.as_tensor(new, device=self.device), begun)
        assert search is not None
        return search

    # ---- what comes in -------------------------------------------------------------------------------------

    def _fresh_rows(
        self, batch: int, state: AgentState | None, episode_start: Array | bool | None
    ) -> NDArray[np.bool_]:
        """Say which of the rows begin an episode, [B]."""
        starts = np.zeros(batch, bool) if episode_start is None else read_flags("episode_start", episode_start)
        if len(starts) != batch:
            raise ValueError(f"episode_start: expected {batch} flags, one per observation, got {len(starts)}")
        if state is None:
            return np.ones(batch, bool)
        if not isinstance(state, AgentState):
            raise TypeError(f"state: expected what the previous predict returned, or None, got {type(state).__name__}")
        self._check_state(state)
        if len(state.executed) != batch:
            raise ValueError(
                f"observation: expected {len(state.executed)} rows as in the previous call, got {batch};"
                " call reset(), or pass state=None, to start with another batch size"
            )
        return starts

    def _check_state(self, state: AgentState) -> None:
        """Raise a ValueError if the state is of an agent with another world model, horizon or action space."""
        model, latents, plan = self.world_model, state.history.latents, state.plan
        block = model.action_block
        wanted = [model.history * block + 1, *model.state_shape], [self.horizon * block, model.action_dim]
        got = list(latents.shape[1:]), list(plan.shape[1:])
        if got != wanted or latents.dtype != self.dtype:
            raise ValueError(
                f"state: expected one of this agent, with latents {wanted[0]} and actions {wanted[1]} of {self.dtype},"
                f" got {got[0]} and {got[1]} of {latents.dtype}; try state=None"
            )

    def _encode(self, inputs: Array) -> Tensor:
        """Encode checked inputs [B, ...] to latents [B, *S]."""

        def tensor(array: Array) -> Tensor:
            moved = torch.from_numpy(np.array(array)).to(self.device)
            return moved if moved.dtype == torch.uint8 else moved.to(self.dtype)

        names = inputs.dtype.names
        try:
            latent = self.world_model.encode(
                tensor(inputs) if names is None else {name: tensor(inputs[name]) for name in names}
            )
        except RuntimeError as error:
            raise ValueError(
                f"observation: expected what the world model was trained on, got shape"
                f" {list(inputs.shape[1:])}, which it cannot encode ({str(error).splitlines()[0]})"
            ) from error
        expected = (len(inputs), *self.world_model.state_shape)
        if latent.shape != expected:
            raise ValueError(
                f"world_model.encode: expected latents of shape {list(expected)}, got {list(latent.shape)};"
                " its state_shape does not say what it returns"
            )
        return latent


class GRASPAgent(MPCAgent):
    """An `MPCAgent` that plans with `GRASP.for_model` unless told otherwise; the arguments are those of
    `MPCAgent`."""

    def __init__(
        self,
        world_model: WorldModel,
        action_space: spaces.Space[Any],
        planner: MultiStart | AnySolver | None = None,
        **options: Any,
    ) -> None:
        if planner is None:
            planner = GRASP.for_model(check_world_model(world_model), options.get("objective"))
        super().__init__(world_model, action_space, planner, **options)


@contextmanager
def _ordinary_tensors() -> Iterator[None]:
    """No gradients, and whatever the caller's mode no inference tensors, which planners could not take gradients of."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _numpy(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy()
