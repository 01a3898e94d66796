"""DeepIGeoS: a segmentation of any model, the user's clicks, and R-Net, which corrects the one by the other.

    image      (C, Z, Y, X) float32, normalised
    labels     (Z, Y, X) int64, 0 to K - 1: channels of the network, 0 being the background
    clicks     K masks (Z, Y, X): voxels that the user says belong to each class
    distances  (K, Z, Y, X) float32, 0 to 1: geodesic distance to the nearest click of each class

Source: Wang et al., TPAMI 2018. Its conditional random field is not part of this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.functional import one_hot

from napari_medseg.arrays.views import onto
from napari_medseg.errors import InputError
from napari_medseg.geometry import Triple
from napari_medseg.interactive.kernels import Map, Mask, geodesic
from napari_medseg.interactive.marks import Marks, marks_of
from napari_medseg.models.file import Model, as_model
from napari_medseg.prompts import Prompt
from napari_medseg.volume import Segmentation, Volume, label_dtype, require_same_grid

Labels = npt.NDArray[np.int64]

STEP_PER_MM = 0.05
"""What a path costs beside the differences of intensities, in deviations of the image."""
FARTHEST = 4.0
"""The geodesic distance from which on a click says nothing, in deviations of the image."""
LEAST_ERROR, VOXELS_A_CLICK = 30, 100
"""A simulated user leaves a wrong region of fewer voxels alone, and clicks once for so many (section 3.4)."""
_SWEEPS = 64
"""Pairs of sweeps, at most: the map ends when nothing changes."""
_MARGIN_VOXELS = 24
"""Around the labels and the prompts; nothing beyond is read."""


def correct(
    volume: Volume, segmentation: Segmentation, prompts: Sequence[Prompt], model: Model | str | Path
) -> Segmentation:
    """Correct a segmentation, of whatever made it, by prompts and an R-Net ("deepigeos_rnet").

    The voxels of the prompts come back as they say. Labels that the model does not know stay as they are. Only the
    surroundings of its labels and of the prompts are read. Raises GridMismatchError, InputError for a prompt outside
    of the volume, for a label that the model does not know and for a model of another kind.
    """
    segmentation = onto(segmentation, volume.grid)
    require_same_grid(volume, segmentation, "the volume", "the segmentation")
    opened = as_model(model)
    ids = opened.spec.label_ids
    if opened.spec.network != "deepigeos_rnet":
        raise InputError(f"{opened.path}: correct takes a model of deepigeos_rnet; this is {opened.spec.network}")
    if len(volume.channels) != len(opened.spec.channels):
        raise InputError(f"{opened.path}: takes {len(opened.spec.channels)} channels; got {len(volume.channels)}")
    unknown = [prompt.label for prompt in prompts if prompt.label not in ids[1:]]
    if unknown:
        raise InputError(f"{opened.path}: corrects labels {', '.join(map(str, ids[1:]))}; got a prompt of {unknown[0]}")
    marks = [(ids.index(prompt.label), marks_of(prompt, volume.grid.shape)) for prompt in prompts]
    data = np.array(segmentation.data[:, :, :])
    box = surroundings(np.isin(data, ids[1:]), [mark for _, mark in marks])
    clicks = _clicks(marks, len(ids), box)
    start = np.zeros(clicks.shape[1:], np.int64)
    for channel, label in enumerate(ids):
        start[data[box] == label] = channel
    image = standardised(np.asarray(volume.data[(slice(None), *box)]))
    with torch.inference_mode():
        found = corrected(opened.load_network(), image, start, clicks, volume.grid.spacing)
    ours = np.isin(data[box], ids) | clicks.any(axis=0)
    data = data.astype(np.promote_types(np.uint8 if data.dtype.kind == "b" else data.dtype, label_dtype(max(ids))))
    data[box] = np.where(ours, np.asarray(ids)[found].astype(data.dtype), data[box])
    names = {**{k: opened.spec.labels[k] for k in ids[1:]}, **segmentation.labels}
    return Segmentation(data, volume.grid, names, name=segmentation.name)


def corrected(network: nn.Module, image: Map, labels: Labels, clicks: npt.NDArray[np.bool_], spacing: Triple) -> Labels:
    """One correction: the labels that R-Net gives, the clicked voxels as they were clicked."""
    device = next(network.parameters()).device
    inputs = (part.to(device) for part in rnet_inputs(image, labels, clicks, spacing))
    found: Labels = network(*inputs)[0].argmax(0).cpu().numpy()
    for channel, clicked in enumerate(clicks):
        found[clicked] = channel
    return found


def rnet_inputs(
    image: Map, labels: Labels, clicks: npt.NDArray[np.bool_], spacing: Triple
) -> tuple[Tensor, Tensor, Tensor]:
    """What R-Net takes, with a batch axis of 1: the image, the classes but the background, the distances."""
    classes = one_hot(torch.from_numpy(labels), len(clicks))[..., 1:].movedim(-1, 0).float()
    return torch.from_numpy(image)[None], classes[None], torch.from_numpy(distances(image, clicks, spacing))[None]


def distances(image: Map, clicks: npt.NDArray[np.bool_], spacing: Triple) -> Map:
    """(K, Z, Y, X) the geodesic distance to the nearest click of each class, over FARTHEST, at most 1.

    1 throughout for a class without a click. spacing in mm: a long voxel is a long way.
    """
    everywhere = np.ones(image.shape[1:], dtype=bool)
    maps = [
        geodesic(clicked, image, everywhere, STEP_PER_MM, _SWEEPS, spacing)
        if clicked.any()
        else np.full(clicked.shape, FARTHEST, np.float32)
        for clicked in clicks
    ]
    near: Map = np.minimum(np.stack(maps) / np.float32(FARTHEST), np.float32(1))
    return near


def simulated_clicks(labels: Labels, truth: Labels, classes: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """The clicks of a user who sees the truth: random voxels of every wrong region, by its size, of the true class.

    A region is where the truth is one class and the labels are not; voxels that share a face hang together.
    """
    clicks = np.zeros((classes, *truth.shape), dtype=bool)
    for channel in range(classes):
        parts, count = ndimage.label((truth == channel) & (labels != channel))
        for part in range(1, count + 1):
            voxels = np.argwhere(parts == part)
            chosen = rng.choice(voxels, clicks_for(len(voxels)), replace=False)
            clicks[channel][tuple(chosen.T)] = True
    return clicks


def clicks_for(voxels: int) -> int:
    """Clicks on a wrong region of so many voxels."""
    return 0 if voxels < LEAST_ERROR else math.ceil(voxels / VOXELS_A_CLICK)


def standardised(image: npt.NDArray[np.generic]) -> Map:
    """(C, Z, Y, X) each channel by its own mean and deviation; what is not finite is 0."""
    values = np.nan_to_num(image.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    mean, std = values.mean(axis=(1, 2, 3), keepdims=True), values.std(axis=(1, 2, 3), keepdims=True)
    scaled: Map = np.clip((values - mean) / (std + np.float32(1e-6)), -5, 5)
    return scaled


def surroundings(held: Mask, marks: Sequence[Marks]) -> tuple[slice, slice, slice]:
    """The box around the labels and the prompts, with a margin; InputError where there is neither."""
    boxes = [mark.held.box for mark in marks] + (ndimage.find_objects(held.astype(np.uint8)) if held.any() else [])
    if not boxes:
        raise InputError("there is nothing to correct: neither a label of the model nor a prompt is given")
    z, y, x = (
        slice(
            max(0, min(side.start for side in sides) - _MARGIN_VOXELS),
            min(n, max(side.stop for side in sides) + _MARGIN_VOXELS),
        )
        for n, *sides in zip(held.shape, *boxes, strict=True)
    )
    return z, y, x


def _clicks(marks: Sequence[tuple[int, Marks]], classes: int, box: tuple[slice, slice, slice]) -> npt.NDArray[np.bool_]:
    """(K, *box) what prompts mark: their class, and the background where they say "not here"; the later one counts."""
    clicks = np.zeros((classes, *(side.stop - side.start for side in box)), dtype=bool)
    for channel, mark in marks:
        for target, mask in ((channel, mark.yes), (0, mark.no)):
            said = mask.within(box)
            clicks[:, said] = False
            clicks[target] |= said
    return clicks
