"""What a loss knows beside logits and classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.registry import Supervision


@dataclass(frozen=True)
class Context:
    """Where in a training, and on what, a loss is computed."""

    supervision: Supervision = "halving"
    """How the outputs of deep supervision are weighted."""
    done: float = 0.0
    """How much of the budget is used, 0 to 1, for losses whose weight changes."""
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Of the voxels in mm, one number for each axis of a patch."""
    class_weights: tuple[float, ...] = ()
    """Of the background and of each label, for the weighted cross-entropy."""
    images: torch.Tensor | None = None
    """(B, C, *size), for terms that look at the image."""


Loss = Callable[[torch.Tensor | Outputs, torch.Tensor, Context], torch.Tensor]
"""(outputs of the network, class indices (B, *size), context) -> the loss, a scalar."""
