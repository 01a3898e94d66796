"""Convolutions and norms of a network on a CPU, by oneDNN and by the faster of torch's own kernels.

torch runs a 3D convolution of a single window without oneDNN where batch x channels x planes x rows is at most 20,480
(torch 2.13, `ConvParams::use_mkldnn`): the columns, which it does not count, hold most of the voxels then. Such a
convolution took 90 % of the sample's network. Asking for oneDNN by name made that network 4.5 times faster.
An up-convolution of 2^3 is a product of matrices, a quarter of torch's time at 32 channels of 32^3. So is a convolution
of 1^3: half of the time for 25 outputs of 16 channels of 96^3.
Instance normalisation is torch's group normalisation with a channel per group, which is vectorised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from torch import Tensor


class CpuKernels(TorchFunctionMode):
    """Inside it, float32 convolutions and instance norms of this thread on the CPU take the faster kernel.

    Nothing outside of the `with` changes, and no network is copied or changed.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        replacement = _REPLACEMENTS.get(func)
        if replacement is not None:
            found = replacement(*args, **(kwargs or {}))
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))


def _conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, ...] | int = 1,
    padding: tuple[int, ...] | int | str = 0,
    dilation: tuple[int, ...] | int = 1,
    groups: int = 1,
) -> Tensor | None:
    """The convolution by oneDNN, or as a product of matrices; None where that is no gain or cannot be."""
    if isinstance(padding, str) or not _plain(x):
        return None
    if max(weight.shape[2:]) == 1:
        alone = (_three(padding), _three(stride), groups) == ((0,) * 3, (1,) * 3, 1)
        return _pointwise(x, weight, bias) if alone else None
    if not _has_onednn():
        return None
    return torch.mkldnn_convolution(x, weight, bias, _three(padding), _three(stride), _three(dilation), groups)


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of 1^3, which sees no neighbour."""
    matrix, voxels = weight.detach().flatten(1).expand(len(x), -1, -1), x.flatten(2)
    found = matrix @ voxels if bias is None else torch.baddbmm(bias.view(1, -1, 1), matrix, voxels)
    return found.view(*found.shape[:2], *x.shape[2:])


def _conv_transpose3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, ...] | int = 1,
    padding: tuple[int, ...] | int = 0,
    output_padding: tuple[int, ...] | int = 0,
    groups: int = 1,
    dilation: tuple[int, ...] | int = 1,
) -> Tensor | None:
    """An up-convolution whose blocks do not overlap, as one product of matrices; None for any other."""
    block = weight.shape[2:]
    plain = (_three(padding), _three(output_padding), groups, _three(dilation)) == ((0,) * 3, (0,) * 3, 1, (1,) * 3)
    if not plain or _three(stride) != tuple(block) or not _plain(x):
        return None
    n, channels, *size = x.shape
    # Of weights that could learn, torch transposes the product: 7 times as long for 32 channels of 48^3.
    blocks = weight.detach().reshape(channels, -1).t() @ x.flatten(2)  # (N, K * block, voxels)
    # Each voxel becomes a block: (N, K, bz, by, bx, z, y, x) -> (N, K, z, bz, y, by, x, bx).
    apart = blocks.reshape(n, weight.shape[1], *block, *size).permute(0, 1, 5, 2, 6, 3, 7, 4)
    found = apart.reshape(n, weight.shape[1], *(a * b for a, b in zip(size, block, strict=True)))
    return found if bias is None else found.add_(bias.view(1, -1, 1, 1, 1))


def _instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """The norm as a group norm; None where it keeps running statistics."""
    if not use_input_stats or running_mean is not None or not _plain(x):
        return None
    # The kernel for channels that come last loses digits: its variance is a difference of two large sums.
    return torch.group_norm(x.contiguous(), x.shape[1], weight, bias, eps)


def _three(value: tuple[int, ...] | int) -> tuple[int, ...]:
    return (value,) * 3 if isinstance(value, int) else value


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _plain(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not (x.requires_grad and torch.is_grad_enabled())


_REPLACEMENTS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.conv3d: _conv3d,
    torch.conv_transpose3d: _conv_transpose3d,
    nn.functional.instance_norm: _instance_norm,
}
"""{torch's function: ours with the same arguments, or None where torch's is to be called}."""
