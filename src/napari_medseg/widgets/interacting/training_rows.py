"""From masks to a training set: the images that were worked on become rows of the Train panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer


class DoneWork:
    """The images of this window on which something was accepted, with the layers of their labels."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Layer, Layer]] = []

    def add(self, image: Layer, labels: Layer) -> None:
        """Remember a pair; the later labels of an image take the place of the earlier ones."""
        self.forget(image)
        self._pairs.append((image, labels))

    def forget(self, image: Layer) -> None:
        """The labels of an image that has changed are not those of what it shows now."""
        self._pairs = [pair for pair in self._pairs if pair[0] != image]

    def pairs(self, viewer: Viewer) -> list[tuple[Layer, Layer]]:
        """Those whose layers are still open."""
        return [pair for pair in self._pairs if all(layer in viewer.layers for layer in pair)]
