"""Sprites from pixels: what a survey of the data finds, the losses' known answers, and that no state is used."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from grasp_agent.data import EpisodeDataset
from grasp_agent.models import load_world_model
from grasp_agent.models.sprites import SpritesModel
from grasp_agent.models.sprites.turning import turned_by
from grasp_agent.training import SpritesRecipe, train
from grasp_agent.training.loop import Stage, run_stage
from grasp_agent.training.recipe import Run
from grasp_agent.training.sprites import SCALES, SLACK, SpritesTask, multiscale, turned_pictures
from grasp_agent.training.sprites_recipe import covered
from grasp_agent.training.survey import survey

SIDE = 48
Shape = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


def disk(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    return x**2 + y**2 < 4.0**2


def letter(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """A T whose centre of mass is at the origin."""
    y = y - 1.08
    bar, stem = (np.abs(x) < 7) & (np.abs(y + 4) < 2), (np.abs(x) < 2) & (y > -2) & (y < 8)
    return bar | stem


def square(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    return np.maximum(np.abs(x), np.abs(y)) < 5


def oblong(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    return (np.abs(x) < 8) & (np.abs(y) < 3)


COLOURS: dict[Shape, tuple[int, int, int]] = {
    disk: (200, 40, 40), letter: (60, 60, 90), square: (30, 160, 60), oblong: (40, 60, 220)
}  # fmt: skip


def drawn(shapes: list[Shape], places: NDArray[Any], angles: NDArray[Any], ground: NDArray[Any]) -> NDArray[np.uint8]:
    """A picture of shapes at places [S, 2] in pixels, turned by angles [S], each pixel averaged over 3 x 3 points."""
    fine = (np.arange(3 * SIDE) + 0.5) / 3
    y, x = np.meshgrid(fine, fine, indexing="ij")
    picture = np.repeat(np.repeat(ground, 3, 0), 3, 1).astype(np.float64)
    for shape, (px, py), a in zip(shapes, places, angles, strict=True):
        u, v = math.cos(a) * (x - px) + math.sin(a) * (y - py), math.cos(a) * (y - py) - math.sin(a) * (x - px)
        picture[shape(u, v)] = COLOURS[shape]
    return picture.reshape(SIDE, 3, SIDE, 3, 3).mean((1, 3)).round().astype(np.uint8)


def episodes(
    folder: Path, shapes: list[Shape], count: int = 12, length: int = 12, seed: int = 0, states: bool = False
) -> EpisodeDataset:
    """Shapes that jump about over a background with a stripe; actions say where the first one is."""
    rng = np.random.default_rng(seed)
    ground = np.full((SIDE, SIDE, 3), 230.0)
    ground[:, 20:24] = (150, 220, 150)
    frames = count * length
    places = rng.uniform(9, SIDE - 9, (frames, len(shapes), 2))
    angles = rng.uniform(-math.pi, math.pi, (frames, len(shapes)))
    shard = folder / "shard-00000"
    shard.mkdir(parents=True)
    np.save(shard / "frames.npy", np.stack([drawn(shapes, p, a, ground) for p, a in zip(places, angles, strict=True)]))
    np.save(shard / "actions.npy", ((places[:, 0] - SIDE / 2) / SIDE).astype(np.float32))
    np.save(shard / "lengths.npy", np.full(count, length))
    if states:
        np.save(shard / "states.npy", np.concatenate([places.reshape(frames, -1), angles], 1))
    (folder / "dataset.json").write_text(json.dumps({"format": "grasp-agent episodes", "settings": {}}))
    return EpisodeDataset(folder)


def tiny(steps: int = 4, **settings: Any) -> SpritesRecipe:
    stage = Stage("sprites", steps, batch=6, learning_rate=1e-3, log_every=2)
    stages = {
        "encoder": stage,
        "dynamics": replace(stage, name="dynamics"),
        "proposal": replace(stage, name="proposal"),
    }
    return SpritesRecipe(
        **{**stages, "dynamics_hidden": 8, "proposal_hidden": 8, "unroll": 2, "held_out": 0.2, **settings}
    )


def test_fine_motions_count_in_the_training_of_the_dynamics(tmp_path: Path) -> None:
    data, recipe = episodes(tmp_path / "data", [disk]), tiny()
    training, held_out = data.split(0.2)
    run = Run(recipe.build(data, training, held_out), data, training, held_out, tmp_path, print)
    stage = recipe.stages()[1]
    assert stage.trains == "dynamics"
    assert stage.task(run).huber == 0.02  # type: ignore[attr-defined]


# ---- survey


@pytest.mark.parametrize("shapes", [[disk], [letter, disk], [square, letter], [oblong, disk, square]])
def test_a_survey_finds_number_sizes_and_symmetries(shapes: list[Shape], tmp_path: Path) -> None:
    data = episodes(tmp_path / "data", shapes, count=20)
    found = survey(data, np.arange(20))
    by_area = sorted(shapes, key=lambda shape: shape(*_points()).sum())
    assert [s.symmetry for s in found.sprites] == [{disk: 0, letter: 1, square: 4, oblong: 2}[s] for s in by_area]
    for sprite, shape in zip(found.sprites, by_area, strict=True):
        x, y = (part[shape(*_points())] for part in _points())
        assert sprite.area == pytest.approx(len(x) / 10**2 / SIDE**2, rel=0.25)
        assert sprite.gyration == pytest.approx(2 * math.sqrt((x**2 + y**2).mean()) / SIDE, rel=0.12)
        assert sprite.radius == pytest.approx(2 * np.sqrt(x**2 + y**2).max() / SIDE, rel=0.2)
    # the background, stripe and all, though things stand before it in many frames
    np.testing.assert_allclose(found.backgrounds[0, :, 20:24], np.broadcast_to((150, 220, 150), (SIDE, 4, 3)), atol=1)
    np.testing.assert_allclose(found.backgrounds[0, :, :20], 230, atol=1)


def _points() -> tuple[NDArray[Any], NDArray[Any]]:
    axis = (np.arange(240) + 0.5) / 10 - 12
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y


def test_examples_are_frames_with_their_things_where_they_are(tmp_path: Path) -> None:
    data = episodes(tmp_path / "data", [disk, square], states=True)
    found = survey(data, np.arange(12))
    assert data.states is not None and len(found.examples) > 20
    true = data.states[found.examples, :4].reshape(-1, 2, 2) * 2 / SIDE - 1
    assert np.abs(found.places - true).max() < 0.1 and np.median(np.abs(found.places - true)) < 0.01


def test_backgrounds_are_told_apart_by_environment(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    episodes(first, [disk])
    episodes(second, [disk], seed=1)
    frames = np.load(second / "shard-00000" / "frames.npy")
    frames[:, :6] = 90
    np.save(second / "shard-00000" / "frames.npy", frames)
    data = EpisodeDataset(first, second)
    assert data.environment.tolist() == [0] * 12 + [1] * 12
    backgrounds = survey(data, np.arange(24)).backgrounds
    assert len(backgrounds) == 2 and abs(backgrounds[1, :6] - 90).max() == 0 and backgrounds[0, :6].min() > 140


def test_shards_take_turns_in_the_environments_of_their_folder(tmp_path: Path) -> None:
    episodes(tmp_path / "data", [disk], count=3)
    shard = tmp_path / "data" / "shard-00000"
    for number in (1, 2):
        copy = tmp_path / "data" / f"shard-0000{number}"
        copy.mkdir()
        for path in shard.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
    meta = {"format": "grasp-agent episodes", "settings": {"env_ids": ["a", "b"]}}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(meta))
    assert EpisodeDataset(tmp_path / "data").environment.tolist() == [0] * 3 + [1] * 3 + [0] * 3


def test_pictures_in_which_nothing_moves_are_refused(tmp_path: Path) -> None:
    data = episodes(tmp_path / "data", [disk])
    frames = np.load(tmp_path / "data" / "shard-00000" / "frames.npy")
    np.save(tmp_path / "data" / "shard-00000" / "frames.npy", np.repeat(frames[:1], len(frames), 0))
    with pytest.raises(ValueError, match="expected things that move over a still background, found none in 120 frames"):
        train(EpisodeDataset(data.folder), tiny(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- losses


def test_turned_pictures_show_turned_places() -> None:
    """A bright spot moves to where its place is turned to."""
    picture = torch.zeros(2, 1, 32, 32)
    place = torch.tensor([0.4, -0.2])
    axis = (torch.arange(32) + 0.5) / 16 - 1
    picture[:] = torch.exp(-((axis[None] - place[0]) ** 2 + (axis[:, None] - place[1]) ** 2) / 0.02)
    angles = torch.tensor([0.5, -2.0])
    turned = turned_pictures(picture, angles)[:, 0]
    found = torch.stack([(turned.sum(1) * axis).sum(1), (turned.sum(2) * axis).sum(1)], 1) / turned.sum((1, 2))[:, None]
    torch.testing.assert_close(found, turned_by(place.expand(2, 2), angles), atol=0.01, rtol=0)


def test_the_drawing_error_weighs_coarse_scales_more() -> None:
    """A constant error has the same square at all scales; a checkerboard has it at the finest alone."""
    weights = 0.5 + sum(2.0**scale for scale in range(SCALES))
    assert float(multiscale(torch.full((1, 1, 32, 32), 3.0))) == pytest.approx(9.0 * weights)
    checks = torch.ones(1, 1, 32, 32)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = -1.0
    assert float(multiscale(checks)) == pytest.approx(0.5)


class Reader(torch.nn.Module):
    """An encoder that is told the poses of the first pictures it sees, and of those that are turned."""

    def __init__(self, *answers: tuple[torch.Tensor, torch.Tensor]) -> None:
        super().__init__()
        self.answers = list(answers)
        self.seen: list[torch.Tensor] = []

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen.append(pictures)
        return self.answers.pop(0)


@pytest.fixture
def task(tmp_path: Path) -> SpritesTask:
    data = episodes(tmp_path / "data", [disk, letter])
    torch.manual_seed(0)
    model = tiny().build(data, np.arange(10), np.array([10, 11]))
    return SpritesTask(model, data, data.frame_numbers(np.arange(10)), survey(data, np.arange(10)), 6)


def test_places_are_led_to_their_spots_and_later_only_kept_near(task: SpritesTask) -> None:
    batch = task.draw(np.random.default_rng(0))
    spots = batch[1]
    places, headings = torch.zeros(6, 2, 2), torch.tensor([1.0, 0.0]).expand(6, 2, 2)
    places[-len(spots) :] = spots + torch.tensor([0.1, 0.0])
    turned = torch.zeros(3, 2, 2), torch.tensor([1.0, 0.0]).expand(3, 2, 2)
    for progress, expected in ((0.0, 2 * 0.1**2), (0.5, 2 * (0.1 - SLACK) ** 2)):
        task.model.encoder = Reader((places, headings), turned)  # type: ignore[assignment]
        assert float(task.losses(batch, progress)["spots"]) == pytest.approx(expected, rel=1e-4)


def test_equivariance_counts_what_stays_in_the_picture_and_headings_of_what_has_one(task: SpritesTask) -> None:
    images, spots, _, _ = task.draw(np.random.default_rng(0))
    angles, chosen = torch.full((3,), math.pi / 2), torch.tensor([0, 1, 1])
    places = torch.zeros(6, 2, 2)
    places[:, 0] = torch.tensor([0.5, 0.0])
    places[:, 1] = torch.tensor([0.0, 0.95])  # out of the picture, once turned
    places[2, 1] = torch.tensor([0.0, 0.2])
    headings = torch.tensor([1.0, 0.0]).expand(6, 2, 2)
    wanted, read = turned_by(places[:3], angles[:, None]), turned_by(headings[:3], angles[:, None])
    read = read.clone()
    read[:, 0] = 0.0  # a disk's
    read[2, 1] = -read[2, 1]
    for progress, expected in ((0.0, 4 / 3), (0.5, 4 / 3)):
        task.model.encoder = Reader((places, headings), (wanted, read))  # type: ignore[assignment]
        loss = task.losses((images, spots, angles, chosen), progress)["equivariance"]
        assert float(loss) == pytest.approx(expected, rel=1e-4)
    # in the second row the letter is left out: where it is read to be does not matter
    aside = wanted.clone()
    aside[0, 0] += 0.1
    aside[2, 0] += 0.3
    for progress, expected in ((0.0, 4 / 3 + 20 * (0.02 + 0.18) / 3), (0.5, 4 / 3 + 20 * 0.02 / 3)):
        task.model.encoder = Reader((places, headings), (aside, read))  # type: ignore[assignment]
        loss = task.losses((images, spots, angles, chosen), progress)["equivariance"]
        assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_the_others_are_taken_away_before_a_frame_is_turned(task: SpritesTask) -> None:
    """Pictures turned by nothing, as the encoder sees them: less what the other sprite draws."""
    images, spots, _, _ = task.draw(np.random.default_rng(0))
    batch = images, spots, torch.zeros(3), torch.tensor([0, 1, 0])
    encoder = Reader(*[(torch.zeros(n, 2, 2), torch.tensor([1.0, 0.0]).expand(n, 2, 2)) for n in (6, 3)])
    task.model.encoder = encoder  # type: ignore[assignment]
    task.losses(batch, 0.5)
    picture, background = task.model.difference(images)
    colours = picture.shape[1]
    places = torch.zeros(3, 2, 2)
    best, _ = task._best_headings(picture, background, torch.zeros(6, 2, 2), torch.tensor([1.0, 0.0]).expand(6, 2, 2))
    layers = task.model.decoder(places, best[:3], background[:3])
    for row, other in enumerate((1, 0, 1)):
        torch.testing.assert_close(
            encoder.seen[1][row, :colours], picture[row] - layers[row, other], rtol=1e-3, atol=1e-3
        )


def test_a_wrong_turn_is_found_by_drawing(task: SpritesTask) -> None:
    """A picture that the model drew itself, read a quarter turn wrong: the best heading is the one that drew it."""
    places = torch.tensor([[[-0.5, -0.5], [0.2, 0.2]]])
    true = torch.tensor([[[1.0, 0.0], [math.cos(0.3), math.sin(0.3)]]])
    background = torch.zeros(1, task.model.config.colours, 32, 32)
    with torch.no_grad():
        templates = task.model.decoder.templates
        templates[1] = 0.0
        templates[1, :, :, 12:] = 0.1
        picture = task.model.decoder(places, true, background).sum(1)
    best, wrong = task._best_headings(picture, background, places, turned_by(true, torch.tensor([[0.0, math.pi / 2]])))
    torch.testing.assert_close(best[:, 1], true[:, 1], rtol=1e-4, atol=1e-4)
    assert float(wrong) == 1.0
    assert float(task._best_headings(picture, background, places, true)[1]) == 0.0


def test_large_actions_are_covered_unless_they_are_rare() -> None:
    random = np.linspace(0, 2, 2001)  # as frequent as others up to the bound
    assert covered(random) == pytest.approx(1.98)
    expert = np.concatenate([np.linspace(0, 0.5, 900), np.linspace(0.5, 2, 100)])  # a tenth reaches out far
    assert covered(expert) == pytest.approx(0.5, abs=1e-2)
    assert covered(np.array([0.3] * 5 + [1.0] * 95)) == 1.0 and covered(np.zeros(10)) == 0.0


def test_the_models_limit_is_what_the_actions_cover(tmp_path: Path) -> None:
    data = episodes(tmp_path / "data", [disk], count=20)
    model = tiny().build(data, np.arange(16), np.arange(16, 20))
    taken = np.abs(data.actions[data.windows(np.arange(16), 2)]).max(1)  # an episode's last action is none
    assert model.action_limit is not None
    assert model.action_limit == pytest.approx(covered(taken), abs=1e-4) and taken.max() > 0


# ---- the whole training


def test_training_uses_no_simulator_state(tmp_path: Path) -> None:
    weights = []
    for name in ("with", "without"):
        data = episodes(tmp_path / name, [disk, letter], states=name == "with")
        assert (data.states is None) == (name == "without")
        train(data, tiny(), tmp_path / f"{name}_out")
        sprites = np.asarray(Image.open(tmp_path / f"{name}_out" / "sprites.png"))
        assert sprites.shape[0] == 144 and sprites.shape[1] % 288 == 0  # colour and cover of each
        weights.append(load_world_model(tmp_path / f"{name}_out" / "model").state_dict())
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key


@pytest.mark.slow
def test_sprites_find_their_things(tmp_path: Path) -> None:
    """From scratch, in two minutes, on pictures of a disk and a letter over a striped background."""
    data = episodes(tmp_path / "data", [disk, letter], count=200, states=True)
    torch.manual_seed(0)
    recipe = tiny()
    model = recipe.build(data, np.arange(190), np.arange(190, 200))
    assert isinstance(model, SpritesModel)
    task = SpritesTask(model, data, data.frame_numbers(np.arange(190)), survey(data, np.arange(190)), 24)
    run_stage(replace(recipe.encoder, steps=700, learning_rate=2e-3, clip=5.0, log_every=100), task, tmp_path, 0)
    held_out = data.frame_numbers(np.arange(190, 200))
    with torch.no_grad():
        places, headings = model.poses(model.encode(torch.from_numpy(data.frames(held_out))))
    assert data.states is not None
    true = data.states[held_out]
    gaps = (places.numpy() + 1) * SIDE / 2 - true[:, :4].reshape(-1, 2, 2)
    turn = np.stack([np.cos(true[:, 5]), np.sin(true[:, 5])], 1)
    aside = np.stack([(gaps[:, 1] * turn).sum(1), turn[:, 0] * gaps[:, 1, 1] - turn[:, 1] * gaps[:, 1, 0]], 1)
    aside -= aside.mean(0)  # a sprite's own centre may lie anywhere in its thing
    for gap in (gaps[:, 0], aside):
        assert np.median(np.linalg.norm(gap, axis=1)) < 0.7  # pixels
    turns = np.arctan2(headings[:, 1, 1], headings[:, 1, 0]).numpy() - true[:, 5]
    mean = np.angle(np.exp(1j * turns).mean())  # the sprite's own axis may point anywhere
    assert np.median(np.abs(np.angle(np.exp(1j * (turns - mean))))) < math.radians(8)
