"""MS-SSIM of the probabilities and the truth: a loss of neighbourhoods. IGNORE voxels count nowhere."""

from __future__ import annotations

import torch
from torch.nn import functional

from napari_medseg.training.losses.context import Context
from napari_medseg.training.losses.masked import Masked

_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, the finest first (Wang et al., Asilomar 2003)."""
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def ms_ssim(given: Masked, context: Context) -> torch.Tensor:
    """1 - MS-SSIM of the foreground classes, as in UNet 3+ (Huang et al., ICASSP 2020).

    A patch that is too small for all five scales is compared at fewer, with exponents that sum to 1 again.
    """
    a, b = given.probability[:, 1:], given.truth[:, 1:]
    count = _scales_for(a.shape[2:])
    total = sum(_SCALES[:count])
    result = torch.ones((), device=a.device)
    for scale, exponent in enumerate(_SCALES[:count]):
        contrast, luminance = _compared(a, b)
        value = contrast * luminance if scale == count - 1 else contrast
        result = result * value.mean().clamp(min=1e-6) ** (exponent / total)
        a, b = (_halved(x) for x in (a, b))
    return 1 - result


def _scales_for(size: torch.Size) -> int:
    longest = max(size)
    fitting = [k for k in range(len(_SCALES)) if longest // 2**k >= _WINDOW]
    return max(1, len(fitting))


def _compared(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The contrast and structure, and the luminance, of each neighbourhood."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a, var_b = ((_blurred(x * x) - mean**2).clamp(min=0) for x, mean in ((a, mean_a), (b, mean_b)))
    both = _blurred(a * b) - mean_a * mean_b
    contrast = (2 * both + _C2) / (var_a + var_b + _C2)
    return contrast, (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)


def _blurred(x: torch.Tensor) -> torch.Tensor:
    """Gaussian means over whole windows; an axis shorter than the window has one that fits."""
    dims = x.ndim - 2
    convolve = functional.conv3d if dims == 3 else functional.conv2d
    flat = x.flatten(0, 1)[:, None]
    for axis in range(dims):
        n = min(_WINDOW, x.shape[2 + axis] - 1 + x.shape[2 + axis] % 2)
        offsets = torch.arange(n, device=x.device) - (n - 1) / 2
        kernel = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
        shape = [1] * (dims + 2)
        shape[2 + axis] = n
        flat = convolve(flat, (kernel / kernel.sum()).view(shape))
    return torch.unflatten(flat[:, 0], 0, x.shape[:2])


def _halved(x: torch.Tensor) -> torch.Tensor:
    pool = functional.avg_pool3d if x.ndim == 5 else functional.avg_pool2d
    return pool(x, [2 if n > 1 else 1 for n in x.shape[2:]])
