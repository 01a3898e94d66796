"""MONAI's U-Nets as they are, behind our contract: any size in, logits out.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x           (N, in_channels, *size)
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k))], of all full size where a network says so
"""

from __future__ import annotations

from math import prod

from monai.networks import nets
from monai.networks.nets.attentionunet import AttentionBlock
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import AttentionMap, crop, pad_to_multiple
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.unets.nnunet import Sizes, per_level, require_length

NORMS = {
    "instance": ("instance", {"affine": True}),
    "instance_plain": ("instance", {"affine": False}),
    "batch": ("batch", {}),
    **{f"group{n}": ("group", {"num_groups": n}) for n in (4, 8, 16, 32)},
}


class Wrapped(nn.Module):
    """A network of MONAI as `net`: pads its input to a size that it can halve, and crops its logits."""

    def __init__(self, net: nn.Module, multiple: int | Sizes) -> None:
        super().__init__()
        self.net = net
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        logits: Tensor = self.net(pad_to_multiple(x, self.multiple))
        return crop(logits, x.shape[2:])


class Supervised(Wrapped):
    """A network of MONAI that returns its scales in training: full size first, each half of the one before."""

    def forward(self, x: Tensor) -> Tensor | Outputs:  # type: ignore[override]
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision: Outputs with the logits of every decoder level.
        """
        logits = self.net(pad_to_multiple(x, self.multiple))
        if isinstance(logits, Tensor):
            return crop(logits, x.shape[2:])
        return Outputs.of([crop(scale, [-(-n // 2**k) for n in x.shape[2:]]) for k, scale in enumerate(logits)])


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
            spatial_dims, in_channels, out_channels, features, norm=NORMS[norm], dropout=dropout, upsample=upsample
        )
        super().__init__(net, 16)


class BasicUNetPlusPlus(Wrapped):
    """UNet++ (Zhou et al., DLMIA 2018) on BasicUNet's convolutions; every supervised output has the full size."""

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
        deep_supervision: bool,
    ) -> None:
        net = nets.BasicUNetPlusPlus(
            spatial_dims,
            in_channels,
            out_channels,
            features,
            deep_supervision=deep_supervision,
            norm=NORMS[norm],
            dropout=dropout,
            upsample=upsample,
        )
        if not deep_supervision:  # MONAI runs the heads all the same, and nothing reads them
            net.final_conv_0_1 = net.final_conv_0_2 = net.final_conv_0_3 = nn.Identity()
        super().__init__(net, 16)

    def forward(self, x: Tensor) -> Tensor | Outputs:  # type: ignore[override]
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size.

        In training with deep supervision: Outputs with the logits of nodes X(0, 4) to X(0, 1), all of full size.
        """
        logits = [crop(node, x.shape[2:]) for node in reversed(self.net(pad_to_multiple(x, self.multiple)))]
        return Outputs.of(logits) if self.training else logits[0]


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
        steps = per_level("strides", strides, len(channels) - 1, spatial_dims)
        net = nets.UNet(
            spatial_dims,
            in_channels,
            out_channels,
            channels,
            strides if len(strides) == len(steps) else steps,
            kernel_size=kernel_size,
            up_kernel_size=up_kernel_size,
            num_res_units=num_res_units,
            act=activation,
            norm=NORMS[norm],
            dropout=dropout,
            bias=bias,
        )
        super().__init__(net, tuple(prod(axis) for axis in zip(*steps, strict=True)))


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
            norm_name=NORMS[norm],
            res_block=res_block,
            trans_bias=trans_bias,
        )
        # Each is also a part of skip_layers, which alone is run; a tensor has one name.
        for name in ("input_block", "downsamples", "bottleneck", "upsamples"):
            delattr(net, name)
        super().__init__(net, tuple(prod(axis) for axis in zip(*steps, strict=True)))


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
        for gate in net.modules():
            if isinstance(gate, AttentionBlock):
                gate.psi.append(AttentionMap())
        super().__init__(net, prod(strides))
