"""GRASP: gradient-relaxed stochastic planning with virtual states.

Psenka, Rabbat, Krishnapriyan, LeCun and Bar, "Parallel Stochastic Gradient-Based Planning for World Models",
arXiv 2602.00475. Actions a_0..a_{T-1} and virtual states s_1..s_{T-1} are optimised together, s_0 (the
present) and s_T = g (the goal) being fixed. With sg() = stop-gradient,

    L_dyn  = sum_t || F(sg(s_t), a_t) - s_{t+1} ||^2          t = 0..T-1; the last term ties the last action to the goal
    L_goal = sum_t    d(F(sg(s_t), a_t), g)                   d: the objective's state cost, || . - g ||^2 by default
    L      = L_dyn + gamma * L_goal

    s <- s - eta_s * dL/ds + sigma * xi         noise on the states only
    a <- a - eta_a * dL/da

All time steps, restarts and problems go through F in one batched call: such a lifted iteration costs the same
whatever T. Gradients reach a_t through F's action input and s_{t+1} as a target, never s_t through F's state
input, whose Jacobian is brittle in learned visual latents. Every K lifted iterations a sync follows: J iterations of
a serial planner on the true objective, actions only. An iteration of `solve` is one lifted iteration or one of the
serial planner's.

A sync ends with a selection (unless `reseed` is None, as in the paper). Each restart returns to its cheapest plan so
far and branches from it: at a moment that changes from sync to sync, the plan is continued otherwise, from the state
that it has led to, as the model proposes or disturbed by noise; the cheapest branch replaces it if it is cheaper.
The virtual states are then those of the restart's plan, and the next lifted iterations disturb it again.

Most plans end in a local minimum, and few iterations show which: planning may begin with many restarts, of which the
cheapest (`survivors`) go on after the first serial iterations (`sift`).

A model is never quite right, and of several plans that it believes in, some hang by a thread. In the end each restart's
plan is rolled out with noise on the states as well, and the plan whose median cost is lowest is returned.

Where the model reads h frames, s_t and a_t stand for its window, filled up with the real past.

Units: actions are normalised; states and losses are measured in `state_scale`, so rates, noise and clipping
carry no unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from grasp_agent.core.checks import at_least, choice, positive, positive_or_none
from grasp_agent.core.rng import normal, split
from grasp_agent.core.rows import map_rows, repeat_rows, replace_rows, select_rows, take, where_rows
from grasp_agent.core.types import Plan, Problem, WorldModel
from grasp_agent.planning.grasp_state import GRASPState, cheapest_first, first_restarts, with_the_others
from grasp_agent.planning.restarts import Restarts
from grasp_agent.planning.robustness import cost_under_noise
from grasp_agent.planning.rollout import (
    environment_units,
    frozen,
    one_step,
    one_step_window,
    repeat_problem,
    rollout,
    select_problem,
    stand_still,
    take_window,
    zero_plan,
)
from grasp_agent.planning.solve import Best, Planner, make_plan, score, unscored
from grasp_agent.planning.solvers.cem import CEM
from grasp_agent.planning.solvers.descent import (
    OPTIMIZERS,
    Optimizer,
    clipped,
    descent,
    no_moments,
    norms,
    require_gradient,
)
from grasp_agent.planning.solvers.gauss_newton import LARGEST_LATENT, GaussNewton
from grasp_agent.planning.solvers.gradient import GradientDescent
from grasp_agent.planning.warm_start import (
    branched,
    cheapest_of_each,
    ramp_to_goal,
    shift_states,
)


@dataclass(frozen=True)
class GRASP(Restarts):
    """The GRASP planner; see the module's docstring for the symbols. How plans begin is in `Restarts`.

    Attributes:
        action_rate: eta_a, in half-ranges of the action.
        state_rate: eta_s, in `state_scale`.
        optimizer: of the lifted iterations, "adam" or "sgd".
        goal_weight: gamma.
        anneal_goal: let gamma fall to zero along with the noise.
        noise: sigma, in `state_scale`.
        anneal: iterations over which the noise falls linearly to zero; None keeps it.
        resample: iterations that one draw of the noise serves.
        state_scale: the unit of the states; None takes the root mean square of goal minus present, per row.
        stop_gradient: cut the gradient into F's state input (False is an ablation: plain collocation).
        clip: longest gradient per restart and variable, in `state_scale`; None does not clip.
        balance: scale the state and action gradients of a restart to their mean norm.
        window: time steps of a lifted iteration; longer plans are improved in windows of this many, one at a time, that
            overlap by half.
        init_states: virtual states begin on the straight line to the goal ("line") or on the rollout of the
            starting actions ("rollout").
        init_noise: standard deviation of the noise on the starting virtual states, in `state_scale`.
        sync: the serial planner, any of the suite; it takes over each restart's actions. None chooses by the latent:
            `GaussNewton` if it is compact, `GradientDescent` if its Jacobians would be too large. A CEM's first
            deviation follows the gap between virtual states and rollout.
        sync_every: K, lifted iterations between syncs; None never syncs.
        sync_steps: J, iterations of the serial planner per sync.
        reseed: after a sync each restart returns to its cheapest plan, and its virtual states become that plan's
            rollout plus this fraction (0 to 1) of a ramp that closes its gap to the goal evenly over the steps;
            planning then begins with a sync. None goes on from wherever the sync came to and leaves the virtual
            states.
        survivors: restarts that go on after the first `sift` serial iterations, the cheapest; None lets all go on.
        sift: serial iterations of the first sync in which all restarts take part; needs `survivors`.
        branches: continuations tried for each restart after a sync; needs `reseed`.
        caution: standard deviation of the noise on every predicted state, in `state_scale`, under which the restarts'
            plans are compared in the end; 0 returns the plan of lowest cost without noise.
    """

    name: ClassVar[str] = "grasp"
    restarts: int = 4
    refresh: int = 2
    action_rate: float = 0.005
    state_rate: float = 0.05
    optimizer: Optimizer = "adam"
    goal_weight: float = 0.1
    anneal_goal: bool = False
    noise: float = 0.02
    anneal: int | None = 50
    resample: int = 1
    state_scale: float | None = None
    stop_gradient: bool = True
    clip: float | None = None
    balance: bool = False
    window: int = 200
    init_states: Literal["line", "rollout"] = "line"
    init_noise: float = 0.05
    sync: Planner[Any] | None = None
    sync_every: int | None = 1
    sync_steps: int = 1
    reseed: float | None = 0.0
    survivors: int | None = None
    sift: int = 1
    branches: int = 8
    caution: float = 0.003

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "resample", "anneal", "sync_every", "sync_steps", "survivors", "sift")
        at_least(self, 2, "window")
        at_least(self, 0, "goal_weight", "noise", "init_noise", "branches", "caution")
        positive(self, "action_rate", "state_rate")
        positive_or_none(self, "clip", "state_scale")
        choice(self, "optimizer", OPTIMIZERS)
        choice(self, "init_states", ("line", "rollout"))
        if self.sync is not None and not hasattr(self.sync, "step"):
            raise TypeError(f"GRASP.sync: expected a planner such as GradientDescent(restarts=1), got {self.sync!r}")
        if getattr(self.sync, "restarts", 1) != 1:
            raise ValueError(
                f"GRASP.sync: expected a planner of one restart, got {getattr(self.sync, 'restarts', 1)}; "
                "each of GRASP's restarts has a serial planner of its own"
            )
        if self.reseed is not None and not 0 <= self.reseed <= 1:
            raise ValueError(f"GRASP.reseed: expected a fraction from 0 to 1 or None, got {self.reseed}")
        if self.survivors is not None and self.sync_every is None:
            raise ValueError(f"GRASP.survivors: expected None without a sync (sync_every=None), got {self.survivors}")
        if self.survivors is not None and self.sift > self.sync_steps:
            raise ValueError(f"GRASP.sift: expected at most sync_steps, {self.sync_steps}, got {self.sift}")
        if self.reseed is None and self.branches:
            raise ValueError("GRASP.branches: expected 0 with reseed=None, got branches without a plan to branch from")

    @property
    def decision_iterations(self) -> int:
        """A sync, lifted iterations, and another sync."""
        return 10 if self.sync_every is None else 2 * self.sync_steps + self.sync_every

    @classmethod
    def suited_to(cls, model: WorldModel) -> GRASP:
        """The defaults for compact latents, `patches` where Jacobians of the model would be too large."""
        return cls() if math.prod(model.state_shape) <= LARGEST_LATENT else cls.patches()

    @classmethod
    def patches(cls) -> GRASP:
        """For latents too large for Jacobians, like patch grids, where a serial iteration is dear: the sync is
        gradient descent, several steps of it, and neither branches nor the cautious choice take their time."""
        return cls(sync=GradientDescent(restarts=1), sync_steps=8, branches=0, caution=0.0)

    @classmethod
    def paper(cls) -> GRASP:
        """The paper's algorithm to the letter: one plan from zero actions and a noised line, losses that are
        sums in the latent's own unit, plain gradient descent, constant noise and goal weight, a gradient sync
        every 100 iterations. Rates of plain descent depend on the latent; these suit numbers of order one."""
        return cls(
            restarts=1,
            goal_weight=1.0,
            screen=0,
            action_rate=0.05,
            state_rate=0.1,
            optimizer="sgd",
            noise=0.005,
            anneal=None,
            state_scale=1.0,
            init_noise=0.005,
            sync=GradientDescent(restarts=1, rate=0.05, optimizer="sgd"),
            sync_every=100,
            sync_steps=10,
            reseed=None,
            branches=0,
            caution=0.0,
        )

    def init(self, problem: Problem, keys: Tensor, start: Tensor | None = None) -> GRASPState:
        keys = keys.to(problem.goal.device)
        u = self.beginnings(problem, split(keys, 0), start)
        scale = self._scale(problem)
        states = self._initial_states(problem, u, scale, split(keys, 1))
        best = unscored(problem, zero_plan(problem) if start is None else start)
        return self._state(problem, split(keys, 2), u, states, scale, best)

    def step(self, problem: Problem, state: GRASPState) -> GRASPState:
        begun = state.iteration
        for i in begun.unique().tolist():  # one number, unless rows have begun at different times
            rows = (begun == i).nonzero().squeeze(1)
            if len(rows) == problem.batch:
                return self._iterated(problem, state, i)
            state = replace_rows(
                state, rows, self._iterated(select_problem(problem, rows), select_rows(state, rows), i)
            )
        return state

    def _iterated(self, problem: Problem, state: GRASPState, i: int) -> GRASPState:
        """Iteration i of all rows."""
        active = first_restarts(state, self._width(i))
        position = 0 if self.sync_every is None else (i + self._ahead) % (self.sync_every + self.sync_steps)
        if self.sync_every is None or position < self.sync_every:
            active = self._lifted(problem, active, i)
        else:
            active = self._sync(problem, active, i, position - self.sync_every)
        return with_the_others(replace(active, iteration=active.iteration + 1), state)

    @property
    def _ahead(self) -> int:
        """Where in the cycle planning begins: with the sync, if it leaves virtual states to go on from."""
        return 0 if self.reseed is None else self.sync_every or 0

    def _width(self, i: int) -> int:
        """Restarts that take part in iteration i; they come first, the others wait for the next warm start."""
        if self.survivors is None or self.sync_every is None or i < self.sync_every - self._ahead + self.sift:
            return self.restarts
        return min(self.survivors, self.restarts)

    def evaluate(self, problem: Problem, state: GRASPState) -> GRASPState:
        if bool(state.scored.all()):
            return state
        active = first_restarts(state, self._width(int(state.iteration.min())))
        best, states, cost = score(problem, active.best, active.actions)
        return with_the_others(self._keep(replace(active, best=best), active.actions, states, cost), state)

    def shift(self, problem: Problem, state: GRASPState, n: int) -> GRASPState:
        """Restart 0 takes over the best plan, with the virtual states of the restart that found it."""
        keys, scale = split(state.keys, 3), self._scale(problem)
        warm = self.warm_starts(problem, state.best, state.actions, n, split(keys, 0))
        came_from = torch.cat([state.best.candidate.clamp(min=0).unsqueeze(1), warm.came_from], dim=1)
        states = shift_states(problem, take(state.states, came_from), n)
        if came_from.shape[1] < self.restarts:
            fresh = self._initial_states(problem, warm.actions[:, came_from.shape[1] :], scale, split(keys, 1))
            states = torch.cat([states, fresh], dim=1)
        begun = self._state(problem, split(keys, 2), warm.actions, states, scale, warm.best)
        return self._keep(begun, warm.actions, warm.states, warm.cost)

    def plan(self, problem: Problem, state: GRASPState) -> Plan:
        """The best plan, or the one that noise harms least; its defects are those of its restart's virtual states."""
        rows = torch.arange(problem.batch, device=state.keys.device)
        best = state.best
        if self.caution and self.restarts > 1:
            widths = torch.tensor([self._width(i) for i in state.iteration.tolist()])
            active = first_restarts(state, int(widths.max()))
            out = torch.arange(active.cost.shape[1]) >= widths.unsqueeze(1)
            noisy = cost_under_noise(problem, active.kept, split(state.keys, 4), self.caution * state.scale)
            safest = noisy.masked_fill(active.cost.isinf() | out.to(noisy.device), torch.inf).argmin(dim=1)
            kept = Best(state.kept[rows, safest], state.kept_states[rows, safest], state.cost[rows, safest], safest)
            best = where_rows(kept.cost.isfinite(), kept, best)
        restart = best.candidate.clamp(min=0)
        u, s = state.actions[rows, restart].unsqueeze(1), state.states[rows, restart].unsqueeze(1)
        with torch.no_grad():
            gap = one_step(problem, u, s) - self._following(problem, s)
        return make_plan(problem, best, gap.flatten(3).square().mean(3).squeeze(1), state.cost)

    # ----- the lifted iteration -----------------------------------------------------------------------------

    def _following(self, problem: Problem, s: Tensor) -> Tensor:
        """s_1..s_T with s_T = g, [B, R, T, *S]."""
        goal = problem.goal[:, None, None].expand(-1, s.shape[1], 1, *s.shape[3:])
        return torch.cat([s, goal], dim=2)

    def _lifted(self, problem: Problem, state: GRASPState, i: int) -> GRASPState:
        u, s = state.actions.detach().requires_grad_(True), state.states.detach().requires_grad_(True)
        fade = 1.0 if self.anneal is None else max(0.0, 1 - i / self.anneal)  # how much of the noise is left
        gamma = self.goal_weight * fade if self.anneal_goal else self.goal_weight

        predicted, following = self._predicted(problem, u, s, i)
        require_gradient(predicted)
        goal = repeat_rows(problem.goal, predicted.shape[1] * predicted.shape[2])
        dynamics = (predicted - following).square().flatten(1).sum(1)
        shaping = problem.objective.state_cost(predicted.flatten(0, 2), goal).view(problem.batch, -1).sum(1)
        loss = (dynamics + gamma * shaping) / state.scale.square()
        to_u, to_s = torch.autograd.grad(loss.sum(), (u, s))

        scale = state.scale.view(-1, *[1] * (s.ndim - 1))
        to_u, to_s = clipped(to_u, self.clip), clipped(to_s * scale, self.clip)
        if self.balance:
            norm_u, norm_s = norms(to_u), norms(to_s)
            mean = (norm_u + norm_s.view_as(norm_u)) / 2
            to_u = to_u * (mean / norm_u.clamp(min=1e-12))
            to_s = to_s * (mean.view_as(norm_s) / norm_s.clamp(min=1e-12))
        change_u, action_moments = descent(self.optimizer, self.action_rate, to_u, state.action_moments)
        change_s, state_moments = descent(self.optimizer, self.state_rate, to_s, state.state_moments)
        if self.noise * fade > 0:
            xi = normal(split(split(state.keys, 0), i // self.resample), s.shape[1:], s.dtype)
            change_s = change_s + self.noise * fade * xi
        return replace(
            state,
            scored=torch.zeros_like(state.scored),
            actions=(state.actions + change_u).clamp_(-1, 1),
            states=state.states + scale * change_s,
            action_moments=action_moments,
            state_moments=state_moments,
        )

    def _predicted(self, problem: Problem, u: Tensor, s: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """F(sg(s_t), a_t) and s_{t+1} for all t (of the window that is due): both [B, R, T or window, *S]."""
        seen = s.detach() if self.stop_gradient else s
        following = self._following(problem, s)
        steps, width = problem.horizon, self.window
        if steps <= width:
            return one_step(problem, u, seen), following
        starts = [*range(0, steps - width, width // 2), steps - width]
        begin = torch.full((problem.batch,), starts[i % len(starts)], device=u.device)
        return one_step_window(problem, u, seen, begin, width), take_window(following, begin, width)

    # ----- the sync -----------------------------------------------------------------------------------------

    def _sync(self, problem: Problem, state: GRASPState, i: int, j: int) -> GRASPState:
        """Iteration i, which is j = 0..J-1 of the serial planner, each restart being a problem of its own."""
        b, r = state.cost.shape
        planner, serial = self._serial(problem), repeat_problem(problem, r)
        inner = self._begin_sync(problem, serial, state, i) if j == 0 else state.sync
        inner = planner.step(serial, map_rows(lambda x: x.flatten(0, 1), inner))
        if j == self.sync_steps - 1:
            inner = planner.evaluate(serial, inner)
        found = map_rows(lambda x: x.unflatten(0, (b, r)), inner.best)
        state = replace(
            state,
            actions=found.actions,
            sync=map_rows(lambda x: x.unflatten(0, (b, r)), inner),
            best=state.best.update(found.actions, found.states, found.cost),
        )
        state = self._keep(state, found.actions, found.states, found.cost)  # planning may end within a sync
        width = self._width(i + 1)
        if width < r:
            state = cheapest_first(state)
        if self.reseed is None or j < self.sync_steps - 1:
            return state
        return with_the_others(self._select(problem, first_restarts(state, width), i + 1), state)

    def _serial(self, problem: Problem) -> Planner[Any]:
        if self.sync is not None:
            return self.sync
        compact = problem.goal[0].numel() <= LARGEST_LATENT
        return GaussNewton(restarts=1) if compact else GradientDescent(restarts=1)

    def _begin_sync(self, problem: Problem, serial: Problem, state: GRASPState, i: int) -> Any:
        """The serial planner's state at the restarts' actions, leaves [B, R, ...], before iteration i."""
        (b, r), planner = state.cost.shape, self._serial(problem)
        keys = split(split(state.keys, 1), i)
        keys = split(repeat_rows(keys, r), torch.arange(r, device=keys.device).repeat(b))
        inner = planner.init(serial, keys, state.actions.flatten(0, 1))
        if isinstance(planner, GaussNewton) and i == 0 and bool(state.scored.all()):
            # planning begins with this sync, at plans that have been rolled out already
            u, states, cost = (x.flatten(0, 1) for x in (state.kept, state.kept_states, state.cost))
            best = Best(u, states, cost, torch.full_like(cost, -1, dtype=torch.int64))
            scored = torch.ones_like(inner.scored)
            inner = replace(inner, states=states.unsqueeze(1), cost=cost.unsqueeze(1), scored=scored, best=best)
        if isinstance(planner, GradientDescent) and state.sync is not None:
            # a first step of Adam is full-size whatever the gradient: syncs of few steps would be made of nothing else
            inner = replace(inner, moments=map_rows(lambda x: x.flatten(0, 1), state.sync.moments))
        if isinstance(planner, CEM):
            # where the virtual states and the rollout disagree most, the actions are most in doubt
            with torch.no_grad(), frozen(problem.model):
                rolled = rollout(problem, environment_units(problem, state.actions))[:, :, 1:]
            gap = (self._following(problem, state.states) - rolled).flatten(3).square().mean(3)
            gap = gap.nan_to_num(0.0, 0.0, 0.0).sqrt() / state.scale[:, None, None]
            deviation = gap.clamp(min(planner.floor, 1.0), 1.0)
            inner = replace(inner, deviation=deviation.flatten(0, 1).unsqueeze(2).expand_as(inner.mean))
        return map_rows(lambda x: x.unflatten(0, (b, r)), inner)

    def _keep(self, state: GRASPState, u: Tensor, states: Tensor, cost: Tensor) -> GRASPState:
        """Per restart, keep plans u [B, R, T, A] where they are the cheapest so far."""
        better = cost < state.cost
        return replace(
            state,
            scored=torch.ones_like(state.scored),
            kept=torch.where(better[:, :, None, None], u, state.kept),
            kept_states=torch.where(better.view(*better.shape, *[1] * (states.ndim - 2)), states, state.kept_states),
            cost=torch.where(better, cost, state.cost),
        )

    def _select(self, problem: Problem, state: GRASPState, i: int) -> GRASPState:
        """Return every restart to its cheapest plan or a still cheaper branch, virtual states to its rollout."""
        assert self.reseed is not None and self.sync_every is not None
        if self.branches and problem.horizon > 1:
            turn = (i + self._ahead) // (self.sync_every + self.sync_steps)
            state = self._branch(problem, state, i, int(problem.horizon * _spread(turn)))
        states = ramp_to_goal(problem, state.kept_states, self.reseed)
        zero = no_moments(self.optimizer, states)  # what the optimiser remembers was about other states
        forgotten = no_moments(self.optimizer, state.kept)
        return replace(state, actions=state.kept, states=states, state_moments=zero, action_moments=forgotten)

    @torch.no_grad()
    def _branch(self, problem: Problem, state: GRASPState, i: int, t: int) -> GRASPState:
        """Try other continuations of every restart's plan from block t on."""
        keys = split(split(state.keys, 2), i)
        u, states, cost = branched(
            problem, keys, state.kept, state.kept_states, t, self.branches, self.init_scale, self.correlation
        )
        index = cheapest_of_each(cost, self.branches)
        u, states, cost = take(u, index), take(states, index), take(cost, index)
        state = replace(state, best=state.best.update(u, states, cost))
        return self._keep(state, u, states, cost)

    # ----- beginnings ---------------------------------------------------------------------------------------

    def _scale(self, problem: Problem) -> Tensor:
        if self.state_scale is not None:
            return torch.full_like(problem.goal.flatten(1)[:, 0], self.state_scale)
        gap = (problem.goal - problem.states[:, -1]).flatten(1)
        return gap.square().mean(1).sqrt().clamp(min=1e-6)

    def _initial_states(self, problem: Problem, u: Tensor, scale: Tensor, keys: Tensor) -> Tensor:
        """Virtual states s_1..s_{T-1} for plans u [B, R, T, A] -> [B, R, T - 1, *S]."""
        if self.init_states == "rollout":
            with torch.no_grad(), frozen(problem.model):
                states = rollout(problem, environment_units(problem, u))[:, :, 1:-1]
        else:
            states = ramp_to_goal(problem, stand_still(problem).unsqueeze(1), 1.0)
            states = states.expand(-1, u.shape[1], *states.shape[2:])
        noise = normal(keys, states.shape[1:], states.dtype)
        return states + self.init_noise * scale.view(-1, *[1] * (states.ndim - 1)) * noise

    def _state(
        self, problem: Problem, keys: Tensor, u: Tensor, states: Tensor, scale: Tensor, best: Best
    ) -> GRASPState:
        state = GRASPState(
            keys=keys,
            iteration=torch.zeros(len(keys), dtype=torch.int64),
            scored=torch.zeros(len(keys), dtype=torch.bool),
            actions=u,
            states=states,
            scale=scale,
            action_moments=no_moments(self.optimizer, u),
            state_moments=no_moments(self.optimizer, states),
            sync=None,
            kept=u,
            kept_states=best.states.unsqueeze(1).expand(-1, u.shape[1], *best.states.shape[1:]),
            cost=u.new_full(u.shape[:2], torch.inf),
            best=best,
        )
        # begun at once, though its time has not come: a state's leaves keep their shapes
        return replace(state, sync=self._begin_sync(problem, repeat_problem(problem, u.shape[1]), state, 0))


def _spread(i: int) -> float:
    """Numbers in [0, 1) that fill it evenly: 1/2, 1/4, 3/4, 1/8, ... for i = 1, 2, 3, ... (van der Corput)."""
    value, unit = 0.0, 0.5
    while i:
        value, unit, i = value + unit * (i & 1), unit / 2, i >> 1
    return value
