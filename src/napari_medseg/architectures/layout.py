"""How the weights of convolutions lie in memory: as torch lays them, or with the channels last.

A convolution computes in the layout of its weights, and gives what it computes to the next one in it. The values are
the same; sums may differ in the last bits.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Layout = Literal["contiguous", "channels last"]
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the axes of a weight: a network may have convolutions of slices and of volumes."""


def lay(network: nn.Module, layout: Layout) -> None:
    """Lay the weights of a network out, in place."""
    for parameter in network.parameters():
        if parameter.ndim in _CHANNELS_LAST:
            wanted = _CHANNELS_LAST[parameter.ndim] if layout == "channels last" else torch.contiguous_format
            parameter.data = parameter.data.contiguous(memory_format=wanted)
