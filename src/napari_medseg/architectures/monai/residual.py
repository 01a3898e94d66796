"""MONAI's residual networks as they are, behind our contract: any size in, logits out.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x           (N, in_channels, *size)
    logits      (N, out_channels, *size)
    supervised  [(N, out_channels, *ceil(size / 2^k))]
"""

from __future__ import annotations

from monai.networks import nets
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from napari_medseg.architectures.blocks.base import normalisation
from napari_medseg.architectures.monai.unets import NORMS, Supervised, Wrapped
from napari_medseg.architectures.unets.nnunet import Sizes, require_length


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
        upsample: str,
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
            upsample_mode=upsample,
        )
        super().__init__(net, 2 ** (len(blocks_down) - 1))


class SegResNetDS(Supervised):
    """SegResNet with deep supervision and up-convolutions (Myronenko et al., arXiv:2310.04110, 2023)."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        init_filters: int,
        blocks_down: Sizes,
        norm: str,
        deep_supervision: bool,
    ) -> None:
        levels = len(blocks_down) - 1
        net = nets.SegResNetDS(
            spatial_dims,
            init_filters,
            in_channels,
            out_channels,
            norm=NORMS[norm],
            blocks_down=blocks_down,
            dsdepth=levels if deep_supervision else 1,
        )
        super().__init__(net, 2**levels)


class HighResNet(Wrapped):
    """Residual blocks at full size whose kernels are dilated by 1, 2 and 4 (Li et al., IPMI 2017)."""

    def __init__(
        self, *, in_channels: int, out_channels: int, spatial_dims: int, features: Sizes, norm: str, dropout: float
    ) -> None:
        layers = [
            {"n_features": features[0], "kernel_size": 3},
            *({"n_features": n, "kernels": (3, 3), "repeat": 3} for n in features[:-1]),
            {"n_features": features[-1], "kernel_size": 1},
            {"kernel_size": 1},
        ]
        net = nets.HighResNet(
            spatial_dims, in_channels, out_channels, norm_type=NORMS[norm], dropout_prob=dropout, layer_params=layers
        )
        # MONAI ends in a norm and a ReLU as well: logits below zero would be lost.
        net.blocks[-1] = net.blocks[-1].conv
        super().__init__(net, 1)


class MedNeXt(Supervised):
    """ConvNeXt blocks in a residual U-Net (Roy et al., MICCAI 2023)."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        init_filters: int,
        expansion: Sizes,
        blocks: Sizes,
        kernel_size: int,
        deep_supervision: bool,
    ) -> None:
        require_length("blocks", blocks, len(expansion))
        net = nets.MedNeXt(
            spatial_dims,
            init_filters,
            in_channels,
            out_channels,
            encoder_expansion_ratio=expansion[:-1],
            decoder_expansion_ratio=expansion[-2::-1],
            bottleneck_expansion_ratio=expansion[-1],
            kernel_size=kernel_size,
            deep_supervision=deep_supervision,
            use_residual_connection=True,
            blocks_down=blocks[:-1],
            blocks_bottleneck=blocks[-1],
            blocks_up=blocks[-2::-1],
        )
        super().__init__(net, 2 ** (len(blocks) - 1))


class AHNet(Wrapped):
    """A ResNet-50 of 3x3x1 kernels with a dense 3D decoder, for thick slices (Liu et al., MICCAI 2018).

    MONAI's is anisotropic along its last axis, ours along the first (Z), as volumes are stored.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        layers: Sizes,
        psp_blocks: int,
        upsample: str,
        norm: str,
    ) -> None:
        linear = "trilinear" if spatial_dims == 3 else "bilinear"
        net = nets.AHNet(
            layers,
            spatial_dims,
            in_channels,
            out_channels,
            psp_block_num=psp_blocks,
            upsample_mode=linear if upsample == "linear" else upsample,
        )
        if upsample != "transpose":
            for projection in net.psp.project_modules:  # padded by MONAI, which transposed convolutions alone undo
                projection.padding = (0,) * spatial_dims
        _set_norm(net, norm, spatial_dims)
        in_plane = max(32, 2 ** (psp_blocks + 3))
        super().__init__(net, (in_plane, in_plane, 32)[:spatial_dims])

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        if x.ndim == 4:
            return super().forward(x)
        return super().forward(x.movedim(2, 4)).movedim(4, 2)


class FlexibleUNet(Wrapped):
    """A U-Net decoder on an EfficientNet or ResNet, untrained: nothing is downloaded."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        backbone: str,
        decoder_channels: Sizes,
        norm: str,
        dropout: float,
        upsample_widths: str,
    ) -> None:
        net = nets.FlexibleUNet(
            in_channels,
            out_channels,
            backbone,
            decoder_channels=decoder_channels,
            spatial_dims=spatial_dims,
            dropout=dropout,
            pre_conv="default" if upsample_widths == "projected" else None,
        )
        _set_norm(net, norm, spatial_dims)
        super().__init__(net, 32)


def _set_norm(net: nn.Module, kind: str, spatial_dims: int) -> None:
    """Every batch norm of a network that offers no other is made of the kind asked for."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d) and kind != "batch":
                channels = child.num_features
                setattr(module, name, get_norm_layer(normalisation(kind, channels), spatial_dims, channels))
