"""What a model says of itself, for the command and the panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_medseg.models.file import Model


def about(model: Model) -> str:
    """What a model says of itself, in one line: what for, which images, which licence."""
    spec = model.spec
    images = ", ".join(f"{channel.name} ({channel.modality})" for channel in spec.channels)
    parts = (spec.description, f"images: {images}", spec.licence and f"licence: {spec.licence}")
    return " ".join("; ".join(part.strip().rstrip(".") for part in parts if part).split())
