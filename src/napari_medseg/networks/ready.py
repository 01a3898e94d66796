"""MONAI's networks as they are, behind our contract: any size in, logits out.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x       (N, in_channels, *size)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

from math import prod

from monai.networks import nets
from torch import Tensor, nn

from napari_medseg.networks.blocks import crop, pad_to_multiple
from napari_medseg.networks.nnunet import Sizes, per_level, require_length

_NORMS = {
    "instance": ("instance", {"affine": True}),
    "instance_plain": ("instance", {"affine": False}),
    "batch": ("batch", {}),
}


class Wrapped(nn.Module):
    """A network of MONAI as `net`, its input padded to what its down-sampling needs and its logits cropped."""

    def __init__(self, net: nn.Module, multiple: int | Sizes) -> None:
        super().__init__()
        self.net = net
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        logits: Tensor = self.net(pad_to_multiple(x, self.multiple))
        return crop(logits, x.shape[2:])


class BasicUNet(Wrapped):
    """Two convolutions per level, max-pooling, five levels (Falk et al., Nature Methods 2019)."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        features: Sizes,
        norm: str,
        upsample: str,
        dropout: float,
    ) -> None:
        net = nets.BasicUNet(
            spatial_dims, in_channels, out_channels, features, norm=_NORMS[norm], dropout=dropout, upsample=upsample
        )
        super().__init__(net, 16)


class StridedUNet(Wrapped):
    """MONAI's UNet: strided residual units, PReLU (Kerfoot et al., STACOM 2018)."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        channels: Sizes,
        strides: Sizes,
        num_res_units: int,
        kernel_size: int,
        up_kernel_size: int,
        norm: str,
        activation: str,
        dropout: float,
        bias: bool,
    ) -> None:
        net = nets.UNet(
            spatial_dims,
            in_channels,
            out_channels,
            channels,
            strides,
            kernel_size=kernel_size,
            up_kernel_size=up_kernel_size,
            num_res_units=num_res_units,
            act=activation,
            norm=_NORMS[norm],
            dropout=dropout,
            bias=bias,
        )
        super().__init__(net, prod(strides))


class DynUNet(Wrapped):
    """MONAI's rebuild of nnU-Net's network, without its supervised scales."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        filters: Sizes,
        kernel_sizes: Sizes,
        strides: Sizes,
        norm: str,
        res_block: bool,
        trans_bias: bool,
        dropout: float,
    ) -> None:
        steps = per_level("strides", strides, len(filters), spatial_dims)
        net = nets.DynUNet(
            spatial_dims,
            in_channels,
            out_channels,
            per_level("kernel_sizes", kernel_sizes, len(filters), spatial_dims),
            steps,
            steps[1:],
            filters,
            dropout=dropout or None,
            norm_name=_NORMS[norm],
            res_block=res_block,
            trans_bias=trans_bias,
        )
        # Each is also a part of skip_layers, which alone is run; a tensor has one name.
        for name in ("input_block", "downsamples", "bottleneck", "upsamples"):
            delattr(net, name)
        super().__init__(net, tuple(prod(axis) for axis in zip(*steps, strict=True)))


class SegResNet(Wrapped):
    """Residual encoder with group norm and additive skips (Myronenko, BrainLes 2018), without the autoencoder."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        init_filters: int,
        blocks_down: Sizes,
        blocks_up: Sizes,
        dropout: float,
    ) -> None:
        require_length("blocks_up", blocks_up, len(blocks_down) - 1)
        net = nets.SegResNet(
            spatial_dims,
            init_filters,
            in_channels,
            out_channels,
            dropout_prob=dropout or None,
            blocks_down=blocks_down,
            blocks_up=blocks_up,
        )
        super().__init__(net, 2 ** (len(blocks_down) - 1))


class AttentionUNet(Wrapped):
    """Additive attention gates on the skips (Oktay et al., MIDL 2018)."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        channels: Sizes,
        strides: Sizes,
        kernel_size: int,
        up_kernel_size: int,
        dropout: float,
    ) -> None:
        require_length("strides", strides, len(channels) - 1)
        net = nets.AttentionUnet(
            spatial_dims, in_channels, out_channels, channels, strides, kernel_size, up_kernel_size, dropout
        )
        super().__init__(net, prod(strides))
