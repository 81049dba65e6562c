"""DINO-WM: a world model that predicts the patch features of a frozen DINOv2.

Zhou, Pan, LeCun and Pinto, "DINO-WM: World Models on Pre-trained Visual Features enable Zero-shot Planning",
arXiv 2411.04983. With images x_t and proprioception q_t every k environment steps, and a_t the k actions between
x_t and x_{t+1},

    v_t = DINOv2(x_t)                              features of P patches, F numbers each; fixed
    z_t = (v_t, phi(q_t))                          the latent: phi, linear, is appended to every patch
    z_{t+1} ~ p( (z_i, psi(a_i)),  i = t-h+1..t )  psi, linear, likewise

p is a vision transformer over the h * P patches of the window. A patch attends to all patches of its own frame and
of the frames before, so the output at frame i predicts frame i + 1 from the frames up to i, and training uses all h
of them. The place of psi in the output is dropped. A decoder, which no gradient leaves, draws images from v_t.

The published models: DINOv2 small (F = 384) on 14 x 14 patches, h = 3, k = 5, 10 numbers each for phi and psi,
p with depth 6, 16 heads of 64, MLPs of 2048 and dropout 0.1: the defaults here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.core.capabilities import PROPRIO_KEYS
from grasp_agent.core.types import Observation
from grasp_agent.models.dino_wm.backbone import load_backbone, save_backbone
from grasp_agent.models.frames import PIXEL_KEY, frames_of
from grasp_agent.models.registry import Part, register_model

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DinoWMConfig:
    """Everything needed to rebuild a `DinoWorldModel` around its backbone, saved as config.json.

    Attributes:
        image_size: height and width of the frames it reads.
        grid: patches per side, P = grid * grid; frames are resized to grid * the backbone's patch size.
        pixel_mean: colour in 0..1 that counts as 0 for the backbone.
        pixel_std: distance from it that counts as 1.
        history: h, frames the predictor reads.
        action_dim: numbers in one environment action.
        action_block: k, environment steps per model step.
        action_mean: action that counts as 0 inside, environment units, [action_dim]; None is zero.
        action_std: distance from it that counts as 1, [action_dim]; None is one.
        action_limit: largest number in an action that the training data cover, in environment units; agents
            plan within it. None means the environment's own bounds.
        action_features: numbers that psi appends to a patch.
        proprio_dim: numbers of proprioception in an observation; 0 means that it reads images alone.
        proprio_mean: proprioception that counts as 0 inside, [proprio_dim]; None is zero.
        proprio_std: distance from it that counts as 1, [proprio_dim]; None is one.
        proprio_features: numbers that phi appends to a patch.
        depth: blocks of the predictor.
        heads: attention heads.
        dim_head: width of a head.
        mlp_dim: width of the blocks' MLPs.
        dropout: in attention and MLPs.
        decoder_channels: channels of the decoder's last scale; 0 means no decoder.
    """

    image_size: int = 224
    grid: int = 14
    pixel_mean: tuple[float, ...] = IMAGENET_MEAN
    pixel_std: tuple[float, ...] = IMAGENET_STD
    history: int = 3
    action_dim: int = 2
    action_block: int = 5
    action_mean: tuple[float, ...] | None = None
    action_std: tuple[float, ...] | None = None
    action_limit: float | None = None
    action_features: int = 10
    proprio_dim: int = 0
    proprio_mean: tuple[float, ...] | None = None
    proprio_std: tuple[float, ...] | None = None
    proprio_features: int = 10
    depth: int = 6
    heads: int = 16
    dim_head: int = 64
    mlp_dim: int = 2048
    dropout: float = 0.1
    decoder_channels: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):  # JSON gives lists back
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(float(x) for x in value))
        sizes = {"pixel": 3, "action": self.action_dim, "proprio": self.proprio_dim}
        for name in (
            *("image_size", "grid", "history", "action_dim", "action_block", "action_features"),
            *("proprio_features", "depth", "heads", "dim_head", "mlp_dim"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        for name in ("proprio_dim", "decoder_channels"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        for name, size in sizes.items():
            for part in ("mean", "std"):
                value = getattr(self, f"{name}_{part}")
                if value is not None and (len(value) != size or not all(math.isfinite(x) for x in value)):
                    raise ValueError(f"{name}_{part}: expected {size} finite numbers, got {value}")
            std = getattr(self, f"{name}_std")
            if std is not None and min(std, default=1.0) <= 0:
                raise ValueError(f"{name}_std: expected positive numbers, got {std}")
        if self.action_limit is not None and self.action_limit <= 0:
            raise ValueError(f"action_limit: expected a positive number or None, got {self.action_limit}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected a share from 0 to below 1, got {self.dropout}")


class DinoWorldModel(nn.Module):
    """DINO-WM (a `grasp_agent.core.types.WorldModel`); a latent is a grid of patches, S = (P, F + features of phi).

    Args:
        config: sizes and structure.
        backbone: DINOv2 for images of `config.grid` x `config.grid` patches, from `load_backbone`. It stays frozen
            and in evaluation mode.

    Raises:
        ValueError: the backbone is for another grid.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    proprio_mean: Tensor
    proprio_std: Tensor

    def __init__(self, config: DinoWMConfig, backbone: nn.Module) -> None:
        super().__init__()
        settings: Any = backbone.config
        self.input_size = config.grid * int(settings.patch_size)
        if settings.image_size != self.input_size:
            raise ValueError(
                f"backbone: expected one for {self.input_size} px ({config.grid} x {config.grid} patches of"
                f" {settings.patch_size} px), got one for {settings.image_size} px; try load_backbone(..., grid="
                f"{config.grid})"
            )
        self.config = config
        self.image_size = config.image_size
        self.visual_size = int(settings.hidden_size)
        proprio_features = config.proprio_features if config.proprio_dim else 0
        patch_size = self.visual_size + proprio_features
        self.state_shape: tuple[int, ...] = (config.grid**2, patch_size)
        self.history = config.history
        self.action_dim = config.action_dim
        self.action_block = config.action_block
        self.action_limit = config.action_limit
        self.proprio_dim = config.proprio_dim
        # A goal is a picture as a rule: its proprioception is not known, so it does not count unless asked for.
        weights = torch.ones(self.state_shape)
        weights[:, self.visual_size :] = 0.0
        self.distance_weights = weights.tolist() if config.proprio_dim else None

        self.action_embedding = nn.Linear(config.action_dim * config.action_block, config.action_features)
        self.proprio_embedding: nn.Linear | None = None
        if config.proprio_dim:
            self.proprio_embedding = nn.Linear(config.proprio_dim, proprio_features)
        self.predictor = PatchPredictor(
            config.history,
            config.grid**2,
            patch_size + config.action_features,
            config.depth,
            config.heads,
            config.dim_head,
            config.mlp_dim,
            config.dropout,
        )
        self.decoder: PatchDecoder | None = None
        if config.decoder_channels:
            self.decoder = PatchDecoder(config.image_size, config.grid, config.decoder_channels, self.visual_size)
        self.decodes = self.decoder is not None
        self.backbone = backbone.requires_grad_(False).eval()
        for name, size in (("pixel", 3), ("action", config.action_dim), ("proprio", config.proprio_dim)):
            for part, default in (("mean", 0.0), ("std", 1.0)):
                value = getattr(config, f"{name}_{part}")
                self.register_buffer(f"{name}_{part}", torch.tensor(value or (default,) * size), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.action_mean.device

    def train(self, mode: bool = True) -> Self:
        """Switch dropout of the predictor; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def encode(self, obs: Observation) -> Tensor:
        """Encode frames, and proprioception if the model reads it.

        Args:
            obs: uint8 images [B, image_size, image_size, 3]; or a mapping with them under "pixels" and, if
                `proprio_dim` > 0, proprioception [B, proprio_dim] in environment units under "proprio" or
                "agent_pos".

        Returns:
            Latents [B, P, E].

        Raises:
            ValueError: the images have another shape or are not uint8, or proprioception is missing or of another
                shape.
        """
        frames = obs[PIXEL_KEY] if isinstance(obs, Mapping) else obs
        features = self.features(frames)
        if self.proprio_embedding is None:
            return features
        name = next((key for key in PROPRIO_KEYS if isinstance(obs, Mapping) and key in obs), None)
        want = (len(frames), self.config.proprio_dim)
        if name is None or not isinstance(obs, Mapping) or tuple(obs[name].shape) != want:
            raise ValueError(
                f"encode: expected proprioception of shape {list(want)} under {' or '.join(map(repr, PROPRIO_KEYS))}"
                f" beside the images under {PIXEL_KEY!r}, got"
                f" {'none' if name is None or not isinstance(obs, Mapping) else list(obs[name].shape)}; a model with"
                " proprio_dim = 0 reads images alone"
            )
        proprio = (obs[name].to(self.proprio_mean) - self.proprio_mean) / self.proprio_std
        embedded = self.proprio_embedding(proprio).unsqueeze(1).expand(-1, features.shape[1], -1)
        return torch.cat([features, embedded.to(features.dtype)], dim=2)

    @torch.no_grad()
    def features(self, frames: Tensor) -> Tensor:
        """v: uint8 images [B, image_size, image_size, 3] -> patch features [B, P, F], row by row of the image.

        Raises:
            ValueError: the images have another shape or are not uint8.
        """
        frames = frames_of(frames, self.image_size).to(self.device)
        images = (frames.to(self.pixel_mean.dtype) / 255 - self.pixel_mean) / self.pixel_std
        images = images.permute(0, 3, 1, 2)
        if self.input_size != self.image_size:
            size = (self.input_size, self.input_size)
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        tokens: Tensor = self.backbone(pixel_values=images).last_hidden_state
        return tokens[:, -self.state_shape[0] :].to(self.pixel_mean.dtype)  # behind the class token

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        """One model step: [N, h, P, E] states and [N, h, A] actions in environment units -> [N, P, E]."""
        return self.predict_all(states, actions)[:, -1]

    def predict_all(self, states: Tensor, actions: Tensor) -> Tensor:
        """The step after every frame, each predicted from the frames up to it.

        Args:
            states: [N, h, P, E], oldest first.
            actions: [N, h, A] in environment units; `actions[:, i]` leads on from `states[:, i]`.

        Returns:
            [N, h, P, E]; the entry i follows `states[:, i]`.
        """
        steps = actions.unflatten(2, (self.action_block, self.action_dim))
        embedded = self.action_embedding(((steps - self.action_mean) / self.action_std).flatten(2))
        embedded = embedded.unsqueeze(2).expand(-1, -1, states.shape[2], -1)
        following: Tensor = self.predictor(torch.cat([states, embedded.to(states.dtype)], dim=3))
        return following[..., : states.shape[3]].to(states.dtype)

    def decode(self, states: Tensor) -> Tensor:
        """Latents [B, P, E] -> images in 0..1, [B, image_size, image_size, 3], from their visual part alone.

        Raises:
            ValueError: the model has no decoder.
        """
        if self.decoder is None:
            raise ValueError("decode: this world model was built without a decoder (decoder_channels = 0)")
        images: Tensor = self.decoder(states[..., : self.visual_size])
        return images

    def goal_weights(self, visual: float = 1.0, proprio: float = 1.0) -> Tensor:
        """Weights [P, E] that make `GoalDistance(weights=...)` the published objective,

            d(z) = visual * mse(v, v_goal) + proprio * mse(phi, phi_goal),

        which the paper asks of the last state alone: `GoalDistance(running=0.0, weights=...)`.

        Raises:
            ValueError: a negative weight.
        """
        if min(visual, proprio) < 0:
            raise ValueError(f"goal_weights: expected weights of 0 or more, got {visual} and {proprio}")
        patches, size = self.state_shape
        weights = torch.full((patches, size), visual / (patches * self.visual_size))
        weights[:, self.visual_size :] = proprio / (patches * max(size - self.visual_size, 1))
        return weights


class PatchPredictor(nn.Module):
    """p: patches [N, h, P, D] -> [N, h, P, D], frame i from the frames up to i.

    A pre-norm transformer with a learned embedding of place and time.
    """

    mask: Tensor

    def __init__(
        self, frames: int, patches: int, width: int, depth: int, heads: int, dim_head: int, mlp_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(frames, patches, width))
        self.blocks = nn.ModuleList(_Block(width, heads, dim_head, mlp_dim, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        frame = torch.arange(frames).repeat_interleave(patches)
        self.register_buffer("mask", frame[:, None] >= frame[None, :], persistent=False)

    def forward(self, patches: Tensor) -> Tensor:
        x = (patches + self.position).flatten(1, 2)
        for block in self.blocks:
            x = block(x, self.mask)
        out: Tensor = self.norm(x).unflatten(1, patches.shape[1:3])
        return out


class _Block(nn.Module):
    """Attention and MLP, each on the normalised input and added to it."""

    def __init__(self, width: int, heads: int, dim_head: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * dim_head, bias=False)
        self.out = nn.Linear(heads * dim_head, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, mlp_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_dim, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        x = x + functional.dropout(self.out(attended.transpose(1, 2).flatten(2)), dropout)
        out: Tensor = x + self.mlp(x)
        return out


class PatchDecoder(nn.Module):
    """Patch features [B, P, F] -> images in 0..1, [B, size, size, 3]: transposed convolutions, doubling each time."""

    def __init__(self, image_size: int, grid: int, channels: int, in_features: int) -> None:
        super().__init__()
        self.image_size, self.grid = image_size, grid
        doublings = max(1, math.ceil(math.log2(image_size / grid)))
        width = channels * 2 ** min(doublings - 1, 3)
        layers: list[nn.Module] = [nn.Conv2d(in_features, width, 1)]
        for i in reversed(range(doublings)):
            narrower = channels * 2 ** min(max(i - 1, 0), 3)
            layers += [nn.SiLU(), nn.ConvTranspose2d(width, narrower, 4, stride=2, padding=1)]
            width = narrower
        self.net = nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        x = self.net(features.transpose(1, 2).unflatten(2, (self.grid, self.grid)))
        if x.shape[2] != self.image_size:
            x = functional.interpolate(x, (self.image_size, self.image_size), mode="bilinear", antialias=True)
        return torch.sigmoid(x).permute(0, 2, 3, 1)


def _load_backbone(folder: Path, config: DinoWMConfig) -> nn.Module:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder.parent}: expected a world model folder with {folder.name}/config.json, which is missing"
        )
    return load_backbone(folder, config.grid)


register_model("dino_wm", DinoWorldModel, DinoWMConfig, Part("backbone", save_backbone, _load_backbone))
