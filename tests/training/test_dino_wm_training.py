"""Training a DINO-WM: what is learnt and what is not, that it resumes exactly, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dot_world
import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_dino import FEATURES, tiny_backbone, tiny_dino

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.cli import main
from grasp_agent.core.types import Budget
from grasp_agent.data import CollectSettings, EpisodeDataset, collect
from grasp_agent.models import DinoWMConfig, DinoWorldModel, load_world_model
from grasp_agent.planning import GRASP
from grasp_agent.training import RECIPES, DinoWMRecipe, train
from grasp_agent.training.loop import Stage, read_log, run_stage
from grasp_agent.training.patches import PatchTask, patch_errors


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("backbone") / "tiny"
    written: Any = tiny_backbone(2)
    written.save_pretrained(folder)
    return str(folder)


def tiny_recipe(backbone: str, steps: int = 6, **changes: Any) -> DinoWMRecipe:
    sizes = {"action_features": 6, "depth": 2, "heads": 2, "dim_head": 8, "mlp_dim": 48, "decoder_channels": 2}
    config = DinoWMConfig(image_size=16, grid=2, **{**sizes, **changes})  # type: ignore[arg-type]
    stage = Stage("predictor", steps, batch=16, learning_rate=1e-2, checkpoint_seconds=1e-9, log_every=2)
    return DinoWMRecipe(config, backbone, stage, held_out=0.3)


@pytest.fixture(scope="session")
def dot_data(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """200 episodes of 16 frames in which a dot goes where random actions push it: copying is a poor prediction."""
    dot_world.register()
    settings = CollectSettings(
        (dot_world.ENV_ID,), steps=3000, shard_steps=3000, episode_length=15, resolution=16, policy="random"
    )
    return EpisodeDataset(collect(settings, tmp_path_factory.mktemp("dot") / "data", workers=1))


def test_it_learns_saves_loads_and_plans(dot_data: EpisodeDataset, backbone: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(backbone, dropout=0.0, dim_head=16, mlp_dim=96)
    stage = replace(recipe.dynamics, steps=200, batch=32, learning_rate=2e-2, checkpoint_seconds=60.0, log_every=50)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    messages: list[str] = []
    metrics = train(dot_data, replace(recipe, dynamics=stage), tmp_path, on_message=messages.append)
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's random numbers were used"
    assert len(messages) == 1
    assert metrics["prediction_error"] < 0.7 * metrics["copy_error"], metrics
    assert list(metrics["relative_latent_error_by_step"]) == ["5", "10", "15"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    rows = read_log(tmp_path)
    assert rows[-1]["visual"] < 0.6 * rows[0]["visual"] and rows[-1]["reconstruction"] < 0.6 * rows[0]["reconstruction"]
    assert (tmp_path / "curves.png").is_file()

    model = load_world_model(tmp_path / "model")
    assert isinstance(model, DinoWorldModel)
    info = json.loads((tmp_path / "model" / "config.json").read_text())["info"]
    assert info["metrics"] == metrics and info["recipe"]["backbone"] == backbone
    task = PatchTask(model, dot_data, dot_data.split(0.3)[1], batch=32)
    assert patch_errors(task, 3)["prediction_error"] == pytest.approx(metrics["prediction_error"], rel=1e-4)
    task.windows.actions = task.windows.actions.flip(0)
    assert patch_errors(task, 3)["prediction_error"] > 1.5 * metrics["prediction_error"], "actions are not read"

    env = gym.make(dot_world.ENV_ID, obs_type="pixels")
    agent = MPCAgent(
        model,
        env.action_space,
        replace(GRASP.for_model(model), restarts=2, candidates=1, refresh=0),
        horizon=2,
        budget=Budget(2),
    )
    observation, _ = env.reset(seed=0)
    agent.reset()
    for _ in range(7):
        observation, *_ = env.step(agent.act(observation))
    assert agent.diagnostics is not None and np.isfinite(agent.diagnostics.prediction_error).all()
    env.close()


def test_means_and_deviations_come_from_the_data(placed_data: EpisodeDataset, backbone: str, tmp_path: Path) -> None:
    given = tiny_recipe(backbone, steps=2, proprio_dim=2, proprio_features=3, proprio_mean=(1.0, 2.0))
    train(placed_data, given, tmp_path)
    model = load_world_model(tmp_path / "model")
    assert isinstance(model, DinoWorldModel) and placed_data.proprio is not None
    inside = np.concatenate([np.arange(31 * e, 31 * e + 30) for e in range(6)])  # the last two episodes are held out
    np.testing.assert_allclose(model.config.action_mean, placed_data.actions[inside].mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.config.action_std, placed_data.actions[inside].std(0), rtol=1e-4)
    np.testing.assert_allclose(model.config.proprio_std, placed_data.proprio[inside].std(0), rtol=1e-4)
    assert model.config.proprio_mean == (1.0, 2.0)
    assert {"visual", "proprio", "reconstruction", "loss"} < read_log(tmp_path)[-1].keys()


def test_the_loss_is_teacher_forced_over_all_frames(placed_data: EpisodeDataset) -> None:
    model = tiny_dino(image_size=16, proprio_dim=2, decoder_channels=2).train()
    task = PatchTask(model, placed_data, np.arange(8), batch=3)
    model.eval()
    present = torch.tensor([0, 12, 31 + 12])
    images, proprio, actions = task.window(present, 1)
    assert images.shape == (3, 4, 16, 16, 3) and proprio.shape == (3, 4, 2) and actions.shape == (3, 3, 10)
    for row, numbers in enumerate(([0, 0, 0, 5], [2, 7, 12, 17], [33, 38, 43, 48])):
        assert np.array_equal(images[row], placed_data.frames(np.array(numbers)))
        assert placed_data.states is not None
        np.testing.assert_allclose(proprio[row], placed_data.states[numbers, :2], rtol=1e-6)
        for t in range(3):
            steps = placed_data.actions[numbers[t + 1] - 5 : numbers[t + 1]]
            assert np.array_equal(
                actions[row, t].view(5, 2), steps if numbers[t] < numbers[t + 1] else np.zeros((5, 2))
            )

    terms = task.losses((images, proprio, actions, torch.tensor(0)), 0.0)
    states = task.encoded(images, proprio)
    gaps = []
    for t in range(3):  # frame t + 1 is predicted from the frames up to t: later ones may be anything
        cut = states[:, :3].clone()
        cut[:, t + 1 :] = 7.0
        gaps.append((model.predict_all(cut, actions)[:, t] - states[:, t + 1]).square())
    gap = torch.stack(gaps)
    torch.testing.assert_close(terms["visual"], gap[..., :FEATURES].mean())
    torch.testing.assert_close(terms["proprio"], gap[..., FEATURES:].mean())
    torch.testing.assert_close(terms["loss"], gap.mean() + terms["reconstruction"])

    terms["reconstruction"].backward(retain_graph=True)
    assert model.proprio_embedding is not None and model.decoder is not None
    assert all(p.grad is None for p in [*model.predictor.parameters(), *model.proprio_embedding.parameters()])
    terms["loss"].backward()
    assert all(p.grad is not None for p in task.module.parameters())
    assert all(p.grad is None for p in model.backbone.parameters())
    assert not {id(p) for p in model.backbone.parameters()} & {id(p) for p in task.module.parameters()}


@pytest.mark.parametrize("interrupt", [2, 5])
def test_an_interrupted_training_ends_as_if_nothing_had_happened(
    interrupt: int, pusht_data: EpisodeDataset, backbone: str, tmp_path: Path
) -> None:
    recipe = tiny_recipe(backbone)  # with dropout
    recipe = replace(recipe, dynamics=replace(recipe.dynamics, log_every=1))
    whole = train(pusht_data, recipe, tmp_path / "whole")

    def stop(_: str, step: int, *__: Any) -> None:
        if step == interrupt:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(pusht_data, recipe, tmp_path / "parts", on_log=stop)
    steps: list[int] = []
    parts = train(pusht_data, recipe, tmp_path / "parts", on_log=lambda _, step, *__: steps.append(step))
    assert steps == list(range(interrupt, 7)), "finished steps are not repeated"
    assert parts == whole
    models = [load_world_model(tmp_path / name / "model").state_dict() for name in ("whole", "parts")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    with pytest.raises(ValueError, match="holds a training with another recipe; choose a new output"):
        train(pusht_data, replace(recipe, seed=1), tmp_path / "parts")


def test_it_trains_in_half_precision(placed_data: EpisodeDataset, tmp_path: Path) -> None:
    model = tiny_dino(image_size=16, proprio_dim=2, decoder_channels=2, dropout=0.0)
    task = PatchTask(model, placed_data, np.arange(8), batch=8)
    batch = task.draw(np.random.default_rng(0))
    exact = task.losses(batch, 0.0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = task.losses(batch, 0.0)
    for name, value in exact.items():
        torch.testing.assert_close(rounded[name].float(), value, rtol=0.02, atol=0.02)
    stage = Stage("predictor", 3, batch=8, learning_rate=1e-3)
    run_stage(stage, task, tmp_path, seed=0, half_precision=True)
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in task.module.parameters())


def test_errors_have_known_values(pusht_data: EpisodeDataset) -> None:
    """A predictor that copies the last latent is as good as copying it."""
    model = tiny_dino(image_size=16)
    model.predict = lambda states, actions: states[:, -1]  # type: ignore[method-assign]
    errors = patch_errors(PatchTask(model, pusht_data, np.arange(8), batch=7), unroll=2)
    assert errors["prediction_error"] == pytest.approx(errors["copy_error"], rel=1e-5)
    latents = model.encode(torch.from_numpy(pusht_data.frames(np.arange(len(pusht_data))))).double()
    firsts = np.concatenate([np.arange(31 * e, 31 * e + 31 - 10) for e in range(8)])
    one, two = (latents[firsts + 5] - latents[firsts]).square(), (latents[firsts + 10] - latents[firsts]).square()
    assert errors["copy_error"] == pytest.approx(float(one.mean()), rel=1e-4)
    wanted = torch.stack([latents[firsts + 5], latents[firsts + 10]]).flatten(0, 1)
    both = torch.stack([latents[firsts + 5], latents[firsts + 10]], 1)
    spread = both.square().mean(1).sum((1, 2)).mean() - wanted.mean(0).square().sum()
    relative = errors["relative_latent_error_by_step"]
    assert relative["10"] == pytest.approx(float((two.sum((1, 2)).mean() / spread).sqrt()), abs=1e-3)
    assert list(relative) == ["5", "10"]


def test_bad_data_is_refused_before_hours_are_spent(
    pusht_data: EpisodeDataset, placed_data: EpisodeDataset, backbone: str, tmp_path: Path
) -> None:
    out = tmp_path / "train"
    recipe = tiny_recipe(backbone)
    broken = EpisodeDataset(pusht_data.folder)
    broken.actions[7, 0] = np.nan
    with pytest.raises(ValueError, match=r"expected finite action values, got NaN or infinity in 1 of 180 frames"):
        train(broken, recipe, out)
    with pytest.raises(ValueError, match=r"expected frames of 224 px, got 16; collect with --resolution 224"):
        train(pusht_data, DinoWMRecipe(backbone=backbone), out)
    with pytest.raises(ValueError, match="expected actions of 3 numbers, got 2"):
        train(pusht_data, tiny_recipe(backbone, action_dim=3), out)
    with pytest.raises(ValueError, match=r"expected 2 numbers of proprioception beside each picture, got 0; collect"):
        train(pusht_data, tiny_recipe(backbone, proprio_dim=2), out)
    with pytest.raises(ValueError, match=r"expected 3 numbers of proprioception beside each picture, got 2; collect"):
        train(placed_data, tiny_recipe(backbone, proprio_dim=3), out)
    with pytest.raises(ValueError, match="no episode has the 41 frames asked for"):
        train(pusht_data, tiny_recipe(backbone, action_block=40), out)
    with pytest.raises(ValueError, match="expected a folder or a hub id with a DINOv2 model"):
        train(pusht_data, tiny_recipe(str(pusht_data.folder)), out)
    assert not out.exists()
    with pytest.raises(ValueError, match="held_out: expected a share between 0 and 1"):
        DinoWMRecipe(held_out=0.0)


def test_pictures_and_numbers_from_collecting_to_acting(
    placed_data: EpisodeDataset, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe finds the numbers in the data, and commands show them to the agent, without being told."""
    published = RECIPES["dino_wm"](placed_data)
    assert isinstance(published, DinoWMRecipe) and published.model.proprio_dim == 2
    monkeypatch.setitem(RECIPES, "dino_wm", lambda data: tiny_recipe(backbone, proprio_dim=data.proprio.shape[1]))
    main(
        ["train", "--recipe", "dino_wm", "--data", str(placed_data.folder), "--out", str(tmp_path), "--dynamics-steps",
         "2", "--threads", "1"]
    )  # fmt: skip
    model = load_world_model(tmp_path / "model")
    assert isinstance(model, DinoWorldModel) and model.proprio_dim == 2
    assert model.config.proprio_mean is not None and 100 < min(model.config.proprio_mean) < 400, "px of the arena"
    main(
        ["evaluate", "--model", str(tmp_path / "model"), "--policy", "cem", "--episodes", "1", "--goal-horizon", "5",
         "--horizon", "1", "--out", str(tmp_path / "results"), "--threads", "1"]
    )  # fmt: skip
    told = json.loads((tmp_path / "results" / "results.json").read_text())["settings"]["entrants"]["cem"]
    assert told["env_kwargs"]["obs_type"] == "pixels_agent_pos"


def test_the_recipe_on_the_command_line(
    pusht_data: EpisodeDataset,
    backbone: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    published = RECIPES["dino_wm"](pusht_data)
    assert isinstance(published, DinoWMRecipe)
    assert published.model == DinoWMConfig(image_size=16, proprio_dim=0, decoder_channels=16)
    recipe = tiny_recipe(backbone)
    monkeypatch.setitem(RECIPES, "dino_wm", lambda data: replace(recipe, backbone="nowhere"))
    command = ["train", "--recipe", "dino_wm", "--data", str(pusht_data.folder), "--out", str(tmp_path / "out")]
    main([*command, "--backbone", backbone, "--dynamics-steps", "2"])
    assert "held-out episodes" in capsys.readouterr().out
    assert [row["step"] for row in read_log(tmp_path / "out")] == [2]
    assert isinstance(load_world_model(tmp_path / "out" / "model"), DinoWorldModel)
    with pytest.raises(SystemExit):
        main([*command, "--encoder-steps", "2"])
    assert "recipe 'dino_wm': expected steps of dynamics, got encoder" in capsys.readouterr().err
