"""Slices of made-up patches, as the report shows them."""

from __future__ import annotations

import torch

from napari_medseg.events import MadeUp


def shown(caption: str, image: torch.Tensor, classes: torch.Tensor) -> MadeUp:
    """The slice of a patch, image (C, z, y, x) and classes (z, y, x), that holds most of its labels."""
    labelled = (classes > 0).sum((1, 2))
    z = int(labelled.argmax()) if bool(labelled.any()) else len(labelled) // 2
    return MadeUp(caption, image[0, z].float().cpu().numpy(), classes[z].clamp(min=0).cpu().numpy())
