"""From masks to a training set: the images that were worked on become rows of the Train panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error

from napari_medseg.interactive.learning.said import IGNORE_LABEL
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.canvas.layers import IGNORE_KEY, labels_layer
from napari_medseg.widgets.interacting.work_on_image import Shown

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer


class DoneWork:
    """The images of this window on which something was accepted, with the layers of their labels."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._pairs: list[tuple[Layer, Layer, Shown]] = []

    def add(self, image: Layer, labels: Layer) -> None:
        """Remember a pair; the later labels of an image take the place of the earlier ones."""
        self.forget(image)
        self._pairs.append((image, labels, Shown.of(image)))

    def forget(self, image: Layer) -> None:
        """The labels of an image that has changed are not those of what it shows now."""
        self._pairs = [pair for pair in self._pairs if pair[0] != image]  # napari hands plugins proxies

    def pairs(self) -> list[tuple[Layer, Layer]]:
        """Those whose layers are still open, and whose images still show what they did."""
        return [
            (image, labels)
            for image, labels, then in self._pairs
            if image in self._viewer.layers and labels in self._viewer.layers and not then.change_to(Shown.of(image))
        ]

    def hand_over(self, image: Layer, labels: Layer) -> None:
        """Open Train with a pair, and with those that were remembered before."""
        self.add(image, labels)
        panel = self._viewer.window.add_plugin_dock_widget("napari-medseg", "Train")[1]
        for one, its_labels in self.pairs():
            panel.cases.take([one], its_labels)

    def hand_over_said(self, image: Layer, found: Segmentation | str) -> None:
        """What the user vouches for becomes a layer of its own, in which the rest has the id that Train ignores.

        found: why there is none is told.
        """
        if isinstance(found, str):
            show_error(found)
            return
        data, arguments, _ = labels_layer(found, [image, *self._viewer.layers])
        arguments["metadata"] = {**arguments["metadata"], IGNORE_KEY: IGNORE_LABEL}
        self.hand_over(image, self._viewer.add_labels(data, **{**arguments, "visible": False}))
