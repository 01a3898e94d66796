"""What every loss reads: logits, classes and which voxels are known, and the sums that most of them share.

Shapes: logits (B, K, *size), classes (B, *size), known and truth as below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional

from napari_medseg.training.cases import IGNORE
from napari_medseg.training.losses.context import Context


@dataclass(frozen=True, eq=False)
class Masked:
    """The logits and the classes of one scale; unknown voxels count nowhere."""

    logits: torch.Tensor
    """(B, K, *size) float32."""
    classes: torch.Tensor
    """(B, *size); IGNORE where nobody annotated."""

    @classmethod
    def of(cls, logits: torch.Tensor, classes: torch.Tensor) -> Masked:
        return cls(logits.float(), classes)

    @property
    def count(self) -> int:
        """Classes, the background included."""
        return self.logits.shape[1]

    @cached_property
    def known(self) -> torch.Tensor:
        """(B, 1, *size) 1 where somebody annotated, else 0."""
        return (self.classes != IGNORE)[:, None].float()

    @cached_property
    def known_voxels(self) -> torch.Tensor:
        """How many voxels are known, and 1 where none is: a mean would be NaN."""
        return self.known.sum().clamp(min=1)

    @cached_property
    def truth(self) -> torch.Tensor:
        """(B, K, *size) 1 for the class of a known voxel, else 0."""
        plain = functional.one_hot(self.classes.clamp(min=0), self.count).movedim(-1, 1).float()
        return plain * self.known

    @cached_property
    def probability(self) -> torch.Tensor:
        """(B, K, *size) of each class; 0 where nothing is known."""
        return self.logits.softmax(1) * self.known

    def over_voxels(self, values: torch.Tensor) -> torch.Tensor:
        """Sums (K - 1,) over the voxels of the whole batch, one for each class but the background.

        A sum over the batch rather than per patch: a class absent from one patch does not pull its overlap to zero.
        """
        return values[:, 1:].sum(dim=(0, *range(2, values.ndim)))

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of values (B, *size) over the known voxels."""
        return (values * self.known[:, 0]).sum() / self.known_voxels


Term = Callable[[Masked, Context], torch.Tensor]
"""One loss: a scalar."""
