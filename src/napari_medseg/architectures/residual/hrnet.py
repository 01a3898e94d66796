"""HRNetV2: branches of four resolutions side by side, which exchange after every module (Wang et al., TPAMI 2021).

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). Branch k has width * 2^k channels and size / 2^(k + 2), k in 0 .. 3.
    x         (N, in_channels, *size)
    branches  [(N, width * 2^k, *size / 2^(k + 2)) for k]
    logits    (N, out_channels, *size)
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.resnet import EXPANSION, BasicBlock, Bottleneck, conv_unit

BRANCHES = 4


class HRNet(nn.Module):
    """A stem of stride 4, a stage of bottlenecks, then stages of two, three and four branches; in 2D or 3D.

    `blocks`: residual blocks per branch and module, and bottlenecks of the first stage. `modules`: of the stages with
    two, three and four branches. All branches, brought to the finest one's size, are classified together.
    Source: Wang et al., TPAMI 2021 (HRNetV2).
    """

    multiple = 32

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        width: int,
        stem: int,
        blocks: int,
        modules: tuple[int, ...],
        norm: str,
    ) -> None:
        super().__init__()
        unit = partial(conv_unit, spatial_dims, norm)
        wide = stem * EXPANSION
        self.stem = nn.Sequential(unit(in_channels, stem, stride=2), unit(stem, stem, stride=2))
        bottlenecks = [(stem, wide), *[(wide, wide)] * (blocks - 1)]
        self.first = nn.Sequential(*(Bottleneck(spatial_dims, norm, before, after) for before, after in bottlenecks))
        self.stages = nn.ModuleList()
        coarsest = wide
        for count, repeats in enumerate(modules, start=2):
            widths = [width * 2**k for k in range(count)]
            self.stages.append(_Stage(spatial_dims, norm, coarsest, widths, repeats, blocks=blocks))
            coarsest = widths[-1]
        together = width * (2**BRANCHES - 1)
        one = Conv[Conv.CONV, spatial_dims]
        self.head = nn.Sequential(
            conv_unit(spatial_dims, norm, together, together, kernel=1, bias=True),
            one(together, out_channels, kernel_size=1),
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        size = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        padded = x.shape[2:]
        branches = [self.first(self.stem(x))]
        for stage in self.stages:
            branches = stage(branches)
        finest = branches[0].shape[2:]
        logits = self.head(torch.cat([resize(branch, finest) for branch in branches], dim=1))
        return crop(resize(logits, padded), size)


class _Stage(nn.Module):
    """One more branch, opened from the coarsest, then modules of all; the stage of two opens its first branch too."""

    def __init__(
        self, spatial_dims: int, norm: str, coarsest: int, widths: list[int], repeats: int, *, blocks: int
    ) -> None:
        super().__init__()
        unit = partial(conv_unit, spatial_dims, norm)
        self.openings = nn.ModuleList([unit(coarsest, widths[-1], stride=2)])
        if len(widths) == 2:
            self.openings.insert(0, unit(coarsest, widths[0]))
        self.exchanges = nn.Sequential(*(_Exchange(spatial_dims, norm, widths, blocks) for _ in range(repeats)))

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """One branch less in than out."""
        opened = [opening(branches[-1]) for opening in self.openings]
        exchanged: list[Tensor] = self.exchanges([*branches[: len(branches) + 1 - len(opened)], *opened])
        return exchanged


class _Exchange(nn.Module):
    """A module of the paper: residual blocks in every branch, then each branch becomes the sum of all."""

    def __init__(self, spatial_dims: int, norm: str, widths: list[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(spatial_dims, norm, width, width) for _ in range(blocks))) for width in widths
        )
        self.sums = nn.ModuleList(_Sum(spatial_dims, norm, widths, target) for target in range(len(widths)))

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Branches in, branches of the same shapes out."""
        deep = [blocks(x) for blocks, x in zip(self.branches, branches, strict=True)]
        return [total(deep) for total in self.sums]


class _Sum(nn.Module):
    """All branches brought to one of them, and added."""

    def __init__(self, spatial_dims: int, norm: str, widths: list[int], target: int) -> None:
        super().__init__()
        self.target = target
        self.ways = nn.ModuleList(_bring(spatial_dims, norm, widths, k, target) for k in range(len(widths)))

    def forward(self, branches: list[Tensor]) -> Tensor:
        """[(N, widths[k], *size / 2^k)] -> (N, widths[target], *size / 2^target)."""
        size = branches[self.target].shape[2:]
        brought = [resize(way(branch), size) for way, branch in zip(self.ways, branches, strict=True)]
        return torch.relu(sum(brought[1:], brought[0]))


def _bring(spatial_dims: int, norm: str, widths: list[int], source: int, target: int) -> nn.Module:
    """From one branch to another: 1^n convolution (the size follows by interpolation), or 3^n ones of stride 2."""
    unit = partial(conv_unit, spatial_dims, norm)
    if source == target:
        return nn.Identity()
    if source > target:
        return unit(widths[source], widths[target], kernel=1, active=False)
    steps = [widths[source]] * (target - source) + [widths[target]]
    return nn.Sequential(
        *(
            unit(before, after, stride=2, active=k < target - source - 1)
            for k, (before, after) in enumerate(pairwise(steps))
        )
    )
