"""Small networks beside the one that segments: coders of label maps, and what makes label maps and images.

N: batch. C: channels. K: classes. *size: the patch, (Z, Y, X) or (Y, X); a network is built for one size.
    maps    (N, K, *size) probabilities of the classes
    code    (N, length)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn import functional

_LEAK = 0.2
_SMALLEST = 4
"""Shortest side of the features from which a code is read."""
_LEAST = 1e-6
"""Smallest deviation that a number of a code is divided by."""
_SEEN = 0.05
"""Share of the newest batch in the statistics of codes."""


class Coder(nn.Module):
    """The code of label maps: maps (N, K, *size) -> (N, length)."""

    def __init__(self, *, in_channels: int, size: Sequence[int], length: int, width: int = 16) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, len(size)]
        sizes = sizes_of(size)
        widths = _widths(width, len(sizes))
        layers: list[nn.Module] = [conv(in_channels, width, 3, 1, 1), nn.LeakyReLU(_LEAK)]
        for k, (before, after) in enumerate(itertools.pairwise(widths)):
            layers += [conv(before, after, 3, _strides(sizes[k], sizes[k + 1]), 1), nn.LeakyReLU(_LEAK)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.code = nn.Linear(widths[-1] * math.prod(sizes[-1]), length)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, K, *size) -> (N, length)."""
        code: Tensor = self.code(self.layers(maps))
        return code


class Decoder(nn.Module):
    """Label maps of codes: (N, length) -> logits (N, K, *size)."""

    def __init__(self, *, out_channels: int, size: Sequence[int], length: int, width: int = 16) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, len(size)], Norm[Norm.INSTANCE, len(size)]
        self.sizes = sizes_of(size)[::-1]
        widths = _widths(width, len(self.sizes))[::-1]
        self.start = nn.Linear(length, widths[0] * math.prod(self.sizes[0]))
        self.stages = nn.ModuleList(
            nn.Sequential(conv(before, after, 3, 1, 1), norm(after, affine=True), nn.LeakyReLU(_LEAK))
            for before, after in itertools.pairwise(widths)
        )
        self.head = conv(widths[-1], out_channels, 3, 1, 1)

    def forward(self, code: Tensor) -> Tensor:
        """(N, length) -> (N, K, *size)."""
        x = self.start(code).reshape(len(code), -1, *self.sizes[0])
        for size, stage in zip(self.sizes[1:], self.stages, strict=True):
            x = stage(functional.interpolate(x, size=size, mode="nearest"))
        logits: Tensor = self.head(x)
        return logits


class Standardised(nn.Module):
    """Each number of a code with mean 0 and deviation 1 over the codes seen in training: (N, length) -> the same.

    Without it a code could be as small as it likes, and so could the distance of two codes. Batches are too small for
    their own statistics.
    """

    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(length))
        self.register_buffer("variance", torch.zeros(length))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, code: Tensor) -> Tensor:
        """(N, length) -> (N, length)."""
        return (code - self.mean) / self.variance.sqrt().clamp(min=_LEAST)

    @torch.no_grad()
    def count(self, code: Tensor) -> None:
        """Take the codes (N, length) of a batch into the statistics."""
        self.seen += 1
        share = max(_SEEN, 1 / float(self.seen))  # so that the first batches do not mix with a guess
        apart = code.mean(0) - self.mean
        self.mean += share * apart
        # Within a batch, since the mean moves while the coder learns.
        self.variance.lerp_(code.var(0) if len(code) > 1 else apart.square(), share)


class Autoencoder(nn.Module):
    """Label maps by a code of a few numbers (Oktay et al., IEEE TMI 2018: 64).

    It sees them at half their size: so few numbers say nothing of single voxels, and a step takes a fifth of the time.
    The decoder reads the code as it is. Where it read the standardised one, whose scale moves with every batch, it
    learned the mean shape and no more.
    """

    def __init__(self, *, classes: int, size: Sequence[int], length: int = 64) -> None:
        super().__init__()
        self.size = tuple(size)
        half = sizes_of(size)[:2][-1]
        self.coder = nn.Sequential(Shrunk(half), Coder(in_channels=classes, size=half, length=length))
        self.standardised = Standardised(length)
        self.decoder = Decoder(out_channels=classes, size=half, length=length)

    def code(self, maps: Tensor) -> Tensor:
        """(N, K, *size) -> (N, length), each number in deviations of the codes seen in training."""
        code: Tensor = self.standardised(self.coder(maps))
        return code

    def forward(self, maps: Tensor) -> Tensor:
        """(N, K, *size) -> logits of the same size."""
        code = self.coder(maps)
        if self.training:
            self.standardised.count(code)
        mode = "trilinear" if len(self.size) == 3 else "bilinear"
        return functional.interpolate(self.decoder(code), size=self.size, mode=mode, align_corners=False)


class Shrunk(nn.Module):
    """Maps (N, K, *size) by their means over the voxels of a coarser size."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, K, *size) -> (N, K, *coarser)."""
        return functional.interpolate(maps, size=self.size, mode="area")


class Flat:
    """Volumes as the networks of a mode see them: as they are in 3D, slice by slice in 2D."""

    def __init__(self, patch_zyx: Sequence[int], mode: str) -> None:
        self.by_slice = mode in ("2d", "2.5d")
        self.size = tuple(patch_zyx[1:] if self.by_slice else patch_zyx)

    def of(self, volumes: Tensor) -> Tensor:
        """(B, C, z, y, x) -> (N, C, *size)."""
        return volumes.transpose(1, 2).flatten(0, 1) if self.by_slice else volumes

    def back(self, images: Tensor, batch: int) -> Tensor:
        """(N, C, *size) -> (B, C, z, y, x)."""
        return images.reshape(batch, -1, *images.shape[1:]).transpose(1, 2) if self.by_slice else images


def sizes_of(size: Sequence[int]) -> list[tuple[int, ...]]:
    """The sizes of the features from fine to coarse: each halves the sides that stay long enough."""
    sizes = [tuple(size)]
    while any(n >= 2 * _SMALLEST for n in sizes[-1]):
        sizes.append(tuple(-(-n // 2) if n >= 2 * _SMALLEST else n for n in sizes[-1]))
    return sizes


def one_hot(classes: Tensor, count: int) -> Tensor:
    """(B, *size) -> (B, count, *size) 1 for the class, 0 where nothing is known."""
    plain = functional.one_hot(classes.clamp(min=0), count).movedim(-1, 1).float()
    return plain * (classes >= 0)[:, None]


def drawn_hard(logits: Tensor) -> Tensor:
    """The most likely class as 1 and the others as 0; the gradient is that of the probabilities.

    A critic that saw probabilities would know made-up maps by their not being 0 or 1.
    """
    soft = logits.softmax(1)
    hard = one_hot(soft.argmax(1), soft.shape[1])
    return hard + soft - soft.detach()


def _widths(width: int, count: int) -> list[int]:
    return [width * min(8, 2**k) for k in range(count)]


def _strides(before: Sequence[int], after: Sequence[int]) -> tuple[int, ...]:
    return tuple(2 if a < b else 1 for b, a in zip(before, after, strict=True))


def noise_like(count: int, length: int, seed: int, device: torch.device) -> Tensor:
    """(count, length) of the standard normal distribution."""
    return torch.randn(count, length, generator=torch.Generator().manual_seed(seed)).to(device)
