"""Pictures: against brute-force supersampling, sub-pixel motion, layers."""

import math

import numpy as np
import pytest

from grasp_envs.pusht_rendering import PushTRenderer

# gym-pusht's: pygame's LightGray, RoyalBlue, LightSlateGray and LightGreen.
WHITE = (255, 255, 255)
WALL_COLOUR = (211, 211, 211)
AGENT_COLOUR = (65, 105, 225)
BLOCK_COLOUR = (119, 136, 153)
GOAL_COLOUR = (144, 238, 144)


def supersampled(size, agent, block, factor=16):
    """The scene by testing factor^2 points per pixel, independently of the renderer."""
    points = (np.arange(size * factor) + 0.5) * 512.0 / (size * factor)
    x, y = np.meshgrid(points, points)
    image = np.full((size * factor, size * factor, 3), WHITE, dtype=np.float64)
    for line in (5.0, 506.0):
        for along, across in ((x, y), (y, x)):
            image[(np.abs(across - line) < 2) & (along > 3) & (along < 508)] = WALL_COLOUR
    dx, dy = x - block[0], y - block[1]
    u = math.cos(block[2]) * dx + math.sin(block[2]) * dy
    v = math.cos(block[2]) * dy - math.sin(block[2]) * dx
    bar = (np.abs(u) < 60) & (v > 0) & (v < 30)
    stem = (np.abs(u) < 15) & (v >= 30) & (v < 120)
    image[bar | stem] = BLOCK_COLOUR
    image[np.hypot(x - agent[0], y - agent[1]) < 15] = AGENT_COLOUR
    return image.reshape(size, factor, size, factor, 3).mean((1, 3))


@pytest.mark.parametrize("size", [64, 96])
def test_pictures_equal_supersampled_ones(size):
    rng = np.random.default_rng(size)
    renderer = PushTRenderer(size)
    errors = []
    for _ in range(2):
        agent = tuple(rng.uniform(20, 490, 2))
        block = (*rng.uniform(120, 390, 2), rng.uniform(-4, 4))
        picture = renderer.draw(agent, block)
        errors.append(np.abs(picture - supersampled(size, agent, block)).mean())
    assert np.mean(errors) < 0.12  # of 255, everywhere on average; OpenCV's own anti-aliasing is near 2


def test_colours_where_shapes_are_whole():
    picture = PushTRenderer(96).draw((100.0, 400.0), (300.0, 100.0, 0.0), goal=(400.0, 300.0, 0.0))
    assert picture.shape == (96, 96, 3) and picture.dtype == np.uint8

    def at(x, y):
        return tuple(int(value) for value in picture[int(y * 96 / 512), int(x * 96 / 512)])

    assert at(100, 400) == AGENT_COLOUR
    assert at(300, 115) == BLOCK_COLOUR and at(300, 130) == BLOCK_COLOUR and at(300, 180) == BLOCK_COLOUR
    assert at(400, 315) == GOAL_COLOUR and at(400, 330) == GOAL_COLOUR
    assert at(200, 256) == WHITE


def test_every_small_motion_changes_the_picture():
    renderer = PushTRenderer(96)
    rng = np.random.default_rng(0)
    block = (300.0, 200.0, 0.3)
    for _ in range(30):
        x, y = rng.uniform(30, 150, 2)
        angle = rng.uniform(0, 2 * math.pi)
        moved = (x + 0.5 * math.cos(angle), y + 0.5 * math.sin(angle))
        assert (renderer.draw((x, y), block) != renderer.draw(moved, block)).any()


def test_centre_of_mass_follows_sub_pixel_motion():
    renderer = PushTRenderer(96)
    columns = np.arange(96) + 0.5

    def centre(x):
        ink = 255.0 - renderer.draw((x, 256.0), (2000.0, 2000.0, 0.0))[40:56, 30:46, 0]
        return (ink.sum(0) * columns[30:46]).sum() / ink.sum() * 512 / 96

    errors = np.array([centre(x) - x for x in np.arange(200.0, 206.0, 0.1)])
    # 0.2 of the arena's px are 0.04 of the picture's.
    assert np.abs(errors).max() < 0.2 and abs(errors.mean()) < 0.02


def test_layers():
    renderer = PushTRenderer(128)
    scene = (100.0, 100.0), (256.0, 256.0, 0.4)
    plain = renderer.draw(*scene)
    with_goal = renderer.draw(*scene, goal=(256.0, 256.0, 0.4))
    # A goal under the block shows only through the anti-aliased rim.
    assert np.abs(plain.astype(int) - with_goal).mean() < 1.0
    with_ring = renderer.draw(*scene, goal=(256.0, 256.0, 0.4), goal_agent=(400.0, 400.0))
    changed = np.argwhere((with_ring != with_goal).any(-1)) * 4.0 + 2.0
    distance = np.hypot(changed[:, 1] - 400.0, changed[:, 0] - 400.0)
    assert len(changed) and distance.min() > 11.0 - 4.0 and distance.max() < 15.0 + 4.0
    # The agent is drawn over the block.
    over = renderer.draw((256.0, 270.0), (256.0, 256.0, 0.0))
    assert tuple(int(value) for value in over[67, 64]) == AGENT_COLOUR


def test_pictures_are_new_arrays_and_repeatable():
    renderer = PushTRenderer(64)
    first = renderer.draw((100.0, 100.0), (256.0, 256.0, 0.4), (300.0, 300.0, 0.0))
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(renderer.draw((100.0, 100.0), (256.0, 256.0, 0.4), (300.0, 300.0, 0.0)), kept)


def test_shapes_off_the_picture_are_left_out():
    renderer = PushTRenderer(64)
    picture = renderer.draw((-100.0, 256.0), (256.0, 900.0, 0.0))
    assert set(map(tuple, picture[3:-3, 3:-3].reshape(-1, 3).tolist())) == {WHITE}
    assert not (renderer.draw((3.0, 256.0), (256.0, 900.0, 0.0)) == picture).all()
