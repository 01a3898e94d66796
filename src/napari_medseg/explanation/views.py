"""Maps of a network as maps of its window: whatever its mode and the level that they come from.

n: slices of a window. *size: of a map. A map of a 2D network is (n, C, *size), one of a 3D network (1, C, *size).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from napari_medseg.architectures.modes import TriPlanar
from napari_medseg.geometry import Shape3, triple_of

T = TypeVar("T")


def views_of(network: nn.Module) -> int:
    """How often the network inside runs for one window."""
    return 3 if isinstance(network, TriPlanar) else 1


def as_volume(found: Tensor, network: nn.Module, view: int) -> Tensor:
    """A map of one window as (C, z, y, x). view: of a network in three planes, which one."""
    if found.ndim == 5:
        return found[0]
    slices = found.transpose(0, 1)
    return slices.movedim(1, 1 + view) if isinstance(network, TriPlanar) else slices


def fitted(heat: Tensor, window: Shape3, padded: Shape3) -> Tensor:
    """A map (z, y, x) of any level at the size of the window, by linear interpolation.

    padded: what the network works on. Networks pad their input at its end until its size is a multiple of their steps:
    that part is cut off again.
    """
    if heat.shape != padded:
        heat = interpolate(heat[None, None], size=padded, mode="trilinear", align_corners=False)[0, 0]
    z, y, x = window
    return heat[:z, :y, :x]


def padded_by(network: nn.Module, view: int, first: Tensor, window: Shape3) -> Shape3:
    """The size (z, y, x) of what a network works on. first: what its first convolution takes."""
    return triple_of(max(n, m) for n, m in zip(window, as_volume(first, network, view).shape[1:], strict=True))


def is_map(found: Tensor, network: nn.Module, view: int, padded: Shape3) -> bool:
    """Whether a tensor lies on what a network works on, at any level: not a vector, nor a row of tokens."""
    if found.ndim not in (4, 5) or (found.ndim == 5 and len(found) != 1):
        return False
    size = as_volume(found, network, view).shape[1:]
    return all(1 < m <= n or n == 1 == m for m, n in zip(size, padded, strict=True))


def apart(found: Sequence[T], views: int) -> list[list[T]]:
    """What several runs of the same network gave, run by run."""
    each = len(found) // views
    return [list(found[i * each : (i + 1) * each]) for i in range(views)]


def odds(logits: Tensor, index: int, *, apart_each: bool) -> Tensor:
    """The log-odds (1, *size) of a class against all others; apart_each: of a region that others may overlap."""
    if apart_each:
        return logits[:, index]
    others = torch.cat((logits[:, :index], logits[:, index + 1 :]), dim=1)
    return logits[:, index] - others.logsumexp(1)
