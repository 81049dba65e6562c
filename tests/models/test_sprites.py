"""Sprites: what their latents measure, how they are drawn, and dynamics that look the same from every side."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from grasp_agent.core.capabilities import decodes, driven_of, proposes
from grasp_agent.models import load_world_model, save_pretrained
from grasp_agent.models.sprites import Sprite, SpritesConfig, SpritesModel
from grasp_agent.models.sprites.colours import Difference
from grasp_agent.models.sprites.config import UNITS
from grasp_agent.models.sprites.decoder import GAIN, SpriteDecoder
from grasp_agent.models.sprites.dynamics import LENGTH
from grasp_agent.models.sprites.refinement import refined

DISK = Sprite(radius=0.1, gyration=0.05, area=0.005, symmetry=0)
LETTER = Sprite(radius=0.4, gyration=0.2, area=0.05, symmetry=1)
SQUARE = Sprite(radius=0.3, gyration=0.15, area=0.1, symmetry=4)
SETS = ((DISK, LETTER), (DISK,), (SQUARE, LETTER, DISK))


def config(*sprites: Sprite, **sizes: object) -> SpritesConfig:
    small = {"encoder_channels": 4, "template": 12, "dynamics_hidden": 16, "dynamics_depth": 1}
    return SpritesConfig(image_size=32, sprites=sprites, input_size=16, **{**small, **sizes})  # type: ignore[arg-type]


def model_of(*sprites: Sprite, seed: int = 0, **sizes: object) -> SpritesModel:
    torch.manual_seed(seed)
    return SpritesModel(config(*sprites, **sizes)).eval()


def turned(vectors: Tensor, angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return vectors @ torch.tensor([[cos, sin], [-sin, cos]])


def state(settings: SpritesConfig, places: Tensor, angles: Tensor) -> Tensor:
    """A latent [D] of places [S, 2] in half-pictures and angles [S]."""
    parts = [places.flatten() * UNITS]
    for i in settings.turning:
        phase = settings.sprites[i].symmetry * angles[i]
        parts.append(settings.heading_length(i) * torch.stack([phase.cos(), phase.sin()]))
    return torch.cat(parts)


# ---- latents


def test_latents_are_read_in_pixels_and_degrees() -> None:
    model = model_of(DISK, SQUARE)
    goal = state(model.config, torch.zeros(2, 2), torch.tensor([0.0, 0.1]))
    # 3 and 4 of 16 pixels in half a picture; the square a quarter of a turn and 6 degrees further
    angles = torch.tensor([0.0, 0.1 + math.pi / 2 + math.radians(6.0)])
    there = state(model.config, torch.tensor([[3.0, 4.0], [0.0, -1.0]]) / 16, angles)
    assert model.readout is not None
    errors = model.readout.errors(torch.stack([goal, there]), goal)
    assert list(errors) == ["sprite1_px", "sprite2_px", "sprite2_deg"]
    torch.testing.assert_close(errors["sprite1_px"], torch.tensor([0.0, 5.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(errors["sprite2_px"], torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(errors["sprite2_deg"], torch.tensor([0.0, 6.0]), atol=1e-2, rtol=0)


def test_a_goal_is_reached_within_a_twenty_fifth_of_the_picture_and_twenty_degrees() -> None:
    model = model_of(DISK, LETTER)
    goal = state(model.config, torch.zeros(2, 2), torch.zeros(2))

    def reached(disk: float, letter: float, degrees: float) -> bool:
        places = torch.tensor([[disk, 0.0], [0.0, letter]]) * 2  # shares of the picture's side
        there = state(model.config, places, torch.tensor([0.0, math.radians(degrees)]))
        return bool(model.readout.reaches(there, goal))

    assert reached(0.039, 0.0, 19.0) and reached(0.0, 0.039, -19.0)
    assert not reached(0.041, 0.0, 0.0) and not reached(0.03, 0.03, 0.0) and not reached(0.0, 0.0, 21.0)


@pytest.mark.parametrize("other", [DISK, SQUARE])
def test_the_distance_of_latents_is_how_far_the_points_of_the_things_move(other: Sprite) -> None:
    """Mean square over the points of all things, each as large as it covers the picture; the largest counts 1."""
    generator = torch.Generator().manual_seed(0)
    settings = config(other, LETTER)
    points = torch.randn(2, 4000, 2, generator=generator)
    points = points - points.mean(1, keepdim=True)
    points = points / points.square().sum(-1).mean(1).sqrt()[:, None, None]  # gyration 1
    points = points * torch.tensor([s.gyration for s in settings.sprites])[:, None, None]
    before, after = torch.tensor([[0.1, 0.2], [-0.3, 0.0]]), torch.tensor([[0.3, 0.1], [-0.2, 0.2]])
    turns = torch.tensor([0.03 if other is SQUARE else 0.0, 0.02])
    moved = [turned(points[i], float(turns[i])) + after[i] - points[i] - before[i] for i in (0, 1)]
    squares = [UNITS**2 * m.square().sum(-1).mean() for m in moved]
    largest = max(other.area, LETTER.area)
    expected = squares[0] * other.area / largest + squares[1] * LETTER.area / largest
    start, end = (state(settings, p, a) for p, a in ((before, 0 * turns), (after, turns)))
    weighted = (torch.tensor(settings.distance_weights) * (end - start).square()).sum()
    assert float(weighted) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("sprites", SETS)
def test_encoding_gives_places_in_the_picture_and_headings_of_their_length(sprites: tuple[Sprite, ...]) -> None:
    model = model_of(*sprites)
    frames = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    latents = model.encode({"pixels": frames})
    assert tuple(latents.shape) == (3, *model.state_shape) == (3, 2 * (len(sprites) + len(model.config.turning)))
    assert latents[:, : 2 * len(sprites)].abs().max() < 1.1 * UNITS
    for i in model.config.turning:
        first = model.config.heading(i)
        lengths = latents[:, first : first + 2].norm(dim=1)
        torch.testing.assert_close(lengths, torch.full((3,), model.config.heading_length(i)), rtol=1e-4, atol=1e-4)
    places, headings = model.poses(latents)
    torch.testing.assert_close(places.flatten(1) * UNITS, latents[:, : 2 * len(sprites)])
    assert torch.allclose(headings.norm(dim=2), torch.ones(3, len(sprites)), atol=1e-4)


@pytest.mark.parametrize("sprites", SETS)
def test_a_saved_model_comes_back_the_same(sprites: tuple[Sprite, ...], tmp_path: Path) -> None:
    model = model_of(*sprites, proposal_hidden=8, proposal_depth=1)
    loaded = load_world_model(save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config and decodes(loaded) and proposes(loaded)
    frames = torch.full((2, 32, 32, 3), 200, dtype=torch.uint8)
    assert torch.equal(loaded.encode(frames), model.encode(frames))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sprites": ()}, "sprites: expected at least one"),
        ({"encoder_channels": 6}, "encoder_channels: expected a multiple of 4, got 6"),
        ({"input_size": 20}, "input_size: expected a multiple of 8, got 20"),
        ({"history": 0}, "history: expected a whole number of at least 1, got 0"),
        ({"action_limit": 0.0}, "action_limit: expected a finite number above 0"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(config(LETTER), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("radius", 0.0), ("gyration", -1.0), ("area", 3.0), ("symmetry", -1)])
def test_a_sprite_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"Sprite.{name}"):
        replace(LETTER, **{name: value})


# ---- pictures


def test_difference_and_background_are_taken_from_the_background_that_fits() -> None:
    """Two backgrounds, grey 100 and the same with a bright left half; a picture of each with a dark square."""
    difference = Difference(image_size=8, backgrounds=2, colours=1, size=4)
    plain = torch.full((8, 8, 3), 100.0)
    marked = plain.clone()
    marked[:, :3] = 200.0
    difference.set(torch.stack([plain, marked]), torch.tensor([[1.0], [0.0], [0.0]]))
    frames = torch.stack([plain, marked])
    frames[:, 6:, 6:] = 40.0
    gap, below = difference(frames.to(torch.uint8))
    expected = torch.zeros(2, 1, 4, 4)
    expected[:, :, 3, 3] = -60.0
    torch.testing.assert_close(gap, expected)
    wanted = torch.zeros(2, 1, 4, 4)
    wanted[1, 0, :, 0], wanted[1, 0, :, 1] = 100.0, 50.0  # columns 0-1, and half of 2-3
    torch.testing.assert_close(below, wanted)
    shown = difference.frames(torch.zeros(1, 1, 8, 8), number=1)
    torch.testing.assert_close(shown[0], marked / 255)


def test_another_light_makes_no_difference() -> None:
    """All colours dimmed and tinted; a black background tells nothing of the light."""
    torch.manual_seed(0)
    difference = Difference(image_size=16, backgrounds=1, colours=2, size=8)
    ground = 100 + 100 * torch.rand(1, 16, 16, 3)
    difference.set(ground, torch.randn(3, 2))
    frames = ground.repeat(2, 1, 1, 1)
    frames[:, 4:9, 4:9] = 40.0
    for plain, lit in zip(difference(frames), difference(frames * torch.tensor([0.5, 0.8, 1.1])), strict=True):
        torch.testing.assert_close(lit, plain, rtol=1e-4, atol=1e-3)
    difference.set(0 * ground, torch.eye(3)[:, :2])
    shown, _ = difference(torch.full((1, 16, 16, 3), 7.0))
    torch.testing.assert_close(shown, torch.full((1, 2, 8, 8), 7.0))


def sprite_with(decoder: SpriteDecoder, sprite: int, pages: Tensor) -> None:
    """Let a sprite's template be pages [C + 1, side, side], the last one cover, before its window."""
    decoder.templates.data[sprite], decoder.cover.data[sprite] = pages[:-1] / GAIN, pages[-1:] / GAIN


def test_a_sprite_is_drawn_at_its_place_turned_by_its_heading() -> None:
    """A sprite whose right half is bright: its centre of brightness lies in the direction of its heading."""
    decoder = SpriteDecoder(config(LETTER, colours=1))
    pages = torch.zeros(2, 12, 12)
    pages[0, :, 6:] = 1.0
    sprite_with(decoder, 0, pages)
    grid = (torch.arange(64) + 0.5) / 32 - 1
    for angle in (0.0, 0.7, math.pi / 2, -2.0):
        place, heading = torch.tensor([[[0.2, -0.1]]]), torch.tensor([[[math.cos(angle), math.sin(angle)]]])
        drawn = decoder(place, heading, torch.zeros(1, 1, 64, 64))[0, 0, 0].detach()
        x, y = (drawn.sum(0) * grid).sum() / drawn.sum() - 0.2, (drawn.sum(1) * grid).sum() / drawn.sum() + 0.1
        assert float(torch.atan2(y, x)) == pytest.approx(angle, abs=0.03)
        assert 0.1 < float(torch.hypot(x, y)) < 0.3


def test_a_disk_is_drawn_alike_with_any_heading_and_a_square_alike_after_a_quarter_turn() -> None:
    torch.manual_seed(0)
    decoder = SpriteDecoder(config(DISK, SQUARE))
    places, background = torch.zeros(1, 2, 2), torch.zeros(1, 2, 16, 16)

    def drawn(phase: float) -> Tensor:
        return decoder(places, torch.tensor([[[math.cos(phase), math.sin(phase)]] * 2]), background)[0]

    torch.testing.assert_close(drawn(0.0)[0], drawn(1.0)[0])
    # a phase of the square is four times its angle: half a turn of the phase turns it by 45 degrees
    assert (drawn(0.0)[1] - drawn(math.pi)[1]).abs().max() > 0.1
    torch.testing.assert_close(drawn(0.0)[1], drawn(2 * math.pi)[1], rtol=1e-4, atol=1e-4)


def test_a_covering_sprite_hides_what_lies_under_it() -> None:
    """Colour 1 over a background of 5 differs from it by 1 - 5 where the sprite covers, and by 0 elsewhere."""
    decoder = SpriteDecoder(config(SQUARE, colours=1))
    sprite_with(decoder, 0, torch.ones(2, 12, 12))
    drawn = decoder(torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.0]]]), torch.full((1, 1, 16, 16), 5.0))[
        0, 0, 0
    ].detach()
    assert float(drawn[8, 8]) == pytest.approx(-4.0, abs=1e-3)
    assert float(drawn[0, 0]) == 0.0


# ---- dynamics


@pytest.mark.parametrize("sprites", SETS)
def test_without_its_own_place_a_frame_predicts_the_same_from_every_side(sprites: tuple[Sprite, ...]) -> None:
    """Turned and shifted as a whole, the world moves turned and shifted, once the walls are out of sight."""
    model = model_of(*sprites, action_scale=0.3)
    settings, dynamics = model.config, model.dynamics
    for number, j in enumerate(dynamics.frames):
        first, vectors, plain = dynamics.networks[number][0], *dynamics.sizes[3 * number : 3 * number + 2]
        if not settings.turning:
            pytest.skip("frames of disks have the axes of the picture")
        assert isinstance(first, torch.nn.Linear)
        first.weight.data[:, vectors : vectors + plain] = 0.0
        dynamics.networks[number][-1].weight.data.normal_(std=0.3)  # type: ignore[union-attr, operator]
        assert j in settings.turning
    generator = torch.Generator().manual_seed(3)
    count = len(sprites)
    places, angles = torch.rand(3, count, 2, generator=generator) - 0.5, torch.rand(3, count, generator=generator)
    angles = 0.4 * angles  # the frame of a square is told but for quarter turns: stay within one
    actions = torch.randn(1, 3, 2, generator=generator)
    turn, shift = 0.3, torch.tensor([0.2, -0.3])
    here = torch.stack([state(settings, p, a) for p, a in zip(places, angles, strict=True)])
    there = torch.stack(
        [state(settings, turned(p, turn) + shift, a + turn) for p, a in zip(places, angles, strict=True)]
    )
    after, moved = dynamics(here[None], actions)[0], dynamics(there[None], turned(actions, turn))[0]
    assert (after - here[-1]).abs().max() > 0.1
    ends = 2 * count
    torch.testing.assert_close(
        moved[:ends].view(-1, 2), turned(after[:ends].view(-1, 2), turn) + UNITS * shift, rtol=1e-3, atol=1e-3
    )
    for i in settings.turning:
        first_number = settings.heading(i)
        part = slice(first_number, first_number + 2)
        torch.testing.assert_close(moved[part], turned(after[part], sprites[i].symmetry * turn), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("action_dim", [1, 2, 3])
def test_the_window_reaches_the_networks_as_it_is_described(action_dim: int) -> None:
    """The first frame's inputs, written out by hand for a disk and a letter."""
    model = model_of(DISK, LETTER, action_dim=action_dim, action_scale=0.5)
    seen: list[Tensor] = []
    model.dynamics.networks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    generator = torch.Generator().manual_seed(5)
    states, actions = torch.randn(1, 3, 6, generator=generator), torch.randn(1, 3, action_dim, generator=generator)
    model.predict(states, actions)
    now, length = states[0, -1], model.config.heading_length(1)
    cos, sin = now[4] / length, now[5] / length
    into = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])
    vectors = [(now[0:2] - now[2:4]) / LENGTH]
    vectors += [states[0, t + 1, k : k + 2] - states[0, t, k : k + 2] for k in (0, 2) for t in (0, 1)]
    acted = actions.flatten() / 0.5
    pairs = action_dim % 2 == 0
    vectors += list(acted.view(-1, 2)) if pairs else []
    expected = [(torch.stack(vectors) @ into).flatten(), now[2:4] / LENGTH]
    expected += [torch.stack([cos, sin])] if pairs else [acted, torch.stack([cos, sin])]
    numbers = torch.cat(expected)
    torch.testing.assert_close(seen[0][0, : len(numbers)], numbers)


def test_displacements_and_actions_move_sprites_by_learned_filters() -> None:
    model = model_of(DISK, LETTER)
    dynamics = model.dynamics
    dynamics.networks[0][-1].weight.data.zero_()  # type: ignore[union-attr, operator]
    dynamics.own.data[0, 1] = 0.5  # half of the disk's last displacement
    dynamics.driven.data[4, 1] = 2.0  # the last action's x moves the disk along y
    states, actions = torch.zeros(1, 3, 6), torch.zeros(1, 3, 2)
    states[..., 4] = model.config.heading_length(1)
    states[0, 1:, 0] = torch.tensor([1.0, 3.0])
    actions[0, 2, 0] = 0.25
    following = model.predict(states, actions)[0]
    expected = states[0, -1].clone()
    expected[0] += 0.5 * 2.0
    expected[1] += 2.0 * 0.25
    torch.testing.assert_close(following, expected)


@pytest.mark.parametrize(("told", "share"), [(0.003, 1 / 101), (0.03, 0.5), (3.0, 1.0)])
def test_what_would_move_a_sprite_by_less_than_a_dead_band_hardly_does(told: float, share: float) -> None:
    model = model_of(DISK, LETTER)
    length = model.config.heading_length(1)
    last = model.dynamics.networks[0][-1]  # type: ignore[index]
    last.weight.data.zero_()  # type: ignore[union-attr]
    last.bias.data = torch.tensor([told, 0.0, 0.0, told, told / length])  # type: ignore[union-attr]
    states = torch.zeros(1, 3, 6)
    states[..., 4] = length  # not turned, so that the letter's frame has the axes of the picture
    moved = model.predict(states, torch.zeros(1, 3, 2))[0]
    torch.testing.assert_close(moved[:4], share * torch.tensor([told, 0.0, 0.0, told]), rtol=2e-3, atol=1e-6)
    turn = torch.atan2(moved[5], moved[4])
    torch.testing.assert_close(turn, torch.tensor(share * told / length), rtol=2e-3, atol=1e-6)


def test_actions_hardly_move_what_they_do_not_drive() -> None:
    model = model_of(DISK, LETTER)
    model.dynamics.networks[0][-1].weight.data.zero_()  # type: ignore[index, union-attr, operator]
    model.dynamics.driven.data[4] = torch.tensor([2.0, 0.0, 0.05, 0.0])
    states, actions = torch.zeros(1, 3, 6), torch.zeros(1, 3, 2)
    actions[0, 2, 0] = 1.0
    states[..., 4] = model.config.heading_length(1)
    moved = model.predict(states, actions)[0]
    torch.testing.assert_close(moved[0], torch.tensor(2.0))
    assert 0 < moved[2] < 0.001


def test_what_the_actions_move_is_read_from_the_filter() -> None:
    model = model_of(DISK, LETTER)
    model.dynamics.driven.data[:, 0:2], model.dynamics.driven.data[:, 2:4] = 0.1, 0.03
    assert model.driven == (True, True, False, False, False, False)
    assert driven_of(model) == model.driven
    model.dynamics.driven.data[:, 2] = 0.3
    assert model.driven == (False, False, True, True, True, True)
    model.dynamics.driven.data[:, 0:4] = 0.2
    assert model.driven == (True,) * 6  # a sprite of its own kind each


# ---- proposals


def test_proposals_turn_with_the_world_and_can_leave_the_other_things_goal_out() -> None:
    model = model_of(DISK, LETTER, proposal_hidden=16, proposal_depth=1)
    assert model.proposal is not None
    context, settings = model.proposal.context, model.config
    generator = torch.Generator().manual_seed(2)
    places, angles = torch.rand(4, 2, 2, generator=generator) - 0.5, torch.rand(4, 2, generator=generator)
    past = torch.randn(1, 2, 2, generator=generator)

    def features(turn: float, goal_disk: float, shown: float) -> tuple[Tensor, Tensor]:
        rows = [state(settings, turned(p, turn), a + turn) for p, a in zip(places, angles, strict=True)]
        goal = rows[3].clone()
        goal[0] += goal_disk
        return context(torch.stack(rows[:3])[None], turned(past, turn), goal[None], torch.tensor([[shown]]))

    (here, into), (there, into_there) = features(0.0, 0.0, 1.0), features(0.8, 0.0, 1.0)
    assert here.shape == (1, context.size)
    torch.testing.assert_close(here[:, :-3], there[:, :-3], rtol=1e-4, atol=1e-4)  # all but the place of the frame
    vector = torch.tensor([[[0.3, -0.4]]])
    torch.testing.assert_close(vector @ into, turned(vector, 0.8) @ into_there, rtol=1e-4, atol=1e-4)
    assert not torch.equal(features(0.0, 5.0, 1.0)[0], here)
    assert torch.equal(features(0.0, 5.0, 0.0)[0], features(0.0, 0.0, 0.0)[0])


# ---- refinement


@pytest.mark.parametrize("sprites", [(DISK, LETTER), (SQUARE, LETTER)])
def test_refinement_finds_the_pose_that_drew_the_picture(sprites: tuple[Sprite, ...]) -> None:
    """Off by a pixel and by six degrees, two steps bring every pose most of the way back; over a background as well."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    decoder = SpriteDecoder(config(*sprites, template=24))
    blurred = torch.nn.functional.avg_pool2d(torch.randn(2, 2, 32, 32, generator=generator), 9, 1)
    decoder.templates.data = blurred * (3 / GAIN)
    decoder.cover.data = torch.full((2, 1, 24, 24), 0.5 / GAIN)
    background = torch.zeros(5, 2, 64, 64)
    background[:, :, 20:40] = 0.3
    places = torch.rand(5, 2, 2, generator=generator) - 0.5
    angles = torch.rand(5, 2, generator=generator) * 6
    headings = torch.stack([angles.cos(), angles.sin()], -1)
    picture = decoder(places, headings, background).sum(1).detach()
    turn = 0.1 * torch.tensor([float(max(sprite.symmetry, 1)) for sprite in sprites])
    start = torch.stack([(angles + turn).cos(), (angles + turn).sin()], -1)
    found, turned_back = refined(decoder, picture, background, places + 1 / 32, start)
    assert (found - places).norm(dim=-1).max() < 0.2 * 2**0.5 / 32
    for i, sprite in enumerate(sprites):
        before, after = ((h[:, i] - headings[:, i]).norm(dim=-1).max() for h in (start, turned_back))
        assert after < 0.15 * before if sprite.symmetry else torch.equal(turned_back[:, i], start[:, i])


def test_no_pose_explains_the_picture_worse_than_before() -> None:
    """Pictures of noise, in which steps lead anywhere: where they would have made it worse, the pose stays."""
    torch.manual_seed(0)
    decoder = SpriteDecoder(config(DISK, LETTER))
    decoder.templates.data *= 3
    angles, places = 6 * torch.rand(64, 2), torch.rand(64, 2, 2) - 0.5
    headings = torch.stack([angles.cos(), angles.sin()], -1)
    picture, background = torch.randn(64, 2, 32, 32), torch.zeros(64, 2, 32, 32)
    found, turned_to = refined(decoder, picture, background, places, headings)
    before, after = (
        (picture - decoder(p, h, background).sum(1)).square().sum((1, 2, 3)).detach()
        for p, h in ((places, headings), (found, turned_to))
    )
    assert (after <= before * (1 + 1e-5)).all() and (after < before).any()
    kept = (found == places).all(2).all(1)
    assert 0 < int(kept.sum()) < 64 and torch.equal(turned_to[kept], headings[kept])
