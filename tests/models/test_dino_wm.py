"""DINO-WM: shapes, causality, preprocessing, planning on grids of patches, saving and loading."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_dino import FEATURES, PATCH, tiny_backbone, tiny_dino
from torch import Tensor
from torch.nn import functional

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.core.rng import make_keys
from grasp_agent.core.types import Budget, Problem, WorldModel
from grasp_agent.models import (
    DinoWMConfig,
    DinoWorldModel,
    LatentWorldModel,
    WorldModelConfig,
    load_backbone,
    load_world_model,
    save_pretrained,
)
from grasp_agent.models.dino_wm.backbone import fit_to_grid
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import CEM, GRASP, GradientDescent, MultiStart, rollout, solve
from grasp_agent.planning.rollout import select_problem, zero_plan


def images(count: int, size: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def window(model: DinoWorldModel, rows: int = 2) -> tuple[Tensor, Tensor]:
    """Random states [N, h, P, E] and actions [N, h, A]."""
    generator = torch.Generator().manual_seed(3)
    h, size = model.history, model.action_dim * model.action_block
    return torch.randn(rows, h, *model.state_shape, generator=generator), torch.randn(
        rows, h, size, generator=generator
    )


def posed(model: DinoWorldModel, rows: int = 3, horizon: int = 2) -> Problem:
    """Planning problems between random latents, far from where zero actions lead."""
    generator = torch.Generator().manual_seed(5)
    size = model.action_dim * model.action_block
    bound = torch.ones(size)
    problem = Problem(
        model=model,
        objective=GoalDistance(running=0.0),
        states=torch.randn(rows, model.history, *model.state_shape, generator=generator),
        past_actions=torch.rand(rows, model.history - 1, size, generator=generator) * 2 - 1,
        goal=torch.zeros(rows, *model.state_shape),
        horizon=horizon,
        low=-bound,
        high=bound,
    )
    wanted = torch.rand(rows, horizon, size, generator=generator) * 2 - 1
    with torch.no_grad():
        return Problem(**{**vars(problem), "goal": rollout(problem, wanted)[:, -1]})


@pytest.mark.parametrize("proprio_dim", [0, 3])
def test_shapes_and_protocol(proprio_dim: int) -> None:
    model = tiny_dino(proprio_dim=proprio_dim, decoder_channels=2)
    assert isinstance(model, WorldModel)
    assert model.state_shape == (4, FEATURES + (4 if proprio_dim else 0))
    frames = images(3)
    obs = {"pixels": frames, "agent_pos": torch.zeros(3, proprio_dim)} if proprio_dim else frames
    latents = model.encode(obs)
    assert latents.shape == (3, *model.state_shape)
    following = model.predict(latents[:, None].expand(-1, 3, -1, -1), torch.zeros(3, 3, 10))
    assert following.shape == latents.shape
    decoded = model.decode(following)
    assert decoded.shape == (3, 32, 32, 3) and decoded.min() >= 0 and decoded.max() <= 1


def test_the_defaults_are_the_published_sizes() -> None:
    config = DinoWMConfig(proprio_dim=4)
    assert (config.image_size // config.grid, config.history, config.action_block) == (16, 3, 5)
    assert (config.depth, config.heads, config.dim_head, config.mlp_dim, config.dropout) == (6, 16, 64, 2048, 0.1)
    assert (config.action_features, config.proprio_features) == (10, 10)


def test_frames_reach_the_backbone_normalised_and_row_by_row() -> None:
    model = tiny_dino(image_size=2 * PATCH)
    frames = images(2, 2 * PATCH)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((frames / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.backbone(pixel_values=pixels).last_hidden_state[:, 1:]
    torch.testing.assert_close(model.encode(frames), expected)
    assert torch.equal(model.encode({"pixels": frames}), model.encode(frames))
    alone = torch.cat([model.encode(frame[None]) for frame in frames])
    torch.testing.assert_close(model.encode(frames), alone, atol=1e-5, rtol=1e-5)


def test_frames_are_resized_to_the_backbone() -> None:
    """Frames that are smooth look the same at twice the size; the first patch is at the top left."""
    small, large = tiny_dino(image_size=2 * PATCH), tiny_dino(image_size=4 * PATCH)
    ramp = torch.linspace(0, 255, 4 * PATCH).round()
    at_large = torch.stack([ramp[:, None].expand(-1, 4 * PATCH), ramp.expand(4 * PATCH, -1), torch.zeros(32, 32)], -1)
    at_small = functional.avg_pool2d(at_large.permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)
    features = [m.encode(x.round().to(torch.uint8)[None]) for m, x in ((small, at_small), (large, at_large))]
    torch.testing.assert_close(*features, atol=0.1, rtol=0.1)
    changed = at_large.clone()
    changed[:8, :8] = 255
    moved = (large.encode(changed.to(torch.uint8)[None]) - features[1]).abs().sum(-1)[0]
    assert int(moved.argmax()) == 0


@pytest.mark.parametrize(("side", "grid"), [(9, 4), (3, 5)])
def test_the_position_embeddings_are_resampled_as_the_original_does(side: int, grid: int) -> None:
    """At the places (i + 1/2) g / (grid + 0.1) - 1/2 of the trained grid, by cubic convolution."""
    backbone: Any = tiny_backbone(side)
    table = backbone.embeddings.position_embeddings.detach().clone()
    fit_to_grid(backbone, grid)
    resampled = backbone.embeddings.position_embeddings
    places = (torch.arange(grid) + 0.5) * side / (grid + 0.1) - 0.5
    axis = (2 * places + 1) / side - 1
    at = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)[None]
    square = table[:, 1:].view(1, side, side, FEATURES).permute(0, 3, 1, 2)
    expected = functional.grid_sample(square, at, mode="bicubic", padding_mode="border", align_corners=False)
    torch.testing.assert_close(resampled[:, 1:], expected.flatten(2).mT, atol=1e-4, rtol=1e-4)
    assert torch.equal(resampled[:, 0], table[:, 0])
    assert backbone.config.image_size == grid * PATCH
    assert not any(p.requires_grad for p in backbone.parameters())
    with torch.no_grad():  # and the backbone uses them as they are
        patches = backbone.embeddings(torch.zeros(1, 3, grid * PATCH, grid * PATCH))
        at_zero = backbone.embeddings.patch_embeddings(torch.zeros(1, 3, grid * PATCH, grid * PATCH))
    torch.testing.assert_close(patches[:, 1:] - at_zero, resampled[:, 1:].detach())


def test_a_frame_is_predicted_from_itself_and_earlier_ones() -> None:
    model = tiny_dino()
    states, actions = window(model, rows=1)
    before = model.predict_all(states, actions)
    torch.testing.assert_close(model.predict(states, actions), before[:, -1])
    for frame in range(3):
        for what in ("states", "actions"):
            changed = {"states": states.clone(), "actions": actions.clone()}
            changed[what][:, frame] += 1.0
            moved = (model.predict_all(**changed) - before).abs().flatten(2).amax(2)[0]
            assert bool((moved[:frame] == 0).all()) and bool((moved[frame:] > 1e-4).all()), (what, frame)


def test_every_patch_sees_every_patch_of_its_frame() -> None:
    model = tiny_dino()
    states, actions = window(model, rows=1)
    before = model.predict(states, actions)
    for patch in range(4):
        changed = states.clone()
        changed[:, -1, patch] += 1.0
        moved = (model.predict(changed, actions) - before).abs().amax(2)[0]
        assert bool((moved > 1e-5).all())


def test_gradients_reach_states_and_actions_and_leave_the_backbone_alone() -> None:
    model = tiny_dino(proprio_dim=2).double()
    states, actions = (x.double().requires_grad_() for x in window(model, rows=1))

    def total(s: Tensor, a: Tensor) -> Tensor:
        return model.predict(s, a).square().sum()

    assert torch.autograd.gradcheck(total, (states, actions), fast_mode=True)
    to_states, to_actions = torch.autograd.grad(total(states, actions), (states, actions))
    assert bool((to_states.flatten(2).norm(dim=2) > 0).all()) and bool((to_actions.abs() > 0).all())
    encoded = model.encode({"pixels": images(1), "proprio": torch.ones(1, 2)})
    encoded.sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())
    assert model.proprio_embedding is not None and model.proprio_embedding.weight.grad is not None


def test_actions_count_from_their_mean_in_deviations() -> None:
    mean, std = (0.3, -0.2), (0.5, 2.0)
    plain, normalised = tiny_dino(), tiny_dino(action_mean=mean, action_std=std)
    states, actions = window(plain)
    in_units = actions.unflatten(2, (5, 2)) * torch.tensor(std) + torch.tensor(mean)
    torch.testing.assert_close(normalised.predict(states, in_units.flatten(2)), plain.predict(states, actions))


def test_proprioception_is_appended_to_every_patch() -> None:
    model = tiny_dino(proprio_dim=2, proprio_mean=(100.0, 50.0), proprio_std=(10.0, 20.0))
    frames, places = images(2), torch.tensor([[110.0, 50.0], [100.0, 90.0]])
    latents = model.encode({"pixels": frames, "agent_pos": places})
    torch.testing.assert_close(latents[..., :FEATURES], model.features(frames))
    assert model.proprio_embedding is not None
    expected = model.proprio_embedding(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    for patch in range(4):
        torch.testing.assert_close(latents[:, patch, FEATURES:], expected)
    for bad in (frames, {"pixels": frames}, {"pixels": frames, "proprio": torch.zeros(2, 3)}):
        with pytest.raises(ValueError, match=r"proprioception of shape \[2, 2\] under 'proprio' or 'agent_pos'"):
            model.encode(bad)


def test_goal_weights_make_the_published_objective() -> None:
    model = tiny_dino(proprio_dim=2)
    states, goal = (x[:, 0] for x in (window(model)[0], window(model)[0].flip(0)))
    gap = (states - goal).square()
    visual, proprio = gap[..., :FEATURES].mean((1, 2)), gap[..., FEATURES:].mean((1, 2))
    objective = GoalDistance(running=0.0, weights=model.goal_weights(1.0, 0.1))
    torch.testing.assert_close(objective.state_cost(states, goal), visual + 0.1 * proprio)
    seen = tiny_dino()
    torch.testing.assert_close(seen.goal_weights().sum(), torch.tensor(1.0))
    with pytest.raises(ValueError, match="expected weights of 0 or more"):
        model.goal_weights(1.0, -1.0)


PLANNERS = {
    "grasp": replace(GRASP.large_latent(), restarts=2, candidates=1, refresh=0),
    "gradient descent": MultiStart(GradientDescent(), restarts=2, candidates=1),
    "cem": CEM(samples=32, elites=4),
}


@pytest.mark.parametrize("planner", PLANNERS.values(), ids=PLANNERS.keys())
def test_planners_search_among_grids_of_patches(planner: Any) -> None:
    problem = posed(tiny_dino().double())  # its costs end near zero, where single precision is noise
    keys = make_keys(7, 3)
    plan, _ = solve(planner, problem, Budget(15), seed=keys)
    with torch.no_grad():
        nothing = rollout(problem, zero_plan(problem).expand(-1, 2, -1))[:, 1:]
        cost_of_nothing = problem.objective.trajectory_cost(nothing, zero_plan(problem), problem.goal)
    assert plan.states.shape == (3, 3, *problem.model.state_shape)
    assert bool((plan.cost < 0.5 * cost_of_nothing).all()), (plan.cost, cost_of_nothing)
    assert bool((plan.actions.abs() <= 1).all())
    reached = problem.objective.trajectory_cost(plan.states[:, 1:], plan.actions, problem.goal)
    torch.testing.assert_close(reached, plan.cost, rtol=1e-3, atol=1e-3)

    rows = torch.tensor([1])
    single = select_problem(problem, rows)
    alone, _ = solve(planner, single, Budget(15), seed=keys[rows])
    torch.testing.assert_close(alone.actions[0], plan.actions[1], atol=1e-6, rtol=1e-6)


def test_rollouts_read_history_oldest_first() -> None:
    problem = posed(tiny_dino(), rows=2)
    actions = torch.rand(2, 2, 10) - 0.5
    got = rollout(problem, actions)
    blocks = torch.cat([problem.past_actions, actions], 1)
    first = problem.model.predict(problem.states, blocks[:, :3])
    second = problem.model.predict(torch.cat([problem.states[:, 1:], first[:, None]], 1), blocks[:, 1:])
    torch.testing.assert_close(got, torch.stack([problem.states[:, -1], first, second], 1))


def test_an_agent_drives_push_t_from_pixels() -> None:
    model = tiny_dino(action_limit=0.5)
    env = gym.make("grasp_envs:grasp_envs/PushTReach-v0", obs_type="pixels", resolution=32)
    planner = replace(GRASP.for_model(model), restarts=2, candidates=1, refresh=0)
    weights = model.goal_weights()
    agent = MPCAgent(model, env.action_space, planner, objective=GoalDistance(weights=weights), budget=Budget(2))
    assert agent.horizon == 5
    observation, _ = env.reset(seed=0)
    frames, state, taken = [], None, []
    for _ in range(12):  # more than h frames of k steps
        frames.append(torch.from_numpy(observation["pixels"].copy()))
        action, state = agent.predict(observation, state)
        taken.append(action)
        assert env.action_space.contains(action) and np.abs(action).max() <= 0.5
        observation, *_ = env.step(action)
    assert agent.diagnostics is not None and np.isfinite(agent.diagnostics.plan_cost).all()
    assert np.isfinite(agent.diagnostics.prediction_error).all()
    # What it looks back on: the frames 5 and 10 steps ago, and the actions between in their order.
    expected = model.encode(torch.stack([frames[t] for t in (1, 6, 11)]))
    torch.testing.assert_close(state.history.latents[0, 5::5], expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(state.history.actions[0, -11:-1], torch.from_numpy(np.array(taken[1:11])))
    env.close()


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    model = tiny_dino(proprio_dim=2, decoder_channels=2, action_mean=(0.1, 0.2), action_std=(0.3, 0.4))
    save_pretrained(model, tmp_path / "m", {"note": "x"})
    before = torch.get_rng_state()
    loaded = load_world_model(tmp_path / "m")
    assert torch.equal(before, torch.get_rng_state())
    assert isinstance(loaded, DinoWorldModel) and loaded.config == model.config and not loaded.training
    obs = {"pixels": images(2), "proprio": torch.ones(2, 2)}
    states, actions = window(model)
    assert torch.equal(model.encode(obs), loaded.encode(obs))
    assert torch.equal(model.predict(states, actions), loaded.predict(states, actions))
    assert torch.equal(model.decode(states[:, 0]), loaded.decode(states[:, 0]))
    assert sorted(p.relative_to(tmp_path / "m").as_posix() for p in (tmp_path / "m").rglob("*") if p.is_file()) == [
        "backbone/config.json",
        "backbone/model.safetensors",
        "config.json",
        "model.safetensors",
    ]
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["kind"] == "dino_wm" and config["info"] == {"note": "x"}

    save_pretrained(model, tmp_path / "m")  # over itself
    (tmp_path / "m" / "backbone" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"backbone/config\.json, which is missing"):
        load_world_model(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "kind": "other"}))
    with pytest.raises(ValueError, match=r"expected a model of kind dino_wm or .* or vector, got 'other'"):
        load_world_model(tmp_path / "m")


def test_files_that_do_not_say_their_kind_hold_a_latent_world_model(tmp_path: Path) -> None:
    small = {"encoder_channels": 4, "encoder_keypoints": 4, "encoder_hidden": 16, "dynamics_hidden": 16}
    model = LatentWorldModel(WorldModelConfig(image_size=16, decoder_channels=0, **small))  # type: ignore[arg-type]
    folder = save_pretrained(model, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("kind") == "latent"
    (folder / "config.json").write_text(json.dumps(config))
    loaded = load_world_model(folder)
    assert isinstance(loaded, LatentWorldModel) and loaded.config == model.config


def test_a_backbone_from_a_folder(tmp_path: Path) -> None:
    written: Any = tiny_backbone(3)
    written.save_pretrained(tmp_path / "b")
    backbone: Any = load_backbone(tmp_path / "b", 3)
    assert not backbone.training and not any(p.requires_grad for p in backbone.parameters())
    pixels = torch.randn(1, 3, 3 * PATCH, 3 * PATCH)
    assert torch.equal(backbone(pixels).last_hidden_state, written(pixels).last_hidden_state)
    with pytest.raises(ValueError, match=r"expected one for 16 px .* got one for 24 px; try load_backbone"):
        DinoWorldModel(DinoWMConfig(grid=2), backbone)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"expected a folder or a hub id with a DINOv2 model"):
        load_backbone(tmp_path / "empty", 3)
    (tmp_path / "b" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="it is a model of type 'bert'"):
        load_backbone(tmp_path / "b", 3)


def test_without_transformers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"^DINOv2 features need .*: pip install 'grasp-agent\[dino\]'$"):
        load_backbone("facebook/dinov2-small", 14)


@pytest.mark.parametrize(
    "frames", [images(1, 16), images(1).permute(0, 3, 1, 2), images(1).float(), images(1)[0]], ids=str
)
def test_other_frames_are_refused_with_advice(frames: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 images of shape \[B, 32, 32, 3\].*resolution=32"):
        tiny_dino().encode(frames)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history": 0}, "history: expected a positive number"),
        ({"proprio_dim": -1}, "proprio_dim: expected 0 or more"),
        ({"action_mean": (1.0,)}, "action_mean: expected 2 finite numbers"),
        ({"action_std": (1.0, float("nan"))}, "action_std: expected 2 finite numbers"),
        ({"action_std": (1.0, 0.0)}, "action_std: expected positive numbers"),
        ({"action_limit": 0.0}, "action_limit: expected a positive number"),
        ({"dropout": 1.0}, "dropout: expected a share"),
    ],
)
def test_configurations_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DinoWMConfig(**changes)


def test_a_model_without_decoder_says_so() -> None:
    with pytest.raises(ValueError, match="built without a decoder"):
        tiny_dino().decode(torch.zeros(1, 4, FEATURES))
