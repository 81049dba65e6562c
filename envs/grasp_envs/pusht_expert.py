"""A scripted pusher for Push-T: purposeful, noisy, contact-rich strokes.

It repeats three phases:

1. aim: over a few dozen spots on the T's outline, predict where pushing along the inward normal takes the
   block and keep the spot that brings it closest to the target pose, minus the walk to get there. The block
   moves quasi-statically and without friction, so a push of length d at lever arm l from the centre of
   gravity moves it by n d s and turns it by d s l / I, with s = 1 / (1 + l^2 / I) for mass 1;
2. walk: round the block along the hull of its inflated outline to a point behind the spot, without touching
   it;
3. push: several steps along the normal, each with its own error, until pushing on no longer helps.

Without a goal it draws target poses of its own, near the middle of the arena, and changes its mind now and
then. If asked to, it also leans: it stops in the middle of a stroke and stays in touch with the block, moving
by a few pixels or not at all. Data without such steps leave a world model to guess what happens then. It reads
the simulator's state, looks one stroke ahead and makes mistakes: a source of data and a yardstick, no solver.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from grasp_envs.pusht_simulation import (
    AGENT_RADIUS,
    ARENA,
    BLOCK_CENTRE,
    BLOCK_MASS,
    BLOCK_MOMENT,
    Pose,
    PushTSimulation,
    local_distance,
)
from grasp_envs.validation import check_seed

Point = tuple[float, float]
# A spot on the outline and the inward normal there, in the block's frame.
Spot = tuple[float, float, float, float]

SPOTS: tuple[Spot, ...] = (
    *((x, 0.0, 0.0, 1.0) for x in (-54.0, -40.0, -24.0, -8.0, 8.0, 24.0, 40.0, 54.0)),
    *((x, 30.0, 0.0, -1.0) for x in (-54.0, -44.0, -34.0, 34.0, 44.0, 54.0)),
    *((-60.0, y, 1.0, 0.0) for y in (8.0, 22.0)),
    *((60.0, y, -1.0, 0.0) for y in (8.0, 22.0)),
    *((-15.0, y, 1.0, 0.0) for y in (52.0, 70.0, 90.0, 112.0)),
    *((15.0, y, -1.0, 0.0) for y in (52.0, 70.0, 90.0, 112.0)),
    *((x, 120.0, 0.0, -1.0) for x in (-8.0, 0.0, 8.0)),
)
# Room left between agent and block behind a spot, and way-points round the T a little further out.
CLEARANCE = 8.0
_MARGIN = AGENT_RADIUS + CLEARANCE + 2.0
RING: tuple[Point, ...] = (
    (-60.0 - _MARGIN, -_MARGIN),
    (60.0 + _MARGIN, -_MARGIN),
    (60.0 + _MARGIN, 30.0 + _MARGIN),
    (15.0 + _MARGIN, 120.0 + _MARGIN),
    (-15.0 - _MARGIN, 120.0 + _MARGIN),
    (-60.0 - _MARGIN, 30.0 + _MARGIN),
)
# A radian of block angle is worth this many pixels of block position.
TURN_WEIGHT = 55.0
# Leaning: the fewest and most steps, and the smallest and largest offset of a target [px].
LEAN_STEPS = (12, 40)
LEAN_OFFSETS = (0.1, 8.0)
# How far ahead of the agent its target is while walking, at most [px].
WALK_OFFSET = 55.0
# The agent does not start pushes from inside the walls.
_LOW, _HIGH = 12.0, 500.0


class PushTExpert:
    """Scripted policy bound to one simulation; `act` returns actions of the environment it was made for.

    Args:
        simulation: the world to read.
        seed: seed of the expert's own random numbers.
        goal: None to wander between target poses of its own; or (block x, y, angle), or (agent x, y, block x,
            y, angle) to push towards that pose and, in the second form, finally bring the agent to its place.
        to_action: turns an absolute target [px] into an action.
        leaning: share of the strokes, 0 to 1, that it interrupts to lean against the block. Only without a goal.
    """

    def __init__(
        self,
        simulation: PushTSimulation,
        seed: int | None,
        goal: Sequence[float] | None,
        to_action: Callable[[float, float], Any],
        leaning: float = 0.0,
    ) -> None:
        self._simulation = simulation
        self._rng = np.random.default_rng(check_seed(seed))
        self._to_action = to_action
        self._leaning = leaning
        self._task: Pose | None = None
        self._agent_goal: Point | None = None
        if goal is not None:
            values = [float(value) for value in goal]
            self._task = (values[-3], values[-2], values[-1])
            self._agent_goal = (values[0], values[1]) if len(values) == 5 else None
        self._phase = "aim"
        self._target: Pose = self._task or (0.0, 0.0, 0.0)
        self._strokes_left = 0
        self._steps_left = 0
        self._path: list[Point] = []
        self._spot: Spot = SPOTS[0]
        self._offset = 20.0
        self._noise = (0.0, 0.0)
        self._free: Point = (0.0, 0.0)
        # So many steps before the end of a stroke it begins to lean.
        self._lean_at = -1
        self._hold: Point = (0.0, 0.0)

    def act(self) -> Any:
        """The next action, in the action space of the environment this expert was made for."""
        x, y = self._target_now()
        return self._to_action(min(max(x, 0.0), ARENA), min(max(y, 0.0), ARENA))

    # ------------------------------------------------------------------ the phases

    def _target_now(self) -> Point:
        """The next absolute target [px] for the agent."""
        phases = {
            "walk": self._walk,
            "push": self._push,
            "lean": self._lean,
            "free": self._move_freely,
            "rest": self._rest,
        }
        # A phase that is over answers None and names the next; a few such changes fit into one step.
        for _ in range(3):
            if self._phase == "aim":
                self._aim()
            self._steps_left -= 1
            target = phases[self._phase]()
            if target is not None:
                return target
        return self._simulation.agent_x, self._simulation.agent_y

    def _aim(self) -> None:
        """Choose a target if need be, then the spot to push at and the way to it."""
        rng, simulation = self._rng, self._simulation
        pose = simulation.block_pose
        if self._task is None:
            self._strokes_left -= 1
            if self._strokes_left < 0 or _pose_gap(pose, self._target) < 25.0:
                self._choose_target()
            if rng.random() < 0.06:
                self._start_free_move((rng.uniform(40.0, 472.0), rng.uniform(40.0, 472.0)))
                return
        elif self._task_is_done(pose):
            goal = self._agent_goal or (simulation.agent_x, simulation.agent_y)
            path = self._way_to(goal)
            self._path = path if path else [self._to_local(goal)]
            self._phase, self._steps_left = "rest", 40
            return

        gap = _pose_gap(pose, self._target)
        wandering = self._task is None
        lengths = (12.0, 30.0, 60.0) if wandering else (3.0, 8.0, 20.0, 45.0)
        ranking: list[tuple[float, int]] = []
        here = simulation.agent_x, simulation.agent_y
        chance = rng.normal(0.0, 8.0 if wandering else 1.0, size=len(SPOTS))
        for index, spot in enumerate(SPOTS):
            behind = _to_world(pose, _behind(spot))
            if not (_LOW < behind[0] < _HIGH and _LOW < behind[1] < _HIGH):
                continue
            gains = []
            for length in lengths:
                after = _pushed(pose, spot, length)
                gains.append(gap - _pose_gap(after, self._target) - _wall_overlap(after))
            walk = math.hypot(behind[0] - here[0], behind[1] - here[1])
            ranking.append((max(gains) - (0.05 if wandering else 0.02) * walk + float(chance[index]), index))
        ranking.sort(reverse=True)
        for _, index in ranking[:4]:
            path = self._way_to(_to_world(pose, _behind(SPOTS[index])))
            if path:
                self._spot, self._path = SPOTS[index], path
                self._phase, self._steps_left = "walk", 30
                return
        self._start_free_move((256.0 + rng.normal(0.0, 80.0), 256.0 + rng.normal(0.0, 80.0)))

    def _walk(self) -> Point | None:
        """Follow the way-points; None when there."""
        simulation = self._simulation
        pose = simulation.block_pose
        while self._path:
            x, y = _to_world(pose, self._path[0])
            dx, dy = x - simulation.agent_x, y - simulation.agent_y
            distance = math.hypot(dx, dy)
            near = 8.0 if len(self._path) == 1 else 14.0
            if distance < near:
                self._path.pop(0)
                continue
            if self._steps_left <= 0:
                break
            # Far ahead on the open stretch, close by near the corners, where the agent must not overshoot.
            offset = min(WALK_OFFSET, distance + 12.0)
            return simulation.agent_x + dx * offset / distance, simulation.agent_y + dy * offset / distance
        if self._path:
            self._phase = "aim"
            return None
        self._start_push()
        return None

    def _start_push(self) -> None:
        rng = self._rng
        self._phase = "push"
        self._noise = (0.0, 0.0)
        if self._task is None:
            self._steps_left = int(rng.integers(4, 15))
            self._offset = rng.uniform(25.0, 42.0) if rng.random() < 0.25 else rng.uniform(9.0, 26.0)
            # Not drawn without leaning, so that the same seed gives the same play as ever.
            leans = self._leaning > 0 and rng.random() < self._leaning
            self._lean_at = int(rng.integers(1, self._steps_left)) if leans else -1
        else:
            self._steps_left, self._offset = 25, 24.0

    def _push(self) -> Point | None:
        """One step of a stroke along the spot's normal; None when it should end."""
        rng, simulation = self._rng, self._simulation
        pose = simulation.block_pose
        cos, sin = math.cos(pose[2]), math.sin(pose[2])
        spot_x, spot_y, normal_x, normal_y = self._spot
        u, v = self._to_local((simulation.agent_x, simulation.agent_y))
        # How far the agent has slid along the outline, and how far it still is from touching.
        slide = (u - spot_x) * -normal_y + (v - spot_y) * normal_x
        gap = (spot_x - u) * normal_x + (spot_y - v) * normal_y - AGENT_RADIUS
        if self._steps_left <= 0 or abs(slide) > 28.0 or gap < -20.0:
            self._phase = "aim"
            return None
        if self._steps_left <= self._lean_at and gap < 1.0:
            self._phase, self._steps_left = "lean", int(rng.integers(*LEAN_STEPS, endpoint=True))
            self._draw_hold()
            return None
        offset = self._offset
        if self._task is not None:
            now = _pose_gap(pose, self._target)
            best, gain = 0.0, 0.0
            for length in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
                progress = now - _pose_gap(_pushed(pose, self._spot, length), self._target)
                if progress > gain:
                    best, gain = length, progress
            if gap < 3.0 and best == 0.0:
                self._phase = "aim"
                return None
            # A target this far ahead covers about half the distance in one step.
            offset = min(offset, max(gap, 0.0) + 1.5 * best + 1.5)
        scale = 1.0 if self._task is None else 0.15
        self._noise = (
            0.7 * self._noise[0] + 4.0 * scale * float(rng.normal()),
            0.7 * self._noise[1] + 4.5 * scale * float(rng.normal()),
        )
        forward = offset + max(gap, 0.0) * 0.5 + self._noise[0]
        sideways = -0.6 * slide + self._noise[1]
        du = forward * normal_x - sideways * normal_y
        dv = forward * normal_y + sideways * normal_x
        return simulation.agent_x + cos * du - sin * dv, simulation.agent_y + sin * du + cos * dv

    def _lean(self) -> Point | None:
        """Stay where the block is touched, moving by little; None when over or when the block is lost."""
        simulation = self._simulation
        away = local_distance(*self._to_local((simulation.agent_x, simulation.agent_y))) - AGENT_RADIUS
        if self._steps_left <= 0 or away > 6.0:
            self._phase = "aim"
            return None
        if self._rng.random() < 0.3:
            self._draw_hold()
        return simulation.agent_x + self._hold[0], simulation.agent_y + self._hold[1]

    def _draw_hold(self) -> None:
        """A new offset of the target while leaning: none, or small and mostly towards the block."""
        rng = self._rng
        if rng.random() < 0.2:
            self._hold = (0.0, 0.0)
            return
        _, _, normal_x, normal_y = self._spot
        towards = math.atan2(normal_y, normal_x) + self._simulation.block_angle
        angle = towards + float(rng.normal(0.0, 0.8)) if rng.random() < 0.8 else float(rng.uniform(0.0, math.tau))
        low, high = (math.log(value) for value in LEAN_OFFSETS)
        length = math.exp(float(rng.uniform(low, high)))
        self._hold = (length * math.cos(angle), length * math.sin(angle))

    def _start_free_move(self, point: Point) -> None:
        self._phase, self._free = "free", point
        self._steps_left = int(self._rng.integers(2, 7))
        self._offset = float(self._rng.uniform(15.0, 60.0))

    def _rest(self) -> Point | None:
        """Walk to the agent's own goal and stay there; None when the block needs another push."""
        simulation = self._simulation
        pose = simulation.block_pose
        if self._steps_left <= 0 or not self._task_is_done(pose):
            self._phase = "aim"
            return None
        while True:
            x, y = _to_world(pose, self._path[0])
            dx, dy = x - simulation.agent_x, y - simulation.agent_y
            distance = math.hypot(dx, dy)
            if len(self._path) == 1 or distance > 14.0:
                break
            self._path.pop(0)
        share = min(1.0, 45.0 / max(distance, 1e-9))
        return simulation.agent_x + dx * share, simulation.agent_y + dy * share

    def _move_freely(self) -> Point | None:
        """Wander towards a random place; None when over."""
        rng, simulation = self._rng, self._simulation
        dx, dy = self._free[0] - simulation.agent_x, self._free[1] - simulation.agent_y
        distance = math.hypot(dx, dy)
        if self._steps_left <= 0 or distance < 15.0:
            self._phase = "aim"
            return None
        self._noise = (
            0.7 * self._noise[0] + 8.0 * float(rng.normal()),
            0.7 * self._noise[1] + 8.0 * float(rng.normal()),
        )
        offset = min(self._offset, distance)
        return (
            simulation.agent_x + dx * offset / distance + self._noise[0],
            simulation.agent_y + dy * offset / distance + self._noise[1],
        )

    # ------------------------------------------------------------------ targets and ways

    def _choose_target(self) -> None:
        """A new pose for the block: centre near the middle of the arena, turned either way."""
        rng = self._rng
        centre_x, centre_y = (min(max(256.0 + 70.0 * float(value), 120.0), 392.0) for value in rng.normal(size=2))
        turn = float(rng.uniform(0.2, 2.2)) * (1.0 if rng.random() < 0.5 else -1.0)
        angle = self._simulation.block_angle + turn
        self._target = (
            centre_x + math.sin(angle) * BLOCK_CENTRE,
            centre_y - math.cos(angle) * BLOCK_CENTRE,
            angle,
        )
        self._strokes_left = int(rng.integers(2, 6))

    def _task_is_done(self, pose: Pose) -> bool:
        # With a place of its own to reach the agent leaves early: the goal test allows 20 px and 20 degrees.
        # Once there it takes a larger gap to go back to pushing.
        tolerance = 3.0 if self._agent_goal is None else 12.0
        return _pose_gap(pose, self._target) < tolerance * (1.4 if self._phase == "rest" else 1.0)

    def _to_local(self, point: Point) -> Point:
        x, y, angle = self._simulation.block_pose
        cos, sin = math.cos(angle), math.sin(angle)
        dx, dy = point[0] - x, point[1] - y
        return cos * dx + sin * dy, cos * dy - sin * dx

    def _way_to(self, goal: Point) -> list[Point]:
        """Way-points in the block's frame (so that they follow it) from the agent to `goal`; empty if none.

        Straight if nothing is in the way, else along the ring round the T, whichever way is shorter and stays
        in the arena.
        """
        start = self._to_local((self._simulation.agent_x, self._simulation.agent_y))
        end = self._to_local(goal)
        if _is_clear(start, end):
            return [end]
        pose = self._simulation.block_pose
        inside = [all(0.0 < value < 512.0 for value in _to_world(pose, corner)) for corner in RING]
        count = len(RING)
        first = [i for i in range(count) if inside[i] and _is_clear(start, RING[i])]
        last = [i for i in range(count) if inside[i] and _is_clear(RING[i], end)]
        best: list[Point] = []
        best_length = math.inf
        for i in first:
            for j in last:
                for direction in (1, -1):
                    ring = [i]
                    while ring[-1] != j:
                        ring.append((ring[-1] + direction) % count)
                    if not all(inside[k] for k in ring):
                        continue
                    points = [RING[k] for k in ring]
                    length = sum(math.dist(a, b) for a, b in zip([start, *points], [*points, end], strict=True))
                    if length < best_length:
                        best, best_length = [*points, end], length
        return best


def _behind(spot: Spot) -> Point:
    """Where the agent waits before pushing at `spot`, in the block's frame."""
    distance = AGENT_RADIUS + CLEARANCE
    return spot[0] - distance * spot[2], spot[1] - distance * spot[3]


def _to_world(pose: Pose, point: Point) -> Point:
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    return pose[0] + cos * point[0] - sin * point[1], pose[1] + sin * point[0] + cos * point[1]


def _pushed(pose: Pose, spot: Spot, length: float) -> Pose:
    """Predicted block pose after pushing `length` px at `spot` along its normal (see the module's top)."""
    lever = spot[0] * spot[3] - (spot[1] - BLOCK_CENTRE) * spot[2]
    share = length / (1.0 / BLOCK_MASS + lever * lever / BLOCK_MOMENT)
    turn = share * lever / BLOCK_MOMENT
    # Half the turn first: the normal turns with the block while it is being pushed.
    middle = pose[2] + 0.5 * turn
    cos, sin = math.cos(middle), math.sin(middle)
    centre_x, centre_y = _to_world(pose, (0.0, BLOCK_CENTRE))
    centre_x += share / BLOCK_MASS * (cos * spot[2] - sin * spot[3])
    centre_y += share / BLOCK_MASS * (sin * spot[2] + cos * spot[3])
    angle = pose[2] + turn
    return centre_x + math.sin(angle) * BLOCK_CENTRE, centre_y - math.cos(angle) * BLOCK_CENTRE, angle


def _pose_gap(pose: Pose, goal: Pose) -> float:
    """Distance between two block poses [px]: centres of gravity, and a radian counted as `TURN_WEIGHT`."""
    dx = pose[0] - goal[0] - BLOCK_CENTRE * (math.sin(pose[2]) - math.sin(goal[2]))
    dy = pose[1] - goal[1] + BLOCK_CENTRE * (math.cos(pose[2]) - math.cos(goal[2]))
    turn = math.remainder(pose[2] - goal[2], math.tau)
    return math.sqrt(dx * dx + dy * dy + (TURN_WEIGHT * turn) ** 2)


def _wall_overlap(pose: Pose) -> float:
    """How far [px, summed] the T's outer corners would lie outside a safe margin of the walls."""
    total = 0.0
    for corner in ((-60.0, 0.0), (60.0, 0.0), (-15.0, 120.0), (15.0, 120.0)):
        for value in _to_world(pose, corner):
            total += max(0.0, 25.0 - value, value - 487.0)
    return total


def _is_clear(start: Point, end: Point) -> bool:
    """Whether the agent can walk straight between two points of the block's frame without touching the T."""
    length = math.dist(start, end)
    travelled = 0.0
    while travelled < length:
        share = travelled / length
        distance = local_distance(start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
        # The start may be in touch already (a stroke has just ended); leaving is fine.
        if distance < AGENT_RADIUS + 3.0 and travelled > 6.0:
            return False
        # Nothing is nearer than `distance`, so the walk may skip ahead by the free part of it.
        travelled += max(distance - AGENT_RADIUS - 3.0, 2.0)
    return True
