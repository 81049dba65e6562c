"""Painting shapes on small pictures: anti-aliased, sub-pixel exact, plain NumPy.

A pixel's share of a shape is clip(0.5 - d, 0, 1), with d the signed distance [pixels] from the pixel's centre to the
shape's outline. Shapes are blended only inside the window of pixels they can touch, which is what makes this fast.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = NDArray[np.float32]
Window = tuple[slice, slice]


class Canvas:
    """Paints on square pictures uint8 [resolution, resolution, 3] of a square world; x to the right, y down.

    Args:
        resolution: side of the pictures, in pixels.
        size: side of the world, in its units.
    """

    def __init__(self, resolution: int, size: float) -> None:
        self.resolution = resolution
        self.scale = resolution / size
        self.centres = ((np.arange(resolution) + 0.5) / self.scale).astype(np.float32)
        """World coordinate of every pixel's centre along either axis."""

    def blank(self, colour: Colour) -> Image:
        """A new picture of one colour."""
        return np.full((self.resolution, self.resolution, 3), colour, dtype=np.uint8)

    def disk(self, image: Image, x: float, y: float, radius: float, colour: Colour) -> None:
        """Paint a disk; all lengths in world units."""
        window = self.window(x - radius, y - radius, x + radius, y + radius)
        if window is None:
            return
        rows, columns = window
        dx, dy = self.centres[columns] - x, self.centres[rows, None] - y
        self.blend(image, window, np.sqrt(dx * dx + dy * dy) - radius, colour)

    def rectangle(self, image: Image, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Paint a rectangle by the exact share that it has of each pixel."""
        mix(image, EVERYWHERE, self.share(x0, y0, x1, y1), colour)

    def share(self, x0: float, y0: float, x1: float, y1: float) -> NDArray[np.float32]:
        """Every pixel's share [resolution, resolution] of a rectangle."""
        edges = np.arange(self.resolution + 1) / self.scale
        along_x, along_y = (
            (np.diff(np.clip(edges, low, high)) * self.scale).astype(np.float32) for low, high in ((x0, x1), (y0, y1))
        )
        return along_y[:, None] * along_x

    def window(self, x0: float, y0: float, x1: float, y1: float) -> Window | None:
        """Pixels that a shape with this bounding box can touch, or None if it lies off the picture."""
        scale, size = self.scale, self.resolution
        left, right = max(math.floor(x0 * scale - 1), 0), min(math.ceil(x1 * scale + 1), size)
        top, bottom = max(math.floor(y0 * scale - 1), 0), min(math.ceil(y1 * scale + 1), size)
        if left >= right or top >= bottom:
            return None
        return slice(top, bottom), slice(left, right)

    def blend(self, image: Image, window: Window, distance: NDArray[np.float32], colour: Colour) -> None:
        """Paint `colour` over the window wherever the signed distance [world units] says so; eats `distance`."""
        distance *= -self.scale
        distance += 0.5
        mix(image, window, distance.clip(0.0, 1.0, out=distance), colour)


def mix(image: Image, window: Window, alpha: NDArray[np.float32], colour: Colour) -> None:
    """Paint `colour` over the window's pixels by their shares `alpha` in [0, 1]."""
    below = image[window]
    mixed = colour - below
    mixed *= alpha[..., None]
    mixed += below
    mixed += 0.5  # the cast below truncates
    image[window] = mixed


def colour_of(rgb: tuple[int, int, int]) -> Colour:
    return np.array(rgb, dtype=np.float32)


EVERYWHERE: Window = (slice(None), slice(None))
