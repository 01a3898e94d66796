"""Several networks as one.

N: batch. C: channels. K: classes. *size: (Z, Y, X) or (Y, X).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from napari_medseg.architectures.blocks.outputs import logits_of


class Averaged(nn.Module):
    """The mean of the logits of networks that have the same channels and classes."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *size) -> logits (N, K, *size)."""
        total = logits_of(self.members[0](x)).clone()
        for member in itertools.islice(self.members, 1, None):
            total += logits_of(member(x))
        return total / len(self.members)
