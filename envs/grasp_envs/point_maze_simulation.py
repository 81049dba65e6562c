"""The point maze's maps and physics: a ball driven by forces between walls.

A maze is a map of characters, `#` for a wall cell and `.` (or a space) for a free one. x counts columns and y rows, in
cells from the map's top left corner, so y points down. The cell in column c and row r covers [c, c + 1] x [r, r + 1].

Motion follows MuJoCo's default, semi-implicit Euler with the joint damping taken implicitly:

    v <- (m v + dt F) / (m + dt d),   held within +-5 per axis,   x <- x + dt v,

with m = 4.189, d = 1, dt = 0.01 s and F = 100 x push. Contact with walls is inelastic and without friction: the
velocity into the wall becomes zero, the rest stays.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_envs.validation import shown

Array = NDArray[np.float64]
Cell = tuple[int, int]

MASS = 4.189
DAMPING = 1.0
FORCE = 100.0
DT = 0.01
MAX_SPEED = 5.0
RADIUS = 0.1

# How far a ball may overlap a wall and still count as outside: only rounding.
_ROUNDING = 1e-9

MAZES: dict[str, tuple[str, ...]] = {
    "umaze": (
        "#####",
        "#...#",
        "###.#",
        "#...#",
        "#####",
    ),
    "medium": (
        "########",
        "#..##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#..#",
        "########",
    ),
    "large": (
        "############",
        "#....#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#...#",
        "############",
    ),
}


class Maze:
    """A checked map.

    Args:
        maze: one of the names in `MAZES`, or a sequence of strings.

    Attributes:
        rows: the map, one string a row, of `#` and `.` only.
        height, width: numbers of rows and columns.
        walls: `walls[row][column]` says whether the cell is a wall.
        cells: the free cells as (column, row), row by row.
        steps: int [cells, cells], the length in cells of the shortest path between any two of `cells`.

    Raises:
        ValueError: `maze` is neither a name nor a map as described at the module's top, closed by walls all round and
            with at least two free cells, each of which can be reached from every other.
    """

    def __init__(self, maze: Any) -> None:
        self.rows = _read_map(maze)
        self.height, self.width = len(self.rows), len(self.rows[0])
        self.walls = tuple(tuple(character == "#" for character in row) for row in self.rows)
        self.cells: list[Cell] = [(c, r) for r, row in enumerate(self.walls) for c, wall in enumerate(row) if not wall]
        self._check_border()
        if len(self.cells) < 2:
            raise ValueError(
                f'expected maze with at least two free cells, got {len(self.cells)}, try more "." in the map.'
            )
        self.steps = self._count_steps()

    def is_free(self, x: float, y: float) -> bool:
        """Whether the ball fits at (x, y) [cells] without overlapping a wall."""
        if not (0.0 <= x < self.width and 0.0 <= y < self.height):
            return False
        column, row = int(x), int(y)
        if self.walls[row][column]:
            return False
        # No index leaves the map: a free cell has cells on all sides.
        for r in (row - 1, row, row + 1):
            for c in (column - 1, column, column + 1):
                gap = math.hypot(max(c - x, 0.0, x - c - 1), max(r - y, 0.0, y - r - 1))
                if self.walls[r][c] and gap < RADIUS - _ROUNDING:
                    return False
        return True

    def _check_border(self) -> None:
        for column, row in self.cells:
            if column in (0, self.width - 1) or row in (0, self.height - 1):
                raise ValueError(
                    f"expected maze with walls all round, got a free cell in row {row}, column {column} "
                    '(counted from 0), try "#" there.'
                )

    def _count_steps(self) -> NDArray[np.int32]:
        """Shortest paths by a breadth-first search from every cell."""
        index = {cell: i for i, cell in enumerate(self.cells)}
        neighbours = [
            [index[near] for near in ((c, r - 1), (c - 1, r), (c + 1, r), (c, r + 1)) if near in index]
            for c, r in self.cells
        ]
        steps = np.full((len(self.cells), len(self.cells)), -1, dtype=np.int32)
        for start in range(len(self.cells)):
            reached = {start: 0}
            queue = deque([start])
            while queue:
                here = queue.popleft()
                for near in neighbours[here]:
                    if near not in reached:
                        reached[near] = reached[here] + 1
                        queue.append(near)
            if len(reached) < len(self.cells):
                column, row = next(cell for cell in self.cells if index[cell] not in reached)
                raise ValueError(
                    "expected maze whose free cells can all be reached from one another, got one cut off in "
                    f"row {row}, column {column} (counted from 0), try a way to it."
                )
            steps[start, list(reached)] = list(reached.values())
        return steps


class PointMazeSimulation:
    """The simulated ball: `set_state`, `step` with a push, read the state.

    Args:
        maze: where the ball moves. It starts at rest in the middle of the first free cell.

    Attributes:
        x, y: position of the ball's centre [cells].
        vx, vy: velocity [cells/s].
    """

    def __init__(self, maze: Maze) -> None:
        self.maze = maze
        column, row = maze.cells[0]
        self.set_state((column + 0.5, row + 0.5, 0.0, 0.0))

    def set_state(self, state: Any) -> None:
        """Put the ball into `state` = x, y, vx, vy, with x, y a free place and the velocity within +-5."""
        self.x, self.y, self.vx, self.vy = (float(value) for value in state)

    def get_state(self) -> Array:
        """float64 [4]: x, y [cells], vx, vy [cells/s]."""
        return np.array([self.x, self.y, self.vx, self.vy])

    def step(self, push_x: float, push_y: float, substeps: int) -> None:
        """Push for `substeps` x 0.01 s with 100 x the push, each component of which lies in [-1, 1]."""
        inertia = MASS + DT * DAMPING
        for _ in range(substeps):
            self.vx = _held((MASS * self.vx + DT * FORCE * push_x) / inertia)
            self.vy = _held((MASS * self.vy + DT * FORCE * push_y) / inertia)
            # At most 0.05 along either axis: the centre, a radius of 0.1 away from all walls, cannot get into one.
            self.x += DT * self.vx
            self.y += DT * self.vy
            self._leave_walls()

    def _leave_walls(self) -> None:
        """Push the ball out of the walls that it overlaps, along their normals."""
        walls = self.maze.walls
        column, row = int(self.x), int(self.y)
        # Narrower than half a cell, the ball can touch only what lies beyond the nearer edges of its cell.
        side_x = -1 if self.x - column < 0.5 else 1
        side_y = -1 if self.y - row < 0.5 else 1
        edge_x = column if side_x < 0 else column + 1
        edge_y = row if side_y < 0 else row + 1
        wall_beside, wall_above = walls[row][column + side_x], walls[row + side_y][column]
        # A ball that has just come past a corner can be leaving the wall already, and keeps that velocity.
        if wall_beside and abs(self.x - edge_x) < RADIUS:
            self.x = edge_x - side_x * RADIUS
            self.vx = min(self.vx, 0.0) if side_x > 0 else max(self.vx, 0.0)
        if wall_above and abs(self.y - edge_y) < RADIUS:
            self.y = edge_y - side_y * RADIUS
            self.vy = min(self.vy, 0.0) if side_y > 0 else max(self.vy, 0.0)
        if not wall_beside and not wall_above and walls[row + side_y][column + side_x]:
            self._leave_corner(edge_x, edge_y)

    def _leave_corner(self, corner_x: int, corner_y: int) -> None:
        """Push the ball out of a wall's corner."""
        normal_x, normal_y = self.x - corner_x, self.y - corner_y
        distance = math.hypot(normal_x, normal_y)
        if distance >= RADIUS:
            return
        normal_x /= distance
        normal_y /= distance
        self.x, self.y = corner_x + RADIUS * normal_x, corner_y + RADIUS * normal_y
        # Here too, a ball that only grazes the corner can be leaving already.
        into = min(self.vx * normal_x + self.vy * normal_y, 0.0)
        self.vx -= into * normal_x
        self.vy -= into * normal_y
        # Deflected, one component can have grown. Both shrink alike, for the velocity to stay along the corner.
        excess = max(abs(self.vx), abs(self.vy)) / MAX_SPEED
        if excess > 1.0:
            self.vx = _held(self.vx / excess)
            self.vy = _held(self.vy / excess)


def _held(velocity: float) -> float:
    return min(max(velocity, -MAX_SPEED), MAX_SPEED)


def _read_map(maze: Any) -> tuple[str, ...]:
    """The rows of a maze given by name or as strings, all of one length and of `#` and `.` only."""
    names = ", ".join(repr(name) for name in MAZES)
    if isinstance(maze, str):
        if maze not in MAZES:
            raise ValueError(
                f"expected maze to be one of {names} or a sequence of strings, got {shown(maze)}, try 'umaze'."
            )
        return MAZES[maze]
    if not isinstance(maze, (list, tuple)) or not maze or not all(isinstance(row, str) for row in maze):
        raise ValueError(
            f"expected maze to be one of {names} or a sequence of strings, got {shown(maze)}, "
            'try ["####", "#..#", "####"].'
        )
    rows = tuple(row.replace(" ", ".") for row in maze)
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise ValueError(f'expected maze with rows of one length, got lengths {lengths}, try filling up with "#".')
    others = sorted(set("".join(rows)) - {"#", "."})
    if others:
        raise ValueError(
            f'expected maze of "#" (wall) and "." or " " (free), got {others}, try one of these for every cell.'
        )
    return rows
