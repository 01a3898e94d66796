"""A user who segments organs of a CT in the window, and stops at each when it is good."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Qt
from scipy import ndimage

import napari_medseg as ms
from interact_walk import Clicker, deepest, dice
from napari_medseg.volume import Segmentation

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Organ:
    """What is segmented, and how its first prompt is drawn: "P", a click, or "B", a box."""

    name: str
    mask: Mask
    tool: str


class Surgeon(Clicker):
    """Counts every press of a button, key and gesture with the mouse. A jump to a slice is none."""

    def act(self, what: Any) -> None:
        what()
        self.interactions += 1

    def take(self, tool: str) -> None:
        """Take a tool by its button, where another one is taken."""
        if not self.panel.tools[tool].isChecked():
            self.act(partial(self.press, self.panel.tools[tool]))

    def sign(self, *, positive: bool) -> None:
        if self.panel.sign.isChecked() == positive:
            self.act(partial(self.key, Qt.Key.Key_T))

    def box(self, mask: Mask) -> None:
        """A rectangle around the organ in the slice that holds most of it."""
        z = int(mask.sum(axis=(1, 2)).argmax())
        rows, columns = ndimage.find_objects(mask[z].astype(np.uint8))[0]
        self.look_at((z, (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2))
        corners = (z, rows.start, columns.start), (z, rows.stop - 1, columns.stop - 1)
        first, last = (self.pixel(corner) for corner in corners)
        self.drag(first, (first + last) / 2, last)


def segment_organ(user: Surgeon, organ: Organ, spacing: Any, *, good: float, most: int) -> float:
    """Draw until the organ is good, and accept it; its Dice. most: prompts before the user gives up."""
    label = user.panel.work.label if user.panel.work is not None else 1
    for n in range(most):
        found = user.mask(label) if user.panel.work is not None else np.zeros_like(organ.mask)
        if n and dice(found, organ.mask) >= good:
            break
        if organ.tool == "B" and not n:
            user.take("B")
            user.box(organ.mask)
        else:
            click_the_error(user, organ.mask, found, spacing)
    score = dice(user.mask(label), organ.mask)
    user.picture(organ.name)
    user.act(partial(user.key, Qt.Key.Key_A))
    return score


def click_the_error(user: Surgeon, true: Mask, found: Mask, spacing: Any) -> None:
    """A click in the middle of the largest part of what is missing, or of what is too much."""
    missing, extra = true & ~found, found & ~true
    positive = bool(missing.sum() >= extra.sum())
    user.take("P")
    user.sign(positive=positive)
    parts, _ = ndimage.label(missing if positive else extra)
    user.click_voxel(deepest(parts == 1 + np.bincount(parts.ravel())[1:].argmax(), spacing))


def organs_of(truth: Segmentation) -> list[Organ]:
    """Left kidney, spleen and gallbladder of the labels of the abdominal CT, in the order of the walk."""
    labels = np.asarray(truth.data[...])
    named = {"left kidney": (3, "P"), "spleen": (1, "P"), "gallbladder": (4, "B")}
    return [Organ(name, labels == label, tool) for name, (label, tool) in named.items()]


def clicked_in_a_window(image: Path) -> None:
    """In a process of its own: a window in which two organs are clicked; it says their voxels and waits."""
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(1024, 700)
    user = Surgeon(viewer, ms.read(image))
    user.take("P")
    user.click_voxel((33, 39, 89))
    user.key(Qt.Key.Key_A)
    user.click_voxel((17, 48, 77))
    sys.stdout.write(f"{int(user.mask(1).sum())} {int(user.mask(2).sum())}\n")
    sys.stdout.flush()
    sys.stdin.read()
