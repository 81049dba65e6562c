"""Stage 1 of the recipes "joint" and "joint_grid": encoder and dynamics learnt together, from pixels and actions alone.

A joint-embedding predictive model: what is predicted is the encoding of the frames to come, never their pixels,

    z_t = E(o_t),     z_hat_t = F(z_hat_{t-h..t-1}, a_{t-h..t-1})  rolled out from the h encoded frames of the history,

    loss =   mean over t = 1..K and batch of  | z_hat_t - z_t |^2 / D      prediction
           + lambda_s  SIGReg(Z)                                           no collapse
           + lambda_i  | inverse(z_t, z_{t+1}) - a_t |^2 / A               inverse dynamics: what actions move is seen
           + lambda_c  (1 - cos(z_{t+1} - z_t, z_{t+2} - z_{t+1}))         temporal straightening
           + lambda_r  sum over scales s of 2^s | pool_s(decoder(z) - o) |^2   reconstruction

with the gradient in both z_hat and z: no stop-gradient, no moving average, no simulator state. Weights of zero leave a
term out; with lambda_r = 0 the decoder learns on latents that are detached, draws pictures, and shapes nothing.

Prediction alone is solved by an encoder that maps every frame to the same point. Batch normalisation at the encoder's
end keeps every number of the latent from that, and the sketched isotropic Gaussian regulariser the latent as a whole.
By Cramer and Wold a distribution is N(0, I) exactly if all its projections on unit vectors u are N(0, 1), and the
Epps-Pulley statistic compares a projection's characteristic function with the Gaussian's,

    SIGReg(Z) = mean over u of  integral over t of  | 1/N sum_n exp(i t u.z_n) - exp(-t^2 / 2) |^2  exp(-t^2 / 2) dt,

with fresh random u at every step. The published statistic is N times that; without the factor lambda does not depend
on the batch. Gaussian latents also suit the planner: their squared distance weighs all directions alike.

Which latents make a sample Z decides what is learnt first. What stands still is predicted for nothing, so with a sample
for each of the h + K times of the windows, as published, an encoder that has seen little fills its latent with
functions of it. All frames of the batch in one sample are the opposite: frames of one window are so alike in what
changes slowly that the sample is never quite Gaussian in it, and what moves comes first. Training takes the frames
together for its first half, and every time apart for its second.

Sources: Balestriero and LeCun, "LeJEPA", arXiv 2511.08544; Maes et al., "LeWorldModel", arXiv 2603.19312; Epps and
Pulley, Biometrika 70(3), 1983; inverse dynamics and straightening as in the joint embeddings of "PLDM" (arXiv
2502.14819).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.joint_embedding.model import JointEmbeddingModel
from grasp_agent.training.dynamics import FrameWindows, unrolled
from grasp_agent.training.loop import Batch, Losses

DIRECTIONS = 256
"""Random projections per step."""

TOGETHER = 0.5
"""Share of training in which all frames of the batch are one sample to the regulariser."""

SCALES = 4
"""Resolutions at which drawn frames are compared, each half of the one before."""

DRAWN = 0.1
"""Share of the frames that a decoder learns from which shapes nothing."""


@dataclass(frozen=True)
class JointWeights:
    """Weights of the terms beside the prediction's; 0 leaves a term out.

    Attributes:
        sigreg: of the latents' distribution.
        inverse: of the inverse dynamics.
        straightening: of the angle between one change and the next.
        reconstruction: of drawing the frame.
        noise: deviation of what is added to latents before they are drawn, so that frames that look different lie
            apart.
    """

    sigreg: float = 1.0
    inverse: float = 1.0
    straightening: float = 1.0
    reconstruction: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            if not getattr(self, name) >= 0:
                raise ValueError(f"weights.{name}: expected 0 or more, got {getattr(self, name)}")


class JointTask(FrameWindows):
    """Batches and losses of joint training.

    Args:
        model: encoder, dynamics and inverse dynamics are trained together; its decoder, if any, beside them.
        data: frames, actions and episode boundaries.
        episodes: to train on.
        batch: windows per step, each of h + K frames.
        weights: of the loss's terms.
        unroll: K, model steps predicted.
    """

    model: JointEmbeddingModel

    def __init__(
        self,
        model: JointEmbeddingModel,
        data: EpisodeDataset,
        episodes: NDArray[np.int64],
        batch: int,
        weights: JointWeights,
        unroll: int = 2,
    ) -> None:
        super().__init__(model, data)
        self.presents = data.windows(episodes, unroll * model.action_block + 1)
        self.images = FrameSource(data, model.device)
        self.batch = batch
        self.unroll = unroll
        self.weights = weights
        parts: list[nn.Module] = [model.encoder, model.dynamics, model.inverse]
        self.module = nn.ModuleList(parts + ([model.decoder] if model.decoder is not None else []))

    def draw(self, generator: np.random.Generator) -> Batch:
        """Numbers of the distinct frames [N], their places in the windows [B, h + K], actions, directions."""
        present = torch.from_numpy(generator.choice(self.presents, self.batch))
        numbers, actions = self.numbers(present, self.unroll)
        distinct, place = np.unique(numbers.numpy(), return_inverse=True)
        order = generator.permutation(len(distinct))  # the decoder learns from the first ones
        place = np.argsort(order)[place].reshape(numbers.shape)
        directions = generator.standard_normal((DIRECTIONS, int(np.prod(self.model.state_shape))), np.float32)
        return torch.from_numpy(distinct[order]), torch.from_numpy(place), actions, torch.from_numpy(directions)

    def losses(self, batch: Batch, progress: float) -> Losses:
        numbers, place, actions, directions = batch
        model, weights = self.model, self.weights
        images = model.whitening(self.images(numbers))
        latents = model.encoder(images)
        states = latents[place]  # [B, h + K, *S]
        predicted = unrolled(model, states, actions, self.unroll)
        terms = {"prediction": functional.mse_loss(predicted, states[:, model.history :])}
        terms["loss"] = terms["prediction"]
        if weights.sigreg:
            flat = latents.flatten(1) if progress < TOGETHER else states.flatten(2).transpose(0, 1)
            terms["sigreg"] = sigreg(flat, directions)
            terms["loss"] = terms["loss"] + weights.sigreg * terms["sigreg"]
        if weights.inverse:
            found = model.inverse(states[:, :-1].flatten(0, 1), states[:, 1:].flatten(0, 1))
            terms["inverse"] = functional.mse_loss(found, model.normalised(actions).flatten(0, 1))
            terms["loss"] = terms["loss"] + weights.inverse * terms["inverse"]
        if weights.straightening:
            change = states.flatten(2).diff(dim=1)
            terms["bend"] = 1 - functional.cosine_similarity(change[:, 1:], change[:, :-1], dim=2, eps=1e-3).mean()
            terms["loss"] = terms["loss"] + weights.straightening * terms["bend"]
        if model.decoder is not None:
            n = len(images) if weights.reconstruction else max(1, round(DRAWN * len(images)))
            shown = latents[:n] if weights.reconstruction else latents[:n].detach()
            if weights.noise:  # from the batch's own random numbers, so that a resumed training draws the same
                shown = shown + weights.noise * _noise_like(shown, directions)
            terms["reconstruction"] = reconstruction(model.drawn(shown), images[:n])
            terms["loss"] = terms["loss"] + (weights.reconstruction or 1.0) * terms["reconstruction"]
        return terms


class FrameSource:
    """Frames of the data by number, [n] -> uint8 [n, H, W, 3] on the device; kept there if it is a GPU with room."""

    def __init__(self, data: EpisodeDataset, device: torch.device) -> None:
        self.data, self.device = data, device
        self.kept: Tensor | None = None
        if device.type == "cuda":
            size = len(data) * data.image_size**2 * 3
            if size < 0.5 * torch.cuda.mem_get_info(device)[0]:
                parts = np.array_split(np.arange(len(data)), max(1, len(data) // 10_000))
                self.kept = torch.cat([torch.from_numpy(data.frames(part)).to(device) for part in parts])

    def __call__(self, numbers: Tensor) -> Tensor:
        if self.kept is not None:
            return self.kept[numbers]
        return torch.from_numpy(self.data.frames(numbers.cpu().numpy())).to(self.device)


def reconstruction(drawn: Tensor, images: Tensor) -> Tensor:
    """Squared error of images [B, 3, H, W] at several resolutions, each halving weighing twice; a scalar.

    The coarse ones tell the gradient where a thing is that does not overlap yet with what was drawn of it.
    """
    gap = drawn.float() - images
    error = gap.square().mean()
    for scale in range(1, SCALES):
        gap = functional.avg_pool2d(gap, 2)
        error = error + 2.0**scale * gap.square().mean()
    return error


def _noise_like(values: Tensor, directions: Tensor) -> Tensor:
    """Standard normal numbers of the shape of `values`, seeded by the step's random directions."""
    generator = torch.Generator(values.device).manual_seed(int(directions[0, 0].abs().double() * 2**40))
    return torch.randn(values.shape, generator=generator, device=values.device)


def sigreg(latents: Tensor, directions: Tensor, knots: int = 17, reach: float = 3.0) -> Tensor:
    """How far latents are from an isotropic standard Gaussian, by random projections.

    Args:
        latents: [..., N, D], samples of N; the mean over samples is returned.
        directions: [M, D], of any length; they are normalised here.
        knots: points of the trapezoidal rule on [0, reach]; the integrand is even in t.
        reach: end of the integral, in reciprocals of the Gaussian's deviation.

    Returns:
        Scalar of 0 or more: about 1 / N for N standard Gaussian latents, 0.4 for latents that are all zero.

    Source: LeJEPA, arXiv 2511.08544, section 4.
    """
    t = torch.linspace(0.0, reach, knots, device=latents.device)
    gaussian = torch.exp(-t.square() / 2)
    step = reach / (knots - 1)
    weight = 2 * step * gaussian
    weight[[0, -1]] /= 2
    projected = latents.float() @ functional.normalize(directions, dim=1).T  # [..., N, M]
    angle = projected.unsqueeze(-1) * t
    error = (angle.cos().mean(-3) - gaussian).square() + angle.sin().mean(-3).square()  # [..., M, knots]
    return (error @ weight).mean()
