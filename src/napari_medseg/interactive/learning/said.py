"""What a person said in a session, as labels to train on: the guesses between count as not annotated."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from napari_medseg.arrays.boxes import Box as VoxelBox
from napari_medseg.arrays.boxes import whole, with_margin
from napari_medseg.errors import InputError
from napari_medseg.interactive.kernels import Mask
from napari_medseg.interactive.marks import marks_of
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.prompts import Box
from napari_medseg.volume import Segmentation, label_dtype

IGNORE_LABEL = 255
"""The id of what nobody said anything about, unless another one is asked for."""
_AROUND = 5
"""How far from an accepted label its surroundings reach, in voxels of the finest axis."""


def said(session: InteractiveSession, *, ignore_label: int = IGNORE_LABEL) -> Segmentation:
    """The labels of a session as far as a person vouches for them, `ignore_label` elsewhere.

    A locked label counts as a whole: it was accepted. Of another one, the voxels that prompts mark count: painted
    slices, strokes, lassos and points. A voxel is background where every label is said not to be, and beside a locked
    label: within 5 voxels (of the finest axis) of it, but not of the mask of one that is not locked, which may go on
    there. `ignore_label` goes to `train` as it is.

    Raises InputError where nothing was said, where all that was said is one label, and where a label has that id.
    """
    labels = session.labels
    if ignore_label in labels:
        raise InputError(f"label {ignore_label} is in use: choose another id for what nobody said anything about")
    shape = session.volume.grid.shape
    out = np.full(shape, ignore_label, label_dtype(max([ignore_label, *labels])))
    for label in sorted(labels, key=lambda label: label not in session.locked):
        box, near = _surroundings(session, label)
        out[box][near] = 0 if label in session.locked else ignore_label
    nowhere = np.ones(shape, dtype=bool)
    for label in labels:
        here, elsewhere = _of_label(session, label)
        nowhere &= elsewhere
        out[here] = label
    out[nowhere] = 0
    known = set(np.unique(out).tolist()) - {ignore_label}
    if not known - {0}:
        raise InputError("nothing was accepted or drawn: accept objects (A, lock), or paint some slices, first")
    if len(known) == 1:
        raise InputError(
            f"only label {min(known)} was said, and nothing that is not it: accept it (A, lock), paint it in a slice, "
            "or draw where it is not (T), first"
        )
    segmentation = session.segmentation
    names = {label: segmentation.labels.get(label, f"label {label}") for label in labels}
    return Segmentation(out, session.volume.grid, names, name=f"{session.volume.name} said".strip())


def _of_label(session: InteractiveSession, label: int) -> tuple[Mask, Mask]:
    """(where a label is said to be, where it is said not to be), in the whole volume."""
    shape = session.volume.grid.shape
    everywhere = whole(shape)
    mask = session.mask(label).within(everywhere)
    if label in session.locked:
        return mask, ~mask
    here, elsewhere = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for prompt in session.prompts:
        if prompt.label != label:
            continue
        marks = marks_of(prompt, shape)
        if not isinstance(prompt, Box):  # the middle of a box is a guess
            here |= marks.yes.within(everywhere)
        elsewhere |= marks.no.within(everywhere)
        if marks.limit is not None:
            elsewhere |= ~marks.limit.within(everywhere)
    return here & mask, elsewhere & ~mask  # of prompts that contradict each other the last one counts


def _surroundings(session: InteractiveSession, label: int) -> tuple[VoxelBox, Mask]:
    """(a box, what of it lies in a label or near it)."""
    grid, mask = session.volume.grid, session.mask(label)
    reach = _AROUND * min(grid.spacing)
    box = with_margin(mask.box, grid.shape, [math.ceil(reach / step) for step in grid.spacing])
    return box, ndimage.distance_transform_edt(~mask.within(box), sampling=grid.spacing) <= reach
