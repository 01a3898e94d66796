"""Artefacts that hide a part of an organ, and label maps that lack one: for networks that have to know a shape.

Shapes: images (C, z, y, x) float32, normalised; classes (z, y, x), below 0 where nobody knows; parts (z, y, x) bool.
"""

from __future__ import annotations

import numpy as np
import torch

from napari_medseg.geometry import Triple
from napari_medseg.transforms.augment import Draw

_BALL, _SLAB = (0.2, 0.6), (0.1, 0.3)
"""Smallest and largest radius of a ball, and half of a slab's thickness, in sides of a cube as large as the organ."""


def random_part(classes: torch.Tensor, spacing_zyx_mm: Triple, draw: Draw) -> torch.Tensor | None:
    """A ball about a random voxel of a random label, or a slab through it of random direction; None without labels."""
    labels = np.flatnonzero(classes[classes > 0].bincount().cpu().numpy())
    if not labels.size:
        return None
    places = (classes == int(draw.choice(labels))).nonzero()
    spacing = torch.tensor(spacing_zyx_mm, device=classes.device)
    side = (len(places) * float(np.prod(spacing_zyx_mm))) ** (1 / 3)
    at = places[int(draw.integers(len(places)))]
    axes = [(torch.arange(n, device=at.device) - k) * mm for n, k, mm in zip(classes.shape, at, spacing, strict=True)]
    away = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    if draw.random() < 0.5:
        off, reach = away.square().sum(0).sqrt(), side * draw.uniform(*_BALL)
    else:
        direction = draw.normal(size=3)
        unit = torch.tensor(direction / np.linalg.norm(direction), dtype=torch.float32, device=at.device)
        off, reach = torch.einsum("azyx,a->zyx", away, unit).abs(), side * draw.uniform(*_SLAB)
    part: torch.Tensor = off <= reach
    return part


def without_part(image: torch.Tensor, classes: torch.Tensor, part: torch.Tensor, draw: Draw) -> torch.Tensor:
    """The image as an artefact would leave it: in the part lie voxels of the background, or noise about one value."""
    background = image[:, classes == 0]
    count = int(part.sum())
    changed = image.clone()
    if background.shape[1] and draw.random() < 0.5:
        changed[:, part] = background[:, torch.from_numpy(draw.integers(background.shape[1], size=count))]
        return changed
    low, high = (torch.stack([f(channel) for channel in image]) for f in (torch.amin, torch.amax))
    value, spread = low + (high - low) * draw.random(), (high - low) * draw.uniform(0, 0.2)
    noise = torch.from_numpy(draw.normal(size=(len(image), count)).astype(np.float32)).to(image.device)
    changed[:, part] = value[:, None] + spread[:, None] * noise
    return changed
