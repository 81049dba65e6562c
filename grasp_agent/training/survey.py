"""What moves in the pictures, before anything is learnt: backgrounds, colours, and the number and look of the things.

    background     per environment, each pixel's median over many frames
    whitening      principal components of the differences from it, those that hold at least `COLOUR_SHARE` of them
    spots          connected regions that differ from the background, in each frame
    things         as many as the fullest frames show; each frame's spots are assigned to them by size and colour

A thing's symmetry is read from the angular harmonics of its spots. With z the pixels' offsets from the centre and w
how much they differ from the background,

    h_m = | sum w z^m | / sum w |z|^m,

which is 0 for all m if it is a disk, and for all m but multiples of n if n equal turns leave it as it was. So n is the
greatest common divisor of the m for which h_m is large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.sprites.config import Sprite

FRAMES = 3000
"""Frames looked at in each environment."""
CONTRAST = 20.0
"""Least difference from the background, of 255, by which a pixel belongs to a spot; added to six times the noise."""
SMALLEST = 4
"""Pixels of the smallest spot."""
COLOUR_SHARE = 0.01
FULL_SHARE = 0.05
"""Share of the frames that must show a number of spots at once for there to be so many things."""
HARMONICS = (2, 3, 4, 5)
LARGE = 0.15
"""Harmonics from here up are the thing's, below they are the pixels'."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What was found.

    Attributes:
        backgrounds: one per environment, in 0..255, [K, H, H, 3].
        whitening: from differences in 0..255 to colour channels of unit variance, [3, C].
        sprites: the things, small ones first.
        examples: numbers of frames that show each thing as a spot of its own, [E].
        places: centres of these spots in half-pictures, [E, S, 2].
    """

    backgrounds: NDArray[np.float32]
    whitening: NDArray[np.float32]
    sprites: tuple[Sprite, ...]
    examples: NDArray[np.int64]
    places: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Spot:
    centre: complex
    look: NDArray[np.float64]
    radius: float
    gyration: float
    area: float
    harmonics: NDArray[np.float64]
    inside: bool


def survey(data: EpisodeDataset, episodes: NDArray[np.int64], seed: int = 0) -> Survey:
    """Look at some frames of the episodes.

    Args:
        data: all episodes.
        episodes: numbers of those to look at.
        seed: which frames.

    Raises:
        ValueError: nothing moves over a still background.
    """
    generator = np.random.default_rng(seed)
    backgrounds, differences, numbers = [], [], []
    for environment in np.unique(data.environment[episodes]):
        there = data.frame_numbers(episodes[data.environment[episodes] == environment])
        numbers.append(np.sort(generator.choice(there, min(FRAMES, len(there)), replace=False)))
        frames = data.frames(numbers[-1]).astype(np.float32)
        backgrounds.append(np.median(frames, axis=0))
        differences.append(frames - backgrounds[-1])
    difference = np.concatenate(differences)
    spots = [_spots(picture) for picture in difference]
    full, things = _things(spots)
    if not things:
        raise ValueError(
            f"{data.folder}: expected things that move over a still background, found none in {len(spots)} frames;"
            " try another recipe, such as 'joint'"
        )
    centres = np.array([[spot.centre for spot in thing] for thing in things]).T  # [E, S]
    places = (np.stack([centres.real, centres.imag], -1) + 0.5) * (2 / data.image_size) - 1
    return Survey(
        np.stack(backgrounds),
        _whitening(difference),
        tuple(_sprite(thing, data.image_size) for thing in things),
        np.concatenate(numbers)[full],
        places.astype(np.float32),
    )


def _whitening(difference: NDArray[np.float32]) -> NDArray[np.float32]:
    pixels = difference.reshape(-1, 3).astype(np.float64)
    values, vectors = np.linalg.eigh(pixels.T @ pixels / len(pixels))
    kept = values >= COLOUR_SHARE * values.sum()
    whitening: NDArray[np.float32] = (vectors[:, kept] / np.sqrt(values[kept]))[:, ::-1].astype(np.float32)
    return whitening


def _spots(difference: NDArray[np.float32]) -> list[_Spot]:
    """The spots of one picture, [H, H, 3]."""
    strength = np.abs(difference).max(-1)
    labels, count = ndimage.label(strength > CONTRAST + 6 * np.median(strength), np.ones((3, 3)))
    spots = []
    for rows, columns in (np.nonzero(labels == number) for number in range(1, count + 1)):
        if len(rows) < SMALLEST:
            continue
        colours = difference[rows, columns].astype(np.float64)
        weight = np.linalg.norm(colours, axis=1)
        z = columns + 1j * rows
        centre = complex((weight * z).sum() / weight.sum())
        z = z - centre
        distance = np.abs(z)
        harmonics = [abs((weight * z**m).sum()) / (weight * distance**m).sum() for m in HARMONICS]
        edges = (rows.min(), columns.min(), len(difference) - 1 - rows.max(), len(difference) - 1 - columns.max())
        spots.append(
            _Spot(
                centre=centre,
                look=np.append(colours.mean(0) / 64.0, 2.0 * math.log(len(rows))),
                radius=float(distance.max()),
                gyration=math.sqrt((weight * distance**2).sum() / weight.sum()),
                area=float(weight.sum() / np.quantile(weight, 0.9)),
                harmonics=np.array(harmonics),
                inside=min(edges) > 0,
            )
        )
    return spots


def _things(spots: list[list[_Spot]]) -> tuple[NDArray[np.int64], list[list[_Spot]]]:
    """Which pictures show all things apart, and each thing's spots in these, small things first."""
    counts = np.bincount([len(found) for found in spots])
    often = np.flatnonzero(counts >= FULL_SHARE * len(spots))
    count = int(often[-1]) if len(often) else 0
    full = np.array([i for i, found in enumerate(spots) if len(found) == count], dtype=np.int64)
    if not count:
        return full, []
    shown = [sorted(spots[i], key=lambda spot: spot.area) for i in full]
    looks = np.array([[spot.look for spot in found] for found in shown])  # [E, spots, numbers]
    order = np.tile(np.arange(count), (len(full), 1))
    for _ in range(10):
        means = np.take_along_axis(looks, order[:, :, None], axis=1).mean(0)
        gaps = np.square(means[None, :, None] - looks[:, None]).sum(-1)  # [E, things, spots]
        order = np.array([linear_sum_assignment(gap)[1] for gap in gaps])
    things = [[found[k] for found, k in zip(shown, order[:, thing], strict=True)] for thing in range(count)]
    return full, sorted(things, key=lambda thing: float(np.median([spot.area for spot in thing])))


def _sprite(spots: list[_Spot], side: int) -> Sprite:
    """What all the spots of one thing look like."""
    spots = [spot for spot in spots if spot.inside] or spots
    harmonics = np.median([spot.harmonics for spot in spots], axis=0)

    def median(name: str) -> float:
        return float(np.median([getattr(spot, name) for spot in spots]))

    return Sprite(
        radius=round(2 * median("radius") / side, 4),
        gyration=round(2 * median("gyration") / side, 4),
        area=round(median("area") / side**2, 5),
        symmetry=math.gcd(*(m for m, h in zip(HARMONICS, harmonics, strict=True) if h >= LARGE)),
    )
