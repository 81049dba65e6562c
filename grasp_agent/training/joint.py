"""Stage 1 of the recipe "joint": encoder and dynamics learnt together, from pixels and actions alone.

A joint-embedding predictive model: what is predicted is the encoding of the frames to come, never their pixels,

    z_t = E(o_t),     z_hat_t = F(z_hat_{t-h..t-1}, a_{t-h..t-1})  rolled out from the h encoded frames of the history,
    loss = mean over t = 1..K and batch of  | z_hat_t - z_t |^2 / D   +   lambda SIGReg(Z),

with the gradient in both z_hat and z: no stop-gradient, no moving average, no simulator state. Prediction alone is
solved by an encoder that maps every frame to the same point. What keeps it from that collapse is the sketched
isotropic Gaussian regulariser on samples Z of N latents: by Cramer and Wold a distribution is N(0, I) exactly if all
its projections on unit vectors u are N(0, 1), and the Epps-Pulley statistic compares a projection's characteristic
function with the Gaussian's,

    SIGReg(Z) = mean over u of  integral over t of  | 1/N sum_n exp(i t u.z_n) - exp(-t^2 / 2) |^2  exp(-t^2 / 2) dt,

with fresh random u at every step. The published statistic is N times that; without the factor lambda does not depend
on the batch. Gaussian latents also suit the planner: their squared distance weighs all directions alike.

Which latents make a sample decides what is learnt first. What stands still is predicted for nothing, so with a sample
for each of the h + K times of the windows, as published, an encoder that has seen little fills its latent with
functions of it. All frames of the batch in one sample are the opposite: frames of one window are so alike in what
changes slowly that the sample is never quite Gaussian in it, and what moves comes first. Training takes the frames
together for its first half, and every time apart for its second.

An encoder as it is initialised maps all frames almost to one point. There both terms are nearly flat, and what grows
first are the two or three directions that vary most, into which the regulariser then folds all others; so training
begins from an encoder whose latents are white (`whiten`).

The decoder, if the model has one, learns on latents that are detached: it draws pictures, and shapes nothing.

Sources: Balestriero and LeCun, "LeJEPA", arXiv 2511.08544; Maes et al., "LeWorldModel", arXiv 2603.19312; Epps and
Pulley, Biometrika 70(3), 1983.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.latent.encoders import ConvEncoder
from grasp_agent.models.latent.model import LatentWorldModel
from grasp_agent.training.dynamics import FrameWindows, unrolled
from grasp_agent.training.loop import Batch, Losses
from grasp_agent.training.representation import reconstruction_loss

DIRECTIONS = 256
"""Random projections per step."""

TOGETHER = 0.5
"""Share of training in which all frames of the batch are one sample to the regulariser."""


class JointTask(FrameWindows):
    """Batches and losses of joint training.

    Args:
        model: encoder and dynamics are trained together; its decoder, if any, beside them.
        data: frames, actions and episode boundaries.
        episodes: to train on.
        batch: windows per step, each of h + K frames.
        regularisation: lambda, the weight of SIGReg.
        unroll: K, model steps predicted.
        drawn: share of the frames that the decoder learns from, to save time.
    """

    model: LatentWorldModel

    def __init__(
        self,
        model: LatentWorldModel,
        data: EpisodeDataset,
        episodes: NDArray[np.int64],
        batch: int,
        regularisation: float,
        unroll: int = 2,
        drawn: float = 0.05,
    ) -> None:
        super().__init__(model, data)
        self.data = data
        self.presents = data.windows(episodes, unroll * model.action_block + 1)
        self.batch = batch
        self.unroll = unroll
        self.regularisation = regularisation
        self.drawn = drawn
        parts: list[nn.Module] = [model.encoder, model.dynamics]
        self.module = nn.ModuleList(parts + ([model.decoder] if model.decoder is not None else []))

    def draw(self, generator: np.random.Generator) -> Batch:
        """Images of the distinct frames [N, H, W, 3], their places in the windows [B, h + K], actions, directions."""
        present = torch.from_numpy(generator.choice(self.presents, self.batch))
        numbers, actions = self.numbers(present, self.unroll)
        distinct, place = np.unique(numbers.numpy(), return_inverse=True)
        order = generator.permutation(len(distinct))  # the decoder learns from the first ones
        images = torch.from_numpy(self.data.frames(distinct[order]))
        place = np.argsort(order)[place].reshape(numbers.shape)
        directions = generator.standard_normal((DIRECTIONS, self.model.config.state_size), np.float32)
        return images, torch.from_numpy(place), actions, torch.from_numpy(directions)

    def losses(self, batch: Batch, progress: float) -> Losses:
        images, place, actions, directions = batch
        latents = self.model.encode(images)
        states = latents[place]
        predicted = unrolled(self.model, states, actions, self.unroll)
        terms = {
            "prediction": functional.mse_loss(predicted, states[:, self.model.history :]),
            "sigreg": sigreg(latents if progress < TOGETHER else states.transpose(0, 1), directions),
        }
        terms["loss"] = terms["prediction"] + self.regularisation * terms["sigreg"]
        if self.model.decoder is not None:
            n = max(1, round(self.drawn * len(images)))
            terms["reconstruction"] = reconstruction_loss(self.model.decode(latents[:n].detach()), images[:n])
            terms["loss"] = terms["loss"] + terms["reconstruction"]
        return terms


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


@torch.no_grad()
def whiten(encoder: ConvEncoder, frames: Tensor) -> None:
    """Initialise by data: latents of mean 0 and covariance I on the given frames, before any training.

    The maps are scaled to deviation 1, so that every keypoint looks at something; the layers of the head to outputs of
    mean 0 and deviation 1; the last reads the principal components of what the one before it says, each over its
    deviation. As in Kraehenbuehl et al., "Data-dependent Initializations", arXiv 1511.06856.

    Args:
        encoder: newly initialised.
        frames: uint8 images [N, H, W, 3], more than a latent has numbers.
    """
    seen: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
        for name, layer in (("maps", encoder.maps), ("keypoints", encoder.keypoints))
    ]
    encoder(frames)
    encoder.maps.weight /= seen["maps"].flatten(2).std(2).mean()
    encoder(frames)
    for hook in hooks:
        hook.remove()
    *inner, last = encoder.head
    x = seen["keypoints"]
    for layer in inner:
        if isinstance(layer, nn.Linear):
            layer.weight /= layer(x).std(0).mean()
            layer.bias.copy_(-layer.weight @ x.mean(0))
        x = layer(x)
    assert isinstance(last, nn.Linear)
    _, size, components = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    n = min(last.out_features, len(components))
    deviation = size[:n, None].clamp_min(1e-3 * float(size[0])) / len(x) ** 0.5
    last.weight[:n] = components[:n] / deviation
    last.bias.copy_(-last.weight @ x.mean(0))
