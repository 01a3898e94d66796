"""Parts of every network: padding and cropping, which let it take any size, and attention that can be looked at.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad


def pad_to_multiple(x: Tensor, multiple: int | Sequence[int]) -> Tensor:
    """(N, C, *size) -> the same with every size a multiple of `multiple` (of its axis), its last plane repeated.

    Padding at the end only keeps voxel i at the index i // 2 of the half-sized scale, and so on. An image that would
    be down-sampled to a single voxel is made two voxels long, because one voxel has no variance to normalise by.
    """
    size = x.shape[2:]
    multiples = [multiple] * len(size) if isinstance(multiple, int) else list(multiple)
    padded = [-(-n // m) * m for n, m in zip(size, multiples, strict=True)]
    if padded == multiples:
        padded[-1] *= 2
    missing = [p - n for p, n in zip(padded, size, strict=True)]
    if not any(missing):
        return x
    return pad(x, [side for m in reversed(missing) for side in (0, m)], mode="replicate")


def normalisation(kind: str, channels: int) -> tuple[str, dict[str, bool | int]] | None:
    """MONAI's name for a norm with scale and shift: "batch", "instance", "group" of up to 8 groups, or "group32".

    A group holds two channels at least, so that a single voxel still has a variance. None for "none".
    """
    if kind == "none":
        return None
    if kind.startswith("group"):
        at_most = int(kind.removeprefix("group") or 8)
        return "group", {"num_groups": max(1, gcd(2 * at_most, channels) // 2)}
    return kind, {"affine": True}


class AttentionMap(nn.Identity):
    """Passes a network's attention on, unchanged; `attention_maps` finds and reads it here.

    Weights in [0, 1] of shape (N, 1 or C, *size of their level), or (N, heads, queries, keys).
    """


class ShapeMap(nn.Identity):
    """Passes on where a network sees borders, unchanged: (N, 1, *size of its level), in [0, 1]."""


def attention_maps(network: nn.Module, x: Tensor, *others: Tensor) -> dict[str, Tensor]:
    """The attention of a network on an image (N, C, *size): {dotted name of the place: detached map}.

    others: what the network takes beside the image, as the images and masks in the memory of mem3d.

    Empty for a network that attends to nothing. The network is run once, as it is (training or not), without gradient.
    """
    maps: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, __, output: maps.update({name: output.detach()})

    places = [(name, m) for name, m in network.named_modules() if isinstance(m, AttentionMap)]
    hooks = [place.register_forward_hook(keep(name)) for name, place in places]
    try:
        with torch.no_grad():
            network(x, *others)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, *size or larger) -> (N, C, *size): cuts off the padding of `pad_to_multiple`."""
    for axis, n in enumerate(size, start=2):
        x = x.narrow(axis, 0, n)
    return x


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, *other size) -> (N, C, *size) by linear interpolation, the edges of the images (not of voxels) aligned."""
    if x.shape[2:] == tuple(size):
        return x
    return interpolate(x, size=tuple(size), mode="trilinear" if x.ndim == 5 else "bilinear", align_corners=False)


def he_init(network: nn.Module, negative_slope: float = 0.0) -> None:
    """Draw every convolution's weights for a (leaky) rectifier and set its bias to zero (He et al. 2015, eq. 15)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=negative_slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
