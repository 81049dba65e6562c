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
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from grasp_agent.agent.history import ActionLimits, History
from grasp_agent.agent.spaces import ActionWriter, AnyObservation, Array, ObservationReader
from grasp_agent.core.rows import replace_rows, select_rows
from grasp_agent.core.types import Budget, Objective, Plan, Problem, WorldModel
from grasp_agent.models import load_world_model
from grasp_agent.objectives.goal_distance import default_objective
from grasp_agent.planning.combine.multi_start import MultiStart, Search
from grasp_agent.planning.grasp import GRASP
from grasp_agent.planning.solve import as_planner, begin, shift, solve
from grasp_agent.planning.solvers.solver import AnySolver

DEFAULT_LOOK_AHEAD = 25
"""Environment steps a plan spans unless a horizon is given."""


@dataclass(frozen=True)
class AgentState:
    """Everything an agent remembers between decisions; hand it back to `MPCAgent.predict` unchanged.

    Attributes:
        history: what was seen and done lately.
        goal: encoded goals, [B, *S].
        goal_input: the goals as they were given, to notice a change, [B, ...].
        search: what the planner knows, every leaf [B, ...].
        plan: the plan being executed, one environment action per entry, [B, T * k, action_dim].
        executed: actions of that plan already executed, [B].
    """

    history: History
    goal: Tensor
    goal_input: Array
    search: Search | None
    plan: Tensor
    executed: Array

    def select(self, rows: Sequence[int]) -> AgentState:
        """The memory of some rows of the batch, for when the other episodes are over."""
        kept = np.asarray(rows, np.int64)
        index = torch.as_tensor(kept, device=self.goal.device)
        return AgentState(
            history=self.history.select(rows),
            goal=self.goal[index],
            goal_input=self.goal_input[kept],
            search=select_rows(self.search, index),
            plan=self.plan[index],
            executed=self.executed[kept],
        )

    def with_last_action(self, executed: Array) -> AgentState:
        """The memory after other actions [B, ...] than the chosen ones were executed, as exploration noise does."""
        actions = torch.as_tensor(executed).to(self.history.actions).reshape(len(executed), -1)
        return replace(self, history=self.history.with_last_action(actions))


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
    """

    rows: Array
    iterations: int
    plan_cost: Array
    dynamics_residual: Array
    prediction_error: Array
    seconds: float


class MPCAgent:
    """Closed-loop agent: plan with a world model, execute, observe, plan again.

    `predict` is stable-baselines3's policy contract, so the agent runs in `evaluate_policy` and in vector
    environments as it is; `reset` and `act` are a thin stateful shell over it for a plain Gymnasium loop. An
    episode's actions follow from the seed and the episode alone, whatever else is in the batch and whichever
    episodes came before.

    Args:
        world_model: what predicts. A torch module is put in evaluation mode (and moved to `device` if one is
            given).
        action_space: the environment's action space, or a smaller box inside it; a bounded `Box` of any shape
            whose size is the model's `action_dim`. Plans also keep to the model's `action_limit`, if it has
            one: beyond the actions it was trained on, a model is guessing.
        planner: what searches, e.g. `GRASP()`, `MultiStart(LBFGS())` or a bare solver such as `CEM()`, which improves
            one plan.
        objective: what a plan is judged by; None means `default_objective(world_model)`.
        horizon: T, model steps to look ahead; None means as many as 25 environment steps take.
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
        TypeError: the action space is not a `Box`.
        ValueError: it has infinite bounds or another size than the model's actions, or an argument is out of
            range.
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
        self._writer = ActionWriter(action_space, world_model.action_dim)
        self.action_space = self._writer.space
        if horizon is None:
            horizon = max(1, round(DEFAULT_LOOK_AHEAD / world_model.action_block))
        if horizon < 1:
            raise ValueError(f"horizon: expected at least 1 model step, got {horizon}")
        if not 1 <= replan_every <= horizon * world_model.action_block:
            raise ValueError(
                f"replan_every: expected 1 to {horizon * world_model.action_block} (horizon x action block,"
                f" the actions in a plan), got {replan_every}"
            )
        if isinstance(world_model, nn.Module):
            world_model.eval()
            if device is not None:
                world_model.to(device)
        self.world_model = world_model
        self.planner = as_planner(planner)
        self.objective: Objective = default_objective(world_model) if objective is None else objective
        self.horizon = horizon
        self.budget = Budget(iterations=self.planner.decision_iterations) if budget is None else budget
        self.first_budget = self.budget if first_budget is None else first_budget
        self.replan_every = replan_every
        self.seed = seed
        reference = _reference_tensor(world_model)
        reference = reference if device is None else reference.to(device)
        self.device, self.dtype = reference.device, reference.dtype
        self.last_plan: Plan | None = None
        self.diagnostics: Diagnostics | None = None

        self._reader = ObservationReader(getattr(world_model, "image_size", None))
        largest: float | None = getattr(world_model, "action_limit", None)
        self._limits = ActionLimits.of(self._writer.low, self._writer.high, largest, reference)
        self._continuity = _Continuity()
        self._given_goal: Array | None = None
        self._state: AgentState | None = None

    @classmethod
    def from_pretrained(cls, name: str | Path, action_space: spaces.Space[Any], **options: Any) -> Self:
        """Make an agent around a saved world model.

        Args:
            name: what `load_world_model` accepts: a shipped model's name ("pusht"), a folder or a hub id.
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
        """
        self._given_goal = None if goal is None else np.array(self._reader.read_array("goal", goal)[0])
        self._state = None
        if seed is not None:
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
            episode_start: [B], True where the observation is the first of an episode; None means nowhere.
            deterministic: part of the contract; plans are deterministic given the seed either way.

        Returns:
            Actions of the action space's shape and dtype ([B, ...] for a batch), and the state for the next
            call.

        Raises:
            TypeError: observation or state of the wrong kind.
            ValueError: wrong shape, dtype or size, NaN or infinity, or no goal.
        """
        started = time.perf_counter()
        inputs, goals, batched = self._reader.read(observation, self._given_goal)
        batch = len(inputs)
        fresh = self._fresh_rows(batch, state, episode_start)
        with torch.no_grad():
            state, replan = self._observe(state, fresh, inputs, goals)
        if replan.any():
            state = self._replan(state, replan, fresh, started)

        rows = torch.arange(batch, device=self.device)
        chosen = state.plan[rows, torch.as_tensor(state.executed, device=self.device)]
        actions = self._writer.write(_numpy(chosen))
        # History holds what the environment really receives, after the cast to its dtype.
        done = torch.as_tensor(actions.reshape(batch, -1), dtype=self.dtype, device=self.device)
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
        with torch.no_grad():
            history = History.begin(self.world_model, self._encode(inputs), self._limits.rest)
            goal = self._encode(goals)
        return history.problem(self.world_model, self.objective, goal, horizon or self.horizon, self._limits)

    # ---- one decision, step by step ------------------------------------------------------------------------

    def _observe(
        self, state: AgentState | None, fresh: NDArray[np.bool_], inputs: Array, goals: Array
    ) -> tuple[AgentState, NDArray[np.bool_]]:
        """Take the new observations into the state; also say which rows need a new plan."""
        latent, rest = self._encode(inputs), self._limits.rest
        if state is None:
            batch, steps = len(inputs), self.horizon * self.world_model.action_block
            state = AgentState(
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
        self, state: AgentState, replan: NDArray[np.bool_], fresh: NDArray[np.bool_], started: float
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
        rows, plan = _together(done)
        self.last_plan = plan
        error, moved = state.history.select(rows).surprise(self.world_model)
        self._continuity.watch(error, moved)
        self.diagnostics = Diagnostics(
            rows=rows,
            iterations=plan.iterations,
            plan_cost=_numpy(plan.cost),
            dynamics_residual=_numpy(plan.defects.mean(dim=1)),
            prediction_error=error,
            seconds=time.perf_counter() - started,
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
        return state.history.select(rows).problem(self.world_model, self.objective, goal, self.horizon, self._limits)

    def _warm_start(self, state: AgentState, rows: NDArray[np.intp], fresh: NDArray[np.bool_]) -> Search:
        """Return searches for `rows`: new ones where an episode begins, shifted ones elsewhere."""
        previous = state.search
        going_on = np.zeros(len(rows), bool) if previous is None else ~fresh[rows]
        search = previous if previous is None else select_rows(previous, torch.as_tensor(rows, device=self.device))
        if not going_on.all():
            # Every episode starts from the same key: its noise depends on neither neighbours nor earlier episodes.
            keys = torch.full((len(rows),), self.seed, dtype=torch.int64, device=self.device)
            begun = begin(self.planner, self._problem(state, rows), keys)
            at = torch.as_tensor(np.flatnonzero(~going_on), device=self.device)
            search = begun if search is None else replace_rows(search, at, select_rows(begun, at))
        assert search is not None
        for steps in np.unique(state.executed[rows][going_on]):
            at_steps = np.flatnonzero(going_on & (state.executed[rows] == steps))
            index = torch.as_tensor(at_steps, device=self.device)
            moved = shift(self.planner, self._problem(state, rows[at_steps]), select_rows(search, index), int(steps))
            search = replace_rows(search, index, moved)
        return search

    # ---- what comes in -------------------------------------------------------------------------------------

    def _fresh_rows(
        self, batch: int, state: AgentState | None, episode_start: Array | bool | None
    ) -> NDArray[np.bool_]:
        """Say which of the rows begin an episode, [B]."""
        if state is None:
            return np.ones(batch, bool)
        if not isinstance(state, AgentState):
            raise TypeError(f"state: expected what the previous predict returned, or None, got {type(state).__name__}")
        if len(state.executed) != batch:
            raise ValueError(
                f"observation: expected {len(state.executed)} rows as in the previous call, got {batch};"
                " call reset(), or pass state=None, to start with another batch size"
            )
        if episode_start is None:
            return np.zeros(batch, bool)
        starts = np.asarray(episode_start, bool).reshape(-1)
        if len(starts) != batch:
            raise ValueError(f"episode_start: expected {batch} flags, one per observation, got {len(starts)}")
        return starts

    def _encode(self, inputs: Array) -> Tensor:
        """Encode checked inputs [B, ...] to latents [B, *S]."""
        tensor = torch.from_numpy(np.array(inputs)).to(self.device)
        if self._reader.image_size is None:
            tensor = tensor.to(self.dtype)
        try:
            latent = self.world_model.encode(tensor)
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
        return latent.detach()


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
        super().__init__(world_model, action_space, planner or GRASP.for_model(world_model), **options)


_JUMP = 9.0
"""How much larger than any explained change of the latent (mean square) a jump is."""
_ENOUGH = 20
"""Explained changes that must have been seen before anything counts as a jump."""


class _Continuity:
    """Notices observations that cannot follow from the ones before: a new episode that the agent was not told of."""

    def __init__(self) -> None:
        self._explained, self._largest, self._warned = 0, 0.0, False

    def watch(self, error: Array, moved: Array) -> None:
        """Compare the model's errors [P] with how far the latents moved [P]; warn once of a jump."""
        known = np.isfinite(error)
        explained = known & (error < 0.25 * moved)
        jumped = known & ~explained & (moved > _JUMP * self._largest)
        if self._explained >= _ENOUGH and jumped.any() and not self._warned:
            self._warned = True
            warnings.warn(
                "the observation jumped farther than any step before it, which the world model cannot explain; if a new"
                " episode has begun, call agent.reset(), or pass episode_start=True to predict for its first"
                " observation (with next-step autoreset that is one step after `terminated or truncated`)",
                stacklevel=4,
            )
        self._explained += int(explained.sum())
        self._largest = max(self._largest, float(moved[explained].max(initial=0.0)))


def _together(parts: list[tuple[NDArray[np.intp], Plan]]) -> tuple[NDArray[np.intp], Plan]:
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


def _reference_tensor(model: WorldModel) -> Tensor:
    """Return a tensor with the model's device and floating dtype."""
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    return next((p.detach() for p in parameters if p.is_floating_point()), torch.empty(0))


def _numpy(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy()
