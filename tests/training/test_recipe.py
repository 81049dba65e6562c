"""Training from end to end on tiny data: what it writes, that it resumes, and what it refuses."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.core.types import Budget
from grasp_agent.data import EpisodeDataset
from grasp_agent.models import (
    JointEmbeddingModel,
    LatentWorldModel,
    WorldModelConfig,
    load_world_model,
    save_pretrained,
)
from grasp_agent.models.planar_push import PLANAR_PUSH
from grasp_agent.planning import GRASP
from grasp_agent.training import RECIPES, JointRecipe, LatentRecipe, make_recipe, register_recipe, train
from grasp_agent.training.dynamics import DynamicsTask
from grasp_agent.training.loop import Stage, read_log, run_stage
from grasp_agent.training.recipe import Recipe, RecipeStage, Run
from grasp_agent.training.report import prediction_errors

MakeRecipe = Callable[..., LatentRecipe]
FROM_DATA = ("action_mean", "action_std", "action_limit")


@pytest.mark.parametrize("latent", ["planar_push", "free", "predictive vector", "predictive grid"])
def test_what_training_writes(
    latent: str,
    pusht_data: EpisodeDataset,
    tiny_recipe: MakeRecipe,
    tiny_joint: Callable[..., JointRecipe],
    tmp_path: Path,
) -> None:
    predictive = latent.startswith("predictive")
    recipe = tiny_joint(grid=latent.endswith("grid")) if predictive else tiny_recipe(latent)
    out = tmp_path / "train"
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    messages: list[str] = []
    metrics = train(pusht_data, recipe, out, on_message=messages.append)
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's random numbers were used"
    assert [m.split()[0] for m in messages] == ["stage", "encoding", "stage"]

    assert metrics["frames"] == 248 and metrics["episodes"] == 8 and metrics["held_out_episodes"] == 2
    assert json.loads((out / "metrics.json").read_text()) == metrics
    if latent == "planar_push":
        assert list(metrics["errors_by_step"]) == ["0", "1", "5", "10", "25"]
        assert "relative_latent_error_by_step" not in metrics
    else:
        assert list(metrics["errors_by_step"]) == ["0", "5", "10", "25"]
        assert list(metrics["relative_latent_error_by_step"]) == ["5", "10", "15", "20", "25", "30"]
    assert list(metrics["probes"]) == ["linear", "network"]
    for errors in (*metrics["probes"].values(), *metrics["errors_by_step"].values()):
        assert list(errors) == ["pusher_px", "body_px", "body_deg"]
        assert all(np.isfinite([e["median"], e["mean"]]).all() for e in errors.values())
    assert {row["stage"] for row in read_log(out)} == {"joint" if predictive else "encoder", "dynamics"}
    rollouts = np.asarray(Image.open(out / "rollouts.png"))
    assert rollouts.shape == (2 * (14 + 2 * 40), 2 * 6 * 20, 3)  # two rollouts, six frames of 16 px, doubled
    assert rollouts[28:].std() > 5
    for picture in ("curves.png", "errors.png"):
        assert np.asarray(Image.open(out / picture)).std() > 5
    assert not [path for path in out.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]

    model = load_world_model(out / "model")
    told = {} if not predictive else {name: getattr(model.config, name) for name in FROM_DATA}
    assert model.config == replace(recipe.model, **told)
    info = json.loads((out / "model" / "config.json").read_text())["info"]
    assert info["metrics"] == metrics and info["data"] == pusht_data.settings
    env = gym.make("grasp_envs:grasp_envs/PushTReach-v0", obs_type="pixels", resolution=16)
    agent = MPCAgent(model, env.action_space, GRASP(), horizon=2, budget=Budget(2))
    observation, _ = env.reset(seed=0)
    agent.reset()
    for _ in range(7):  # longer than an action block
        action = agent.act(observation)
        assert env.action_space.contains(action)
        observation, *_ = env.step(action)
    assert agent.diagnostics is not None and np.isfinite(agent.diagnostics.plan_cost).all()
    env.close()


@pytest.mark.parametrize("layout", ["planar_push", "free"])
def test_the_encoder_learns(layout: str, pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe(layout, steps=150)
    fast = replace(recipe.encoder, learning_rate=1e-2, checkpoint_seconds=60.0, log_every=10)
    train(pusht_data, replace(recipe, encoder=fast, dynamics=replace(recipe.dynamics, steps=1)), tmp_path)
    losses = [row["loss"] for row in read_log(tmp_path) if row["stage"] == "encoder"]
    assert losses[-1] < 0.6 * losses[0]


def test_the_dynamics_learns_to_push(pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    """From true poses a minute network learns where the pusher goes, far better than "it stays"."""
    assert pusht_data.states is not None
    torch.manual_seed(0)
    recipe = tiny_recipe("planar_push")
    model = LatentWorldModel(recipe.model)
    latents = PLANAR_PUSH.latents_of_states(pusht_data.states)
    task = DynamicsTask(model, pusht_data, latents, np.arange(8), batch=64, unroll=5, symmetry=True)
    before = prediction_errors(model, task, latents, PLANAR_PUSH)["5"]
    stage = replace(recipe.dynamics, steps=200, learning_rate=1e-2, checkpoint_seconds=60.0)
    run_stage(stage, task, tmp_path, seed=0)
    after = prediction_errors(model, task, latents, PLANAR_PUSH)["5"]
    assert before["pusher_px"]["median"] > 30  # an untrained model predicts almost no change
    assert after["pusher_px"]["median"] < 0.4 * before["pusher_px"]["median"]


KILLED = """
import os, pickle, signal, sys
import torch
from grasp_agent.data import EpisodeDataset
from grasp_agent.training import RECIPES, JointRecipe, LatentRecipe, make_recipe, register_recipe, train
torch.set_num_threads(1)
data, out, recipe, stage, step = pickle.loads(sys.stdin.buffer.read())
def on_log(now, number, steps, terms):
    if (now, number) == (stage, step):
        os.kill(os.getpid(), signal.SIGKILL)
train(EpisodeDataset(data), recipe, out, on_log=on_log)
"""


@pytest.mark.parametrize(("layout", "stage"), [("planar_push", "encoder"), ("free", "dynamics")])
def test_a_killed_training_ends_as_if_nothing_had_happened(
    layout: str, stage: str, pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe(layout)
    whole = train(pusht_data, recipe, tmp_path / "whole")
    job = pickle.dumps((str(pusht_data.folder), str(tmp_path / "parts"), recipe, stage, 4))
    killed = subprocess.run([sys.executable, "-c", KILLED], input=job, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "parts" / "model").exists()
    resumed: list[tuple[str, int]] = []
    parts = train(pusht_data, recipe, tmp_path / "parts", on_log=lambda name, step, *_: resumed.append((name, step)))
    assert (
        resumed
        == [(name, step) for name in ("encoder", "dynamics") for step in (2, 4, 6)][1 if stage == "encoder" else 4 :]
    ), "finished steps are not repeated"
    assert parts == whole
    models = [load_world_model(tmp_path / name / "model").state_dict() for name in ("whole", "parts")]
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    logged = [[(row["stage"], row["step"]) for row in read_log(tmp_path / name)] for name in ("whole", "parts")]
    assert logged[0] == logged[1]


def test_two_trainings_are_never_mixed(pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe("planar_push", steps=2)
    train(pusht_data, recipe, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"holds a training with another recipe; choose a new output folder"):
        train(pusht_data, replace(recipe, seed=1), tmp_path)
    grown = EpisodeDataset(pusht_data.folder)
    grown.settings = [{**grown.settings[0], "steps": 9}]
    with pytest.raises(ValueError, match="holds a training with another data; choose"):
        train(grown, recipe, tmp_path)
    other = EpisodeDataset(pusht_data.folder)
    other.actions[0] += 0.1
    with pytest.raises(ValueError, match=r"another episodes \(\w+, not \w+\); choose"):
        train(other, recipe, tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(ValueError, match=rf"another threads \({threads}, not {threads + 1}\); choose"):
            train(pusht_data, recipe, tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "training.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"training\.json: expected the settings of a training"):
        train(pusht_data, recipe, tmp_path)


def test_bad_data_is_refused_before_hours_are_spent(
    pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    out = tmp_path / "train"
    planar, free = tiny_recipe("planar_push"), tiny_recipe("free")

    def data() -> EpisodeDataset:
        return EpisodeDataset(pusht_data.folder)

    broken = data()
    broken.actions[7, 0] = np.nan
    with pytest.raises(ValueError, match=r"expected finite actions, got NaN or infinity in 1 of 248 frames"):
        train(broken, free, out)
    broken = data()
    assert broken.states is not None
    broken.states[3:5, 1] = np.inf
    with pytest.raises(ValueError, match=r"expected finite states, got NaN or infinity in 2 of 248 frames"):
        train(broken, planar, out)
    blind = data()
    blind.states = None
    with pytest.raises(ValueError, match=r"simulator states .* missing; try the recipe 'generic'"):
        train(blind, planar, out)
    with pytest.raises(ValueError, match=r"expected frames of 64 px, got 16; collect with --resolution 64"):
        train(data(), RECIPES["pose"](data()), out)
    with pytest.raises(ValueError, match="no episode has the 41 frames asked for; collect longer episodes"):
        train(data(), replace(planar, unroll=40), out)
    with pytest.raises(ValueError, match="expected actions of 3 numbers, got 2"):
        train(data(), replace(free, model=replace(free.model, action_dim=3)), out)
    assert not out.exists()


def test_damaged_shards_are_named(pusht_data: EpisodeDataset, tmp_path: Path) -> None:
    folder = shutil.copytree(pusht_data.folder, tmp_path / "data")
    path = folder / "shard-00001" / "frames.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"frames\.npy: expected a whole \.npy file.*remove shard-00001 and run"):
        EpisodeDataset(folder)
    path.unlink()
    with pytest.raises(ValueError, match="got none or a damaged one"):
        EpisodeDataset(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unroll": 0}, "unroll: expected at least 1"),
        ({"supervision_weight": -1.0}, "supervision_weight: expected 0 or more"),
        ({"representation": "contrastive"}, "representation: expected 'supervised' or 'reconstruction'"),
        ({"representation": "supervised"}, "got 'supervised' with 'free'"),
        ({"held_out": 1.0}, "held_out: expected a share between 0 and 1"),
    ],
)
def test_recipes_that_make_no_sense(changes: dict[str, float | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LatentRecipe(), **changes)  # type: ignore[arg-type]


def test_the_named_recipes_are_whole(pusht_data: EpisodeDataset) -> None:
    assert sorted(RECIPES) == ["dino_wm", "generic", "joint", "joint_grid", "pose", "sprites", "vector"]
    for name in ("generic", "joint", "joint_grid", "pose"):
        recipe: Any = RECIPES[name](pusht_data)
        model = {LatentRecipe: LatentWorldModel, JointRecipe: JointEmbeddingModel}[type(recipe)](recipe.model)
        weights = sum(p.numel() * 4 for p in model.parameters())
        assert model.decoder is not None and weights < 15e6
    assert load_world_model("pusht-pose").config == make_recipe("pose", pusht_data).model  # type: ignore[attr-defined]


def test_free_latents_follow_from_actions_of_any_size(write_episodes: Callable[..., EpisodeDataset]) -> None:
    data = write_episodes([3, 4], actions=np.zeros((7, 3), np.float32))
    assert [make_recipe(name, data).model.action_dim for name in ("generic", "joint", "joint_grid")] == [3, 3, 3]  # type: ignore[attr-defined]


def test_poses_need_states_whose_meaning_is_known(write_episodes: Callable[..., EpisodeDataset]) -> None:
    data = write_episodes([3, 4], states=np.zeros((7, 5)))  # not known where they were recorded
    with pytest.raises(ValueError, match=r"whose simulator states have a known meaning.*try the recipe 'generic'"):
        make_recipe("pose", data)


def test_states_of_an_unknown_task_are_not_guessed_at(
    pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    foreign = EpisodeDataset(pusht_data.folder)
    foreign.settings = [{**foreign.settings[0], "env_ids": ["somewhere/Else-v0"]}]
    metrics = train(foreign, tiny_recipe("free", steps=1), tmp_path)
    assert not metrics.keys() & {"probes", "errors_by_step"} and "relative_latent_error_by_step" in metrics


def test_poses_are_read_from_the_latent_itself_or_else_by_the_probe(
    pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """With the truth as latents nothing is off; turned upside down, only the probe still reads them."""
    assert pusht_data.states is not None
    truth = PLANAR_PUSH.latents_of_states(pusht_data.states)
    upside_down = np.concatenate([-truth, np.zeros_like(truth[:, :2])], axis=1)
    found = {}
    for layout, latents in (("planar_push", truth), ("free", upside_down)):
        recipe, folder = tiny_recipe(layout), tmp_path / layout
        folder.mkdir()
        np.save(folder / "latents.npy", latents)
        training, held_out = pusht_data.split(recipe.held_out)
        model = LatentWorldModel(replace(recipe.model, decoder_channels=0)).eval()
        run = Run(model, pusht_data, training, held_out, folder, print)
        found[layout] = recipe.report(run)["errors_by_step"]["0"]["body_px"]["median"]
    assert found["planar_push"] == 0.0
    unread = PLANAR_PUSH.errors(torch.from_numpy(-truth), torch.from_numpy(truth))["body_px"]
    assert found["free"] < 0.3 * float(unread.median())


def test_settings_of_a_named_recipe(pusht_data: EpisodeDataset) -> None:
    plain = make_recipe("joint", pusht_data)
    changed = make_recipe("joint", pusht_data, {"encoder": 7, "dynamics": 8}, seed=3, unroll=2)
    assert isinstance(plain, JointRecipe)
    assert changed == replace(
        plain,
        encoder=replace(plain.encoder, steps=7),
        dynamics=replace(plain.dynamics, steps=8),
        seed=3,
        unroll=2,
    )
    for call, message in (
        (
            lambda: make_recipe("best", pusht_data),
            "recipe: expected one of dino_wm, generic, joint, joint_grid, pose, sprites, vector",
        ),
        (
            lambda: make_recipe("joint", pusht_data, {"decoder": 1}),
            "recipe 'joint': expected steps of distance, outcomes, encoder, dynamics, proposal, got",
        ),
        (lambda: make_recipe("joint", pusht_data, backbone="x"), "recipe 'joint': expected settings .*, got backbone"),
        (lambda: make_recipe("joint", pusht_data, {"encoder": -1}), "joint.steps: expected 0 or more, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


class Recorded(DynamicsTask):
    """Keeps what it drew."""

    drawn: ClassVar[list[list[float]]] = []

    def draw(self, generator: np.random.Generator) -> tuple[torch.Tensor, ...]:
        states, actions = super().draw(generator)
        self.drawn.append(states[:, 0, 0].tolist())
        return states, actions


@dataclass(frozen=True)
class TwoStages(Recipe):
    """A recipe from outside: the dynamics alone, in two stages on made-up latents."""

    stage: Stage = Stage("first", steps=2, batch=4, learning_rate=1e-3, log_every=1)

    def build(self, data: EpisodeDataset, training: np.ndarray, held_out: np.ndarray) -> LatentWorldModel:
        if len(data) < 10:
            raise ValueError("too few frames")
        config = WorldModelConfig(image_size=16, state_size=3, dynamics_hidden=8, decoder_channels=0)
        return LatentWorldModel(config)

    def stages(self) -> tuple[RecipeStage, ...]:
        def task(run: Run) -> Recorded:
            latents = np.arange(3 * len(run.data), dtype=np.float32).reshape(-1, 3)
            return Recorded(run.model, run.data, latents, run.training, self.stage.batch, 1, symmetry=True)

        again = replace(self.stage, name="second")
        return RecipeStage(self.stage, "one thing", "rows", task), RecipeStage(again, "the same", "rows", task)

    def report(self, run: Run) -> dict[str, Any]:
        (run.folder / "drawn.txt").write_text(str(run.horizon))
        return {"longest": run.horizon, "judged": run.held_out.tolist()}


def test_a_recipe_of_ones_own(pusht_data: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grasp_agent.training.recipe.RECIPES", dict(RECIPES))
    register_recipe("two", lambda data: TwoStages(held_out=0.3))
    out, messages = tmp_path / "out", list[str]()
    monkeypatch.setattr(Recorded, "drawn", [])
    metrics = train(pusht_data, make_recipe("two", pusht_data, {"stage": 3}), out, on_message=messages.append)
    assert messages == [
        "stage 1 of 2, one thing: 3 steps of 4 rows",
        "stage 2 of 2, the same: 3 steps of 4 rows",
    ]
    assert [(row["stage"], row["step"]) for row in read_log(out)] == [
        (stage, step) for stage in ("first", "second") for step in (1, 2, 3)
    ]
    assert len({tuple(batch) for batch in Recorded.drawn}) == 6, "each stage has batches of its own"
    assert metrics == {"frames": 248, "episodes": 8, "held_out_episodes": 2, "longest": 30, "judged": [6, 7]}
    assert (out / "drawn.txt").read_text() == "30" and isinstance(load_world_model(out / "model"), LatentWorldModel)
    both = EpisodeDataset(pusht_data.folder, pusht_data.folder)
    metrics = train(both, make_recipe("two", both), tmp_path / "both")
    assert (metrics["episodes"], metrics["held_out_episodes"], metrics["judged"]) == (16, 2, [6, 7])
    few = replace(TwoStages(), held_out=0.3)
    monkeypatch.setattr(EpisodeDataset, "__len__", lambda self: 9)
    with pytest.raises(ValueError, match="too few frames"):
        train(pusht_data, few, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_another_initial_model_under_the_same_name_is_noticed(
    pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe("planar_push", steps=1)
    initial = tmp_path / "initial"
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_pretrained(LatentWorldModel(recipe.model), initial)
        if seed == 0:
            train(pusht_data, recipe, tmp_path / "out", initial=initial)
    with pytest.raises(ValueError, match=r"holds a training with another weights \(\w+, not \w+\)"):
        train(pusht_data, recipe, tmp_path / "out", initial=initial)


def test_a_training_of_an_older_version_goes_on(
    pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe("planar_push", steps=1)
    train(pusht_data, recipe, tmp_path)
    noted = json.loads((tmp_path / "training.json").read_text())
    for name in ("episodes", "weights", "device", "threads"):
        del noted[name]
    (tmp_path / "training.json").write_text(json.dumps(noted))
    train(pusht_data, recipe, tmp_path)
