"""Published DINO-WM checkpoints: the same numbers come out, nothing of the file is run, and every key is accounted for.

The files are written here in the published layout, from modules of classes that are gone when the files are read.
"""

from __future__ import annotations

import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_dino import FEATURES, tiny_backbone
from torch import Tensor

from grasp_agent.models import load_dino_wm_checkpoint, load_world_model, save_pretrained
from grasp_agent.models.dino_wm.inert_pickle import read_inert, state_dict

# Modules with the published names of parameters; the mask is an attribute that is no buffer, as there.
FOREIGN = """
import torch
from torch import nn

class Attention(nn.Module):
    def __init__(self, width, heads, dim_head, frames, patches):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, width), nn.Dropout(0.1))
        self.bias = torch.ones(frames, frames).tril().kron(torch.ones(patches, patches))[None, None]

    def forward(self, x):
        n, tokens, _ = x.shape
        q, k, v = (y.reshape(n, tokens, self.heads, -1) for y in self.to_qkv(self.norm(x)).chunk(3, -1))
        score = torch.einsum("nqhd,nkhd->nhqk", q, k) / q.shape[-1] ** 0.5
        score = score.masked_fill(self.bias == 0, -torch.inf).softmax(-1)
        return self.to_out(torch.einsum("nhqk,nkhd->nqhd", score, v).reshape(n, tokens, -1))

class FeedForward(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        layers = [nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.1)]
        self.net = nn.Sequential(*layers, nn.Linear(hidden, width), nn.Dropout(0.1))

    def forward(self, x):
        return self.net(x)

class Transformer(nn.Module):
    def __init__(self, depth, width, hidden, *sizes):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        pairs = [[Attention(width, *sizes), FeedForward(width, hidden)] for _ in range(depth)]
        self.layers = nn.ModuleList([nn.ModuleList(pair) for pair in pairs])

class Predictor(nn.Module):
    def __init__(self, depth, width, hidden, heads, dim_head, frames, patches):
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, frames * patches, width))
        self.dropout = nn.Dropout(0)
        self.transformer = Transformer(depth, width, hidden, heads, dim_head, frames, patches)
        self.pool = "mean"

    def forward(self, x):
        x = x + self.pos_embedding
        for attention, feed in self.transformer.layers:
            x = x + attention(x)
            x = x + feed(x)
        return self.transformer.norm(x)

class Embedding(nn.Module):
    def __init__(self, numbers, width):
        super().__init__()
        self.in_chans, self.emb_dim = numbers, width
        self.patch_embed = nn.Conv1d(numbers, width, kernel_size=1, stride=1)

    def forward(self, x):
        return self.patch_embed(x.mT).mT

class Drawer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Linear(3, 3)
        self.register_buffer("codes", torch.zeros(2))
"""

HYDRA = """
img_size: 32
frameskip: 5
num_hist: 3
num_pred: 1
concat_dim: 1
normalize_action: true
num_action_repeat: 1
num_proprio_repeat: 1
action_emb_dim: 6
proprio_emb_dim: 4
encoder: {_target_: models.dino.DinoV2Encoder, name: dinov2_vits14, feature_key: x_norm_patchtokens}
predictor: {_target_: models.vit.ViTPredictor, depth: 2, heads: 2, mlp_dim: 32, dropout: 0.1, pool: mean}
"""

MEAN, STD = (-0.1, 0.2), (0.5, 0.4)
PLACE_MEAN, PLACE_STD = (200.0, 250.0, 0.0), (100.0, 80.0, 50.0)


@dataclass
class Published:
    """A training folder, the modules it was written from, and what was written."""

    folder: Path
    modules: dict[str, Any]
    write: Callable[[dict[str, Any]], None]

    @property
    def file(self) -> Path:
        return self.folder / "checkpoints" / "model_latest.pth"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A checkpoint as a training writes it, with optimiser and decoder; its classes' module is gone."""
    name = "foreign_models_of_a_test"
    foreign = types.ModuleType(name)
    exec(compile(FOREIGN, name, "exec"), foreign.__dict__)  # the classes say that they are of this module
    torch.manual_seed(2)
    width = FEATURES + 4 + 6
    modules = {
        "predictor": foreign.Predictor(2, width, 32, 2, 8, 3, 4),
        "action_encoder": foreign.Embedding(10, 6),
        "proprio_encoder": foreign.Embedding(3, 4),
        "decoder": foreign.Drawer(),
    }
    optimiser = torch.optim.AdamW(modules["predictor"].parameters())
    modules["predictor"](torch.randn(1, 12, width)).sum().backward()
    optimiser.step()
    for module in modules.values():
        module.eval()
    folder = tmp_path / "outputs" / "pusht"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "hydra.yaml").write_text(HYDRA)

    def write(content: dict[str, Any]) -> None:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, foreign)
            torch.save(content, folder / "checkpoints" / "model_latest.pth")

    write({"epoch": 100, **modules, "predictor_optimizer": optimiser, "decoder_optimizer": optimiser})
    assert name not in sys.modules
    return Published(folder, modules, write)


def load(path: Path, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "backbone": tiny_backbone(2),
        "action_mean": MEAN,
        "action_std": STD,
        "proprio_mean": PLACE_MEAN,
        "proprio_std": PLACE_STD,
    }
    before = torch.get_rng_state()
    model = load_dino_wm_checkpoint(path, **{**settings, **changes})
    assert torch.equal(before, torch.get_rng_state()), "the caller's random numbers were used"
    return model


def foreign_prediction(published: Published, frames: Tensor, places: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Latent without action, and the prediction, as the published code computes them: [N, h, P, .] each."""
    n, h = places.shape[:2]
    pixels = (frames.flatten(0, 1).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    pixels = torch.nn.functional.interpolate(pixels, (16, 16), mode="bilinear", antialias=True)
    visual = tiny_backbone(2)(pixel_values=pixels).last_hidden_state[:, 1:].unflatten(0, (n, h))
    place = published.modules["proprio_encoder"]((places - torch.tensor(PLACE_MEAN)) / torch.tensor(PLACE_STD))
    steps = (actions.unflatten(2, (5, 2)) - torch.tensor(MEAN)) / torch.tensor(STD)
    action = published.modules["action_encoder"](steps.flatten(2))
    on_patches = [x.unsqueeze(2).expand(-1, -1, 4, -1) for x in (place, action)]
    z = torch.cat([visual, *on_patches], dim=3)
    return z[..., :-6], published.modules["predictor"](z.flatten(1, 2)).unflatten(1, (h, 4))[..., :-6]


def test_the_same_numbers_come_out(published: Published, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), dtype=torch.uint8, generator=generator)
    places = torch.rand(2, 3, 3, generator=generator) * 300
    actions = torch.rand(2, 3, 10, generator=generator) - 0.5
    with torch.no_grad():
        latents, expected = foreign_prediction(published, frames, places, actions)
    for path in (published.folder, published.file):
        model = load(path, action_limit=0.5)
        assert not model.training and model.decoder is None and model.action_limit == 0.5
        assert (model.history, model.action_block, model.action_dim, model.image_size) == (3, 5, 2, 32)
        with torch.no_grad():
            encoded = model.encode({"pixels": frames.flatten(0, 1), "proprio": places.flatten(0, 1)})
            predicted = model.predict_all(latents, actions)
        torch.testing.assert_close(encoded.unflatten(0, (2, 3)), latents, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=1e-5)
    again = load_world_model(save_pretrained(model, tmp_path / "ours"))
    assert again.config == model.config
    assert torch.equal(again.predict(latents, actions), model.predict(latents, actions))


def test_every_part_and_every_key_is_accounted_for(published: Published) -> None:
    whole = {"epoch": 1, **published.modules}
    parts = {name: whole[name] for name in whole if name != "action_encoder"}
    published.write(parts)
    with pytest.raises(ValueError, match=r"missing \['action_encoder'\], unexpected nothing"):
        load(published.folder)
    published.write({**whole, "value_head": published.modules["decoder"]})
    with pytest.raises(ValueError, match=r"missing nothing, unexpected \['value_head'\]"):
        load(published.folder)
    published.write({**whole, "encoder": published.modules["decoder"]})
    with pytest.raises(ValueError, match="whose encoder was trained as well"):
        load(published.folder)
    published.write({**whole, "predictor": {"state": 1}})
    with pytest.raises(ValueError, match=r"predictor: expected a pickled torch\.nn\.Module, got dict"):
        load(published.folder)

    predictor = published.modules["predictor"]
    predictor.extra = torch.nn.Parameter(torch.zeros(1))
    removed = predictor.transformer.layers[1][1].net[4]
    removed.bias = None
    published.write(whole)
    with pytest.raises(
        ValueError,
        match=r"predictor: .* missing \['transformer\.layers\.1\.1\.net\.4\.bias'\], unexpected \['extra'\]",
    ):
        load(published.folder)


def test_settings_and_weights_must_belong_together(published: Published) -> None:
    def told(old: str, new: str) -> None:
        assert old in HYDRA
        (published.folder / "hydra.yaml").write_text(HYDRA.replace(old, new))

    for old, new, message in (
        ("num_hist: 3", "num_hist: 2", r"pos_embedding of shape \[1, 8, any\] \(num_hist = 2 frames of 2 x 2"),
        ("frameskip: 5", "frameskip: 3", "expected actions in blocks of frameskip = 3"),
        ("heads: 2", "heads: 3", "heads = 3 of equal width"),
        ("concat_dim: 1", "concat_dim: 0", "got concat_dim = 0"),
        ("num_action_repeat: 1", "num_action_repeat: 7", "got num_action_repeat = 7"),
        ("x_norm_patchtokens", "x_norm_clstoken", "got encoder.feature_key = x_norm_clstoken"),
        ("img_size: 32", "", "with img_size, frameskip, num_hist, encoder, predictor"),
        ("img_size: 32", "{:", "expected the settings of a DINO-WM training"),
    ):
        told(old, new)
        with pytest.raises(ValueError, match=message):
            load(published.folder)
    told("img_size", "img_size")
    with pytest.raises(ValueError, match=r"expected one for 16 px .* got one for 24 px"):
        load(published.folder, backbone=tiny_backbone(3))
    with pytest.raises(ValueError, match="proprio_mean: expected 3 finite numbers"):
        load(published.folder, proprio_mean=(1.0, 2.0))
    published.modules["proprio_encoder"].patch_embed = torch.nn.Conv1d(3, 5, 1)
    published.write(dict(published.modules))
    with pytest.raises(ValueError, match=rf"backbone: expected one with {FEATURES - 1} features .*dinov2_vits14"):
        load(published.folder)


def test_missing_and_damaged_files_are_explained(published: Published) -> None:
    content = published.file.read_bytes()
    published.file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"expected a whole checkpoint as torch\.save writes it"):
        load(published.folder)
    torch.save({"epoch": 1}, published.file, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"expected a whole checkpoint as torch\.save writes it"):
        load(published.folder)
    published.write({"list": 1})
    with zipfile.ZipFile(published.file) as archive:
        assert any(name.endswith("data.pkl") for name in archive.namelist())
    published.file.unlink()
    with pytest.raises(FileNotFoundError, match=r"model_latest\.pth: expected a DINO-WM checkpoint"):
        load(published.folder)
    published.write(dict(published.modules))
    (published.folder / "hydra.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected hydra\.yaml beside it or one folder up"):
        load(published.file)


class Call:
    """Pickles as a call of a function, which the usual unpickler makes."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "builtins.getattr", "subprocess.Popen"])
def test_a_pickle_that_calls_the_system_is_refused(name: str, tmp_path: Path) -> None:
    module, _, function = name.rpartition(".")
    __import__(module)
    called = getattr(sys.modules[module], function)
    torch.save({"predictor": Call(called, f"touch {tmp_path / 'harm'}")}, tmp_path / "bad.pth")
    named = {"os.system": "posix.system"}.get(name, name)
    with pytest.raises(ValueError, match=rf"bad\.pth: .* got one that names {named}, which no weights need"):
        read_inert(tmp_path / "bad.pth")
    assert not (tmp_path / "harm").exists()


def test_foreign_code_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harm = tmp_path / "harm"
    foreign = types.ModuleType("foreign_code_of_a_test")
    source = "from pathlib import Path\ndef harm(path):\n    Path(path).touch()\n    return 1\n"
    exec(compile(source, "foreign", "exec"), foreign.__dict__)
    monkeypatch.setitem(sys.modules, "foreign_code_of_a_test", foreign)  # it is even there to be run
    torch.save({"a": Call(foreign.harm, str(harm)), "b": torch.ones(2)}, tmp_path / "file.pth")
    content = read_inert(tmp_path / "file.pth")
    assert not harm.exists()
    assert content["a"].kind == "foreign_code_of_a_test.harm" and torch.equal(content["b"], torch.ones(2))
    with open(tmp_path / "file.pth", "rb") as file, zipfile.ZipFile(file) as archive:
        data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    assert b"harm" in data and pickle.PROTO in data
    torch.load(tmp_path / "file.pth", weights_only=False)
    assert harm.exists(), "the usual way would have run it"


def test_tensors_come_out_as_they_went_in(tmp_path: Path) -> None:
    module = torch.nn.BatchNorm1d(3)
    module.register_buffer("passing", torch.zeros(1), persistent=False)
    module.inner = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False), torch.nn.Identity()).to(torch.bfloat16)
    base = torch.arange(12.0).view(3, 4)
    content = {"module": module, "view": base[1:, ::2], "empty": torch.empty(0), "int": torch.tensor([2**40])}
    torch.save(content, tmp_path / "file.pth")
    read = read_inert(tmp_path / "file.pth")
    weights, expected = state_dict(read["module"]), module.state_dict()
    assert weights.keys() == expected.keys() and "passing" not in weights
    assert all(
        torch.equal(weights[name], expected[name]) and weights[name].dtype == expected[name].dtype for name in weights
    )
    assert torch.equal(read["view"], base[1:, ::2]) and read["empty"].shape == (0,) and read["int"].item() == 2**40
