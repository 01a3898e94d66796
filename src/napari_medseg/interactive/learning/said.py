"""What a person said in a session, as labels to train on: the guesses between count as not annotated."""

from __future__ import annotations

import numpy as np

from napari_medseg.arrays.boxes import whole
from napari_medseg.errors import InputError
from napari_medseg.interactive.kernels import Mask
from napari_medseg.interactive.marks import marks_of
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.prompts import Box
from napari_medseg.volume import Segmentation, label_dtype

IGNORE_LABEL = 255
"""The id of what nobody said anything about, unless another one is asked for."""


def said(session: InteractiveSession, *, ignore_label: int = IGNORE_LABEL) -> Segmentation:
    """The labels of a session as far as a person vouches for them, `ignore_label` elsewhere.

    A locked label counts as a whole: it was accepted. Of another one, the voxels that prompts mark count: painted
    slices, strokes, lassos and points. A voxel is background where every label is said not to be. `ignore_label` goes
    to `train` as it is. Raises InputError where nothing was said, and where a label has that id.
    """
    labels = sorted({*session.labels, *(prompt.label for prompt in session.prompts)})
    if ignore_label in labels:
        raise InputError(f"label {ignore_label} is in use: choose another id for what nobody said anything about")
    shape = session.volume.grid.shape
    out = np.full(shape, ignore_label, label_dtype(max([ignore_label, *labels])))
    nowhere = np.ones(shape, dtype=bool)
    for label in labels:
        here, elsewhere = _of_label(session, label)
        nowhere &= elsewhere
        out[here] = label
    out[nowhere] = 0
    if not np.isin(labels, out).any():
        raise InputError("nothing was accepted or drawn: accept objects (A, lock), or paint some slices, first")
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
