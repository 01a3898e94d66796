"""MONAI's transformers, behind our contract: any size in, logits out, attention to be looked at.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x       (N, in_channels, *size)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

import torch
from monai.networks import nets
from monai.networks.nets.swin_unetr import WindowAttention
from torch import Tensor, nn
from torch.nn.functional import interpolate

from napari_medseg.architectures.blocks.base import AttentionMap, crop, pad_to_multiple
from napari_medseg.architectures.monai.unets import NORMS, Wrapped
from napari_medseg.architectures.unets.nnunet import Sizes

PATCH = 16
TAPPED = (3, 6, 9)
"""Layers, from 0, whose tokens are skips."""


class UNETR(nn.Module):
    """A vision transformer as the encoder of a U-Net (Hatamizadeh et al., WACV 2022).

    MONAI's takes one size only; here the learnt positions, which are those of an image of `positions` tokens along
    each axis, are interpolated to the tokens of the image at hand.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        positions: int,
        feature_size: int,
        hidden_size: int,
        mlp_dim: int,
        num_heads: int,
        dropout: float,
        norm: str,
    ) -> None:
        super().__init__()
        self.positions = (positions,) * spatial_dims
        self.net = nets.UNETR(
            in_channels,
            out_channels,
            positions * PATCH,
            feature_size,
            hidden_size,
            mlp_dim,
            num_heads,
            norm_name=NORMS[norm],
            dropout_rate=dropout,
            spatial_dims=spatial_dims,
        )
        for block in self.net.vit.blocks:
            block.attn.drop_weights = nn.Sequential(AttentionMap(), block.attn.drop_weights)
            del block.norm_cross_attn  # MONAI makes it for a cross-attention that is not there

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, out_channels, *size); any size."""
        size = x.shape[2:]
        x = pad_to_multiple(x, PATCH)
        net = self.net
        first, second, third, last = self._transform(x)
        y = net.decoder5(last, net.encoder4(third))
        y = net.decoder4(y, net.encoder3(second))
        y = net.decoder3(y, net.encoder2(first))
        return crop(net.out(net.decoder2(y, net.encoder1(x))), size)

    def _transform(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, *size) -> four of (N, hidden_size, *size / 16): after layers 4, 7, 10 and 12.

        The paper says 3, 6, 9 and 12; weights have been trained with these.
        """
        vit = self.net.vit
        grid = vit.patch_embedding.patch_embeddings(x)
        places = vit.patch_embedding.position_embeddings.transpose(1, 2).unflatten(2, self.positions)
        if grid.shape[2:] != places.shape[2:]:
            mode = "bilinear" if grid.ndim == 4 else "trilinear"
            places = interpolate(places, grid.shape[2:], mode=mode, align_corners=False)
        tokens = vit.patch_embedding.dropout((grid + places).flatten(2).transpose(1, 2))
        states = []
        for layer, block in enumerate(vit.blocks):
            tokens = block(tokens)
            if layer in TAPPED:
                states.append(tokens)
        states.append(vit.norm(tokens))
        return [state.transpose(1, 2).unflatten(2, grid.shape[2:]) for state in states]


class SwinUNETR(Wrapped):
    """Shifted-window transformers as the encoder of a U-Net (Hatamizadeh et al., BrainLes 2021)."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        feature_size: int,
        depths: Sizes,
        num_heads: Sizes,
        window_size: int,
        dropout: float,
        dropout_path: float,
        norm: str,
        residual_merging: bool,
    ) -> None:
        with torch.device("cpu"):  # MONAI reads numbers off a tensor, which the meta device has not
            net = nets.SwinUNETR(
                in_channels,
                out_channels,
                depths=depths,
                num_heads=num_heads,
                window_size=window_size,
                feature_size=feature_size,
                drop_rate=dropout,
                dropout_path_rate=dropout_path,
                norm_name=NORMS[norm],
                use_v2=residual_merging,
                spatial_dims=spatial_dims,
            )
        net.to(torch.get_default_device())
        for attention in net.modules():
            if isinstance(attention, WindowAttention):
                attention.attn_drop = AttentionMap()
        super().__init__(net, 32)
