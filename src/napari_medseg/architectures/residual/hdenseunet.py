"""H-DenseUNet (Li et al. 2018): a 2D DenseUNet on three adjacent slices, a 3D DenseUNet guided by it, and their fusion.

N: batch. C: channels. K: out_channels. F: features at full size. *size: (Z, Y, X) or (Y, X).
    x                (N, in_channels, Z, Y, X)
    triples          (N * Z, 3 in_channels, Y, X): each slice between its neighbours, the edge slices repeated
    planar features  (N, F, Z, Y, X), and scores (N, K, Z, Y, X)
    guided input     (N, in_channels + K, Z, Y, X): x and the planar scores
    logits           (N, K, Z, Y, X)
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.dense import dense_block, norm_relu, transition
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.resnet import conv_unit
from napari_medseg.architectures.modes import AdjacentSlices

Sizes = tuple[int, ...]
NEIGHBOURS = 3
"""Slices that the 2D part sees: one and those beside it."""


class HDenseUNet(nn.Module):
    """The hybrid cascade: the logits of the 2D part guide the 3D part, and the features of both are added.

    Source: Li et al., IEEE TMI 2018. The authors train the 2D part first and then all jointly: `planar` is the whole
    2D part as a network of volumes (its weights are those named "planar." here), so a trainer first fits
    ``network.planar`` and then ``network`` itself (`training_phases`). With `residual`, which is ours, the fusion
    corrects the 2D scores instead of replacing them: short trainings then never fall behind their own 2D part.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        features: int,
        width: int,
        planar_growth: int,
        planar_blocks: Sizes,
        growth: int,
        blocks: Sizes,
        norm: str,
        skips: bool,
        score_scale: float,
        residual: bool,
        dropout: float,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.residual = residual
        self.score_scale = score_scale
        make = partial(DenseUNet, out_channels=out_channels, features=features, width=width, norm=norm, skips=skips)
        self.planar = PlanarPart(make(2, NEIGHBOURS * in_channels, growth=planar_growth, blocks=planar_blocks))
        self.volumetric = make(
            spatial_dims, in_channels + out_channels, growth=growth, blocks=blocks, scored=deep_supervision
        )
        head = Conv[Conv.CONV, spatial_dims](width, out_channels, kernel_size=1)
        self.fusion = nn.Sequential(conv_unit(spatial_dims, norm, width, width, bias=True), nn.Dropout(dropout), head)
        he_init(self)
        if residual:
            with torch.no_grad():
                head.weight.mul_(0.1)  # the joint training starts close to the trained 2D part

    def training_phases(self) -> dict[str, nn.Module]:
        """What to train in turn, each a network of volumes: first the 2D part alone, then everything jointly."""
        return {"planar": self.planar, "joint": self}

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, Z, Y, X) -> logits (N, K, Z, Y, X); any size.

        In training with deep supervision: Outputs with the fused, the 2D part's and the 3D part's logits, of full size.
        """
        size = x.shape[2:]
        x = pad_to_multiple(x, self.volumetric.multiple)
        planar = self.planar.outputs(x)
        features, scores = planar.heads["features"], planar.logits
        guided = torch.cat((x, self.score_scale * scores), dim=1)
        volumetric = self.volumetric.features(guided)
        fused = self.fusion(features + volumetric)
        fused = crop(fused + scores if self.residual else fused, size)
        if not (self.training and self.deep_supervision):
            return fused
        return Outputs(fused, (crop(scores, size), crop(self.volumetric.scores(volumetric), size)))


class PlanarPart(nn.Module):
    """The 2D part as a network of volumes: every slice with its two neighbours as channels."""

    def __init__(self, net: DenseUNet) -> None:
        super().__init__()
        self.slices = AdjacentSlices(net, NEIGHBOURS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, Z, Y, X) -> logits (N, K, Z, Y, X); any size."""
        return self.outputs(x).logits

    def outputs(self, x: Tensor) -> Outputs:
        """(N, C, Z, Y, X) -> logits (N, K, Z, Y, X), and under "features" (N, F, Z, Y, X)."""
        repeated = torch.cat((x[:, :, :1], x, x[:, :, -1:]), dim=2)
        outputs: Outputs = self.slices(repeated)
        return outputs


class DenseUNet(nn.Module):
    """A DenseNet encoder and a decoder of linear up-sampling and 3^n convolutions, in 2D or 3D.

    In 3D the size is halved twice along z and five times in the plane, as slices are thick. `skips` adds each scale of
    the encoder to the up-sampled one, by a 1^n convolution where their channels differ. The 3D part has no head
    (`scored`) unless deep supervision trains it.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        out_channels: int,
        features: int,
        width: int,
        growth: int,
        blocks: Sizes,
        norm: str,
        skips: bool,
        scored: bool = True,
    ) -> None:
        super().__init__()
        in_plane: int | Sizes = 2 if spatial_dims == 2 else (1, 2, 2)
        self.multiple: int | Sizes = 32 if spatial_dims == 2 else (4, 32, 32)
        self.stem = conv_unit(spatial_dims, norm, in_channels, features, kernel=7, stride=2)
        self.down = nn.ModuleList([Pool[Pool.MAX, spatial_dims](kernel_size=3, stride=2, padding=1)])
        self.blocks = nn.ModuleList()
        scales = [features]
        before = features
        for layers in blocks:
            if self.blocks:
                self.down.append(transition(spatial_dims, norm, before, before // 2, in_plane))
                before //= 2
            self.blocks.append(dense_block(spatial_dims, norm, before, growth, layers))
            before += layers * growth
            scales.append(before)
        self.last = norm_relu(spatial_dims, norm, before)
        # The published widths of the decoder, as they follow from those of the encoder.
        middle = [*scales[2::-1], features] if spatial_dims == 2 else [before, *scales[2::-1]]
        widths = [before, *middle, width]
        self.up = nn.ModuleList(conv_unit(spatial_dims, norm, *pair, bias=True) for pair in pairwise(widths))
        self.skips = nn.ModuleList()
        if skips:
            self.skips.extend(_fitting(spatial_dims, *pair) for pair in zip(scales[3::-1], widths, strict=False))
        self.scores = Conv[Conv.CONV, spatial_dims](width, out_channels, kernel_size=1) if scored else nn.Identity()

    def forward(self, x: Tensor) -> Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size), "features" (N, width, *size); any size."""
        features = self.features(x)
        return Outputs(self.scores(features), heads={"features": features})

    def features(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> (N, width, *size)."""
        size = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        scales = [x, x := self.stem(x)]
        for down, block in zip(self.down, self.blocks, strict=True):
            x = block(down(x))
            scales.append(x)
        x = self.last(scales.pop())
        for k, up in enumerate(self.up):
            finer = scales.pop()
            x = resize(x, finer.shape[2:])
            if k < len(self.skips):
                x = x + self.skips[k](finer)
            x = up(x)
        return crop(x, size)


def _fitting(spatial_dims: int, before: int, after: int) -> nn.Module:
    """A 1^n convolution where the channels differ."""
    return nn.Identity() if before == after else Conv[Conv.CONV, spatial_dims](before, after, kernel_size=1)
