"""Light 2D networks of separable convolutions with a shallow and a deep branch: ContextNet and Fast-SCNN.

N: batch. C: channels. *size: (Y, X).
    x       (N, in_channels, *size)
    detail  (N, C, *size / 8)
    context (N, C, *size / 32)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import relu

from napari_medseg.architectures.blocks.base import crop, he_init, pad_to_multiple, resize
from napari_medseg.architectures.blocks.light import PooledPyramid, Style


class ContextNet(nn.Module):
    """A shallow branch at full size for detail and a deep one at a quarter of it for context, fused at an eighth.

    Source: Poudel et al., BMVC 2018, tables 1 and 2 (ContextNet14).
    """

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, norm: str, dropout: float) -> None:
        super().__init__()
        style = Style(spatial_dims, norm)
        stages = partial(_inverted_stage, style)
        self.detail = nn.Sequential(
            style.convolution(in_channels, 32, stride=2),
            _separable(style, 32, 64, stride=2),
            _separable(style, 64, 128, stride=2),
            _separable(style, 128, 128),
        )
        self.context = nn.Sequential(
            style.convolution(in_channels, 32, stride=2),
            stages(32, 32, blocks=1, expansion=1),
            stages(32, 32, blocks=1),
            stages(32, 48, blocks=3, stride=2),
            stages(48, 64, blocks=3, stride=2),
            stages(64, 96, blocks=2),
            stages(96, 128, blocks=2),
        )
        self.fuse = _Fusion(style, 128, 128, 128)
        self.head = _head(style, 128, out_channels, dropout)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 32)
        size = padded.shape[2:]
        context = self.context(resize(padded, [n // 4 for n in size]))
        logits = self.head(self.fuse(self.detail(padded), context))
        return crop(resize(logits, size), x.shape[2:])


class FastSCNN(nn.Module):
    """One learnt down-sampling for both branches; the deep one ends in a pooled pyramid.

    Source: Poudel et al., BMVC 2019, table 1.
    """

    def __init__(self, *, in_channels: int, out_channels: int, spatial_dims: int, norm: str, dropout: float) -> None:
        super().__init__()
        style = Style(spatial_dims, norm)
        self.detail = nn.Sequential(
            style.convolution(in_channels, 32, stride=2),
            _separable(style, 32, 48, stride=2),
            _separable(style, 48, 64, stride=2),
        )
        self.context = nn.Sequential(
            _inverted_stage(style, 64, 64, blocks=3, stride=2),
            _inverted_stage(style, 64, 96, blocks=3, stride=2),
            _inverted_stage(style, 96, 128, blocks=3),
            PooledPyramid(style, 128, 32),
            style.convolution(256, 128, 1),
        )
        self.fuse = _Fusion(style, 64, 128, 128)
        self.head = _head(style, 128, out_channels, dropout)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        padded = pad_to_multiple(x, 32)
        detail = self.detail(padded)
        logits = self.head(self.fuse(detail, self.context(detail)))
        return crop(resize(logits, padded.shape[2:]), x.shape[2:])


class _Inverted(nn.Module):
    """1 x 1 to `expansion` times the channels, depthwise, 1 x 1 without activation (Sandler et al., CVPR 2018)."""

    def __init__(self, style: Style, before: int, after: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * before
        self.adds = stride == 1 and before == after
        self.body = nn.Sequential(
            style.convolution(before, wide, 1),
            style.depthwise(wide, stride=stride),
            style.convolution(wide, after, 1, active=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, *size) -> (N, after, *size / stride)."""
        y: Tensor = self.body(x)
        return x + y if self.adds else y


def _inverted_stage(
    style: Style, before: int, after: int, *, blocks: int, stride: int = 1, expansion: int = 6
) -> nn.Sequential:
    """Inverted bottlenecks in a row, the first with the stride."""
    return nn.Sequential(
        _Inverted(style, before, after, stride=stride, expansion=expansion),
        *(_Inverted(style, after, after, stride=1, expansion=expansion) for _ in range(blocks - 1)),
    )


def _separable(style: Style, before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    """Depthwise 3 x 3, then 1 x 1."""
    return nn.Sequential(style.depthwise(before, stride=stride), style.convolution(before, after, 1))


class _Fusion(nn.Module):
    """The interpolated context, made smooth by a depthwise convolution, added to the detail."""

    def __init__(self, style: Style, detail: int, context: int, after: int) -> None:
        super().__init__()
        biased = Style(style.spatial_dims, style.norm, bias=True)
        self.smooth = style.depthwise(context)
        self.context = biased.convolution(context, after, 1, active=False)
        self.detail = biased.convolution(detail, after, 1, active=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """(N, C, *size), (N, C, *size / 4) -> (N, after, *size)."""
        smooth = self.smooth(resize(context, detail.shape[2:]))
        return relu(self.context(smooth) + self.detail(detail))


def _head(style: Style, channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    """Two separable convolutions and the classifier."""
    return nn.Sequential(
        _separable(style, channels, channels),
        _separable(style, channels, channels),
        style.dropout(dropout),
        Style(style.spatial_dims, style.norm, bias=True).plain(channels, out_channels, 1),
    )
