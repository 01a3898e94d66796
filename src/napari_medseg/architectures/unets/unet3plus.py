"""UNet 3+ (Huang et al. 2020): every decoder node sees all scales, in 2D and 3D.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X). B: branch_channels. L: number of levels.
    x           (N, in_channels, *size)
    encoder k   (N, channels[k], *size / 2^k)
    decoder k   (N, L * B, *size / 2^k), the deepest being encoder L - 1
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k)) for k in 0 .. L - 1]
    presence    (N, 2): scores that the image holds nothing, something
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from napari_medseg.architectures.blocks.base import he_init, pad_to_multiple
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.blocks.resnet import conv_unit
from napari_medseg.architectures.blocks.unet import UpSample, logits_at, pooled_between, two_convolutions


class UNet3Plus(nn.Module):
    """Full-scale skips: a decoder node takes B channels from the encoder down to its level and all coarser nodes.

    Source: Huang et al., ICASSP 2020. `guided` adds the classification-guided module: from the deepest features it
    predicts whether there is anything to find, and log P(something) is added to the logits of the foreground. There
    the paper multiplies by an argmax, through which nothing is learnt; this way the loss of the logits trains it too,
    and its scores are a head of the outputs in training, for a loss of their own.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        channels: tuple[int, ...],
        branch_channels: int,
        norm: str,
        guided: bool,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        levels = len(channels)
        self.multiple = 2 ** (levels - 1)
        stage = partial(two_convolutions, spatial_dims, norm)
        self.encoder = nn.ModuleList(
            pooled_between(spatial_dims, (stage(*pair) for pair in pairwise((in_channels, *channels))))
        )
        wide = levels * branch_channels
        decoded = [*[wide] * (levels - 1), channels[-1]]
        node = partial(_FullScaleNode, spatial_dims, norm, branch_channels)
        self.decoder = nn.ModuleList(node((*channels[: k + 1], *decoded[k + 1 :]), k) for k in range(levels - 1))
        head = partial(Conv[Conv.CONV, spatial_dims], kernel_size=3, padding=1)
        self.heads = nn.ModuleList(head(c, out_channels) for c in (decoded if deep_supervision else decoded[:1]))
        self.presence = _presence(spatial_dims, channels[-1]) if guided else None
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision or `guided`: Outputs with the logits of every decoder level, and under
        "presence" the scores (N, 2) that there is nothing, something.
        """
        size = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        scales = []
        for stage in self.encoder:
            x = stage(x)
            scales.append(x)
        presence = None if self.presence is None else self.presence(x)
        for k in range(len(self.decoder) - 1, -1, -1):
            scales[k] = self.decoder[k](scales)  # in its place: no finer node sees encoder k
        logits = logits_at(self.heads if self.training else self.heads[:1], scales, size)
        if presence is None:
            return Outputs.of(logits)
        logits = [_where_present(scale, presence) for scale in logits]
        return Outputs.of(logits, {"presence": presence}) if self.training else logits[0]


class _FullScaleNode(nn.Module):
    """Decoder node k: every scale brought to its size and to B channels, side by side, and one more convolution."""

    def __init__(self, spatial_dims: int, norm: str, branch_channels: int, widths: tuple[int, ...], k: int) -> None:
        super().__init__()
        unit = partial(conv_unit, spatial_dims, norm, bias=True)
        self.branches = nn.ModuleList(
            nn.Sequential(_resampling(spatial_dims, i - k), unit(width, branch_channels))
            for i, width in enumerate(widths)
        )
        wide = len(widths) * branch_channels
        self.join = unit(wide, wide)

    def forward(self, scales: list[Tensor]) -> Tensor:
        """Encoder 0 .. k and decoder k + 1 .. L - 1 -> (N, L * B, *size / 2^k)."""
        brought = [branch(scale) for branch, scale in zip(self.branches, scales, strict=True)]
        y: Tensor = self.join(torch.cat(brought, dim=1))
        return y


def _resampling(spatial_dims: int, levels_up: int) -> nn.Module:
    """2^levels_up times the size by interpolation, or 2^-levels_up times by the maximum."""
    if levels_up > 0:
        return UpSample(2**levels_up)
    return Pool[Pool.MAX, spatial_dims](kernel_size=2**-levels_up) if levels_up else nn.Identity()


def _presence(spatial_dims: int, channels: int) -> nn.Module:
    """Dropout, a 1^n convolution to two scores, and their maximum over the image."""
    return nn.Sequential(
        nn.Dropout(0.5),
        Conv[Conv.CONV, spatial_dims](channels, 2, kernel_size=1),
        Pool[Pool.ADAPTIVEMAX, spatial_dims](1),
        nn.Flatten(),
    )


def _where_present(logits: Tensor, presence: Tensor) -> Tensor:
    """The logits (N, K, *size) with log P(something) of (N, 2) added to all but the background (first of several)."""
    certainty = logsigmoid(presence[:, 1] - presence[:, 0])
    classes = logits.shape[1]
    foreground = torch.arange(classes, device=logits.device) >= min(classes - 1, 1)
    added = certainty[:, None] * foreground
    return logits + added.reshape(*added.shape, *[1] * (logits.ndim - 2))
