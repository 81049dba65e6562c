"""A world of one's own in forty lines: a boat on a river. It is learned and played by the ordinary commands.

    grasp-agent collect --env examples.boat:Boat-v0 --policy random --steps 20000 --out runs/boat/data
    grasp-agent train --data runs/boat/data --recipe sprites --out runs/boat/train
    grasp-agent evaluate --env examples.boat:Boat-v0 --model runs/boat/train/model --policy grasp --policy random
    grasp-agent video --env examples.boat:Boat-v0 --model runs/boat/train/model --policy grasp --out runs/boat/film.gif

Type them in the root of the repository, so that `examples.boat` is found.
docs/worlds.md shows what comes out after a shorter training.
"""

from typing import Any

import gymnasium as gym
import numpy as np

SIZE = 64
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE] / (SIZE - 1)


class Boat(gym.Env[Any, Any]):
    """The current carries the boat downwards, most in the middle of the river. Actions are the boat's own motion."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    action_space = gym.spaces.Box(-1.0, 1.0, (2,))
    picture = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
    observation_space = gym.spaces.Dict({"pixels": picture, "goal": picture})

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def draw(self, place: Any) -> Any:
        """The river, and the boat at a place (x, y) in 0..1."""
        image = np.full((SIZE, SIZE, 3), (60, 110, 180), np.uint8)
        image[:, :4] = image[:, -4:] = (90, 140, 70)
        image[np.hypot(COLUMNS - place[0], ROWS - place[1]) < 0.07] = (250, 240, 220)
        return image

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.boat, self.goal = self.np_random.uniform(0.15, 0.85, (2, 2))
        return {"pixels": self.draw(self.boat), "goal": self.draw(self.goal)}, {}

    def step(self, action: Any) -> Any:
        current = np.array([0.0, 0.02 * np.sin(np.pi * self.boat[0])])
        self.boat = np.clip(self.boat + 0.04 * np.clip(action, -1, 1) + current, 0.12, 0.88)
        distance = float(np.linalg.norm(self.boat - self.goal))
        seen = {"pixels": self.draw(self.boat), "goal": self.draw(self.goal)}
        return seen, -distance, distance < 0.04, False, {"is_success": distance < 0.04}

    def render(self) -> Any:
        return self.draw(self.boat)


gym.register("Boat-v0", "examples.boat:Boat", max_episode_steps=50)
