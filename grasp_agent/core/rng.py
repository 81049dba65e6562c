"""Counter-based noise: one integer key per row, and a row's numbers depend on nothing but its key.

A shared generator would hand row 3 other numbers whenever rows 0-2 change, so a plan would depend on its
neighbours in the batch. Here number `i` of row `b` is a hash of (key b, i): the splitmix64 generator read at
position i (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), on wrapping
64-bit integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def _signed(word: int) -> int:
    """The two's-complement reading of a 64-bit word: torch's integers are signed."""
    return word - (1 << 64) if word >> 63 else word


_STEP = _signed(0x9E3779B97F4A7C15)  # splitmix64's increment, 2^64 / golden ratio
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift_xor(x: Tensor, bits: int) -> Tensor:
    return x ^ ((x >> bits) & ((1 << (64 - bits)) - 1))  # the mask makes the arithmetic shift a logical one


def _hash(x: Tensor) -> Tensor:
    """splitmix64's finaliser: every input bit reaches every output bit."""
    x = _shift_xor(x, 30) * _MIX_1
    x = _shift_xor(x, 27) * _MIX_2
    return _shift_xor(x, 31)


def _words(keys: Tensor, count: int) -> Tensor:
    """`count` random 64-bit words per key, [B, count]."""
    counter = torch.arange(1, count + 1, device=keys.device) * _STEP
    return _hash(_hash(keys)[:, None] + counter)


def make_keys(seed: int, rows: int, device: torch.device | str | None = None) -> Tensor:
    """Keys [rows] of one seed; the first n of them do not depend on `rows`."""
    root = torch.full((rows,), _signed(seed % (1 << 64)), dtype=torch.int64, device=device)
    return split(root, torch.arange(rows, device=device))


def split(keys: Tensor, i: int | Tensor) -> Tensor:
    """Independent child keys: child `i` (an integer, or one per row [B]) of every key [B] -> [B]."""
    return _hash(_hash(keys) ^ ((torch.as_tensor(i, device=keys.device) + 1) * _STEP))


def uniform(
    keys: Tensor,
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Uniform numbers in [0, 1): keys [B] -> [B, *shape]."""
    bits = 24 if dtype == torch.float32 else 53  # as many as the mantissa holds, so that 1 is never reached
    words = _words(keys, math.prod(shape))
    numbers = ((words >> (64 - bits)) & ((1 << bits) - 1)).to(dtype) * 2.0**-bits
    return numbers.view(len(keys), *shape).to(device or keys.device)


def normal(
    keys: Tensor,
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Standard normal numbers: keys [B] -> [B, *shape] (Box-Muller: one word gives two numbers)."""
    count = math.prod(shape)
    words = _words(keys, (count + 1) // 2)
    radius = (((words >> 32) & 0xFFFFFFFF).to(dtype) + 0.5) * 2.0**-32
    angle = (words & 0xFFFFFFFF).to(dtype) * (2 * math.pi * 2.0**-32)
    radius = (-2 * radius.log()).clamp(min=0).sqrt()
    numbers = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).flatten(1)
    return numbers[:, :count].reshape(len(keys), *shape).to(device or keys.device)
