"""How a picture differs from the still background, in a few colour channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Difference(nn.Module):
    """uint8 frames [B, H, H, 3] -> difference and background, [B, C, size, size] each.

    With W [3, C] the whitening of colours and b the background that fits a frame best,

        difference = (frame / g - b) W,      background = (b - reference) W,

    both averaged down to `size`. The gain g of each colour is the median of frame / b: under a light of another colour
    or strength most pixels are still background. Without whitening a small thing would be a small part of the variance,
    and a decoder would leave it out. The background tells where a thing that lies over it looks different.

    Args:
        image_size: H.
        backgrounds: how many there are.
        colours: C.
        size: of the result.
    """

    backgrounds: Tensor
    reference: Tensor
    whitening: Tensor

    def __init__(self, image_size: int, backgrounds: int, colours: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("backgrounds", torch.zeros(backgrounds, image_size, image_size, 3))
        self.register_buffer("reference", torch.zeros(3))
        self.register_buffer("whitening", torch.eye(3)[:, :colours].clone())

    def set(self, backgrounds: Tensor, whitening: Tensor) -> None:
        """Take what was found in the data.

        Args:
            backgrounds: in 0..255, [K, H, H, 3].
            whitening: W, [3, C].
        """
        self.backgrounds.copy_(backgrounds)
        self.whitening.copy_(whitening)
        self.reference.copy_(backgrounds.flatten(0, 2).median(0).values)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        shrunk, backgrounds = self._shrunk(frames.to(self.backgrounds.dtype)), self._shrunk(self.backgrounds)
        differences = torch.stack([_in_its_light(shrunk, below) - below for below in backgrounds])  # [K, B, 3, n, n]
        gaps = differences.abs().amax(2)
        best = (gaps / (gaps + AGREES)).mean((2, 3)).argmin(0)  # the background that agrees with most pixels
        difference = differences[best, torch.arange(len(best), device=best.device)]
        return self._whitened(difference), self._whitened(backgrounds[best] - self.reference[:, None, None])

    def _shrunk(self, frames: Tensor) -> Tensor:
        """Frames [B, H, H, 3] averaged down to [B, 3, size, size]."""
        pictures, times = frames.permute(0, 3, 1, 2), frames.shape[1] // self.size
        if times * self.size == frames.shape[1]:
            return functional.avg_pool2d(pictures, times)
        return functional.interpolate(pictures, (self.size, self.size), mode="area")

    def _whitened(self, pictures: Tensor) -> Tensor:
        """Colours [B, 3, n, n] -> channels [B, C, n, n]."""
        return torch.einsum("bchw,cd->bdhw", pictures, self.whitening).contiguous()

    def background(self, number: int = 0) -> Tensor:
        """A background as `forward` gives it, at full size: [1, C, H, H]."""
        return self._whitened((self.backgrounds[number : number + 1] - self.reference).permute(0, 3, 1, 2))

    def frames(self, difference: Tensor, number: int = 0) -> Tensor:
        """Differences [B, C, H, H] from a background, as pictures in 0..1, [B, H, H, 3]."""
        colours: Tensor = difference.permute(0, 2, 3, 1) @ torch.linalg.pinv(self.whitening)
        return ((self.backgrounds[number] + colours) / 255.0).clamp(0, 1)


def _in_its_light(frames: Tensor, background: Tensor) -> Tensor:
    """Frames [B, 3, n, n] with each colour divided by its gain over a background [3, n, n]."""
    gains = (frames / background.clamp_min(1.0)).flatten(2).median(2).values
    lit = background.flatten(1).median(1).values >= DARK  # of a dark background nothing can be told
    gains = torch.where(lit, gains.clamp(1 / BRIGHTEST, BRIGHTEST), torch.ones_like(gains))
    return frames / gains[:, :, None, None]


DARK, BRIGHTEST = 32.0, 4.0
"""Least brightness, of 255, that a gain is told from; largest gain."""
AGREES = 10.0
"""Difference, of 255, at which a pixel half agrees with a background."""
