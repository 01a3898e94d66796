"""An imported model gives nnU-Net's own labels: its published steps in numpy, scipy and skimage, on whole arrays."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from skimage.transform import resize
from torch import nn

from napari_medseg.foreign import convert_model
from napari_medseg.geometry import Triple
from napari_medseg.inference import segment
from napari_medseg.models.recipe import Recipe
from napari_medseg.volume import Grid, Volume
from nnunet_peer import PLANS, PlainConvUNet, write_folder

Array = npt.NDArray[Any]
NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"
PATCH = (8, 16, 16)


def resampled(data: Array, shape: Sequence[int], order: int, apart: bool) -> Array:
    """(C, Z, Y, X) at another shape; apart: slice by slice, and the nearest slice along z."""
    found = np.zeros((len(data), *shape))
    for c, channel in enumerate(data):
        options: dict[str, Any] = {"order": order, "mode": "edge", "anti_aliasing": False, "clip": False}
        if not apart:
            found[c] = resize(channel, shape, **options)
            continue
        slices = np.stack([resize(plane, shape[1:], **options) for plane in channel])
        z = (np.arange(shape[0]) + 0.5) * len(slices) / shape[0] - 0.5
        at = np.meshgrid(z, np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
        found[c] = ndimage.map_coordinates(slices, at, order=0, mode="nearest")
    return found


def steps(size: int, window: int) -> list[int]:
    count = math.ceil((size - window) / (window / 2)) + 1
    return [round(i * (size - window) / max(1, count - 1)) for i in range(count)]


def predicted(network: nn.Module, data: Array) -> Array:
    """The logits of windows of half overlap with a gaussian weight, each averaged over its eight mirror images."""
    delta = np.zeros(PATCH)
    delta[tuple(n // 2 for n in PATCH)] = 1
    weight = ndimage.gaussian_filter(delta, [n / 8 for n in PATCH], mode="constant")
    weight = torch.from_numpy(np.maximum(weight / weight.max(), weight[weight > 0].min()).astype(np.float32))
    x = torch.from_numpy(data.astype(np.float32))[None]
    total, weights = torch.zeros((3, *data.shape[1:])), torch.zeros(data.shape[1:])
    mirrors = [axes for n in range(4) for axes in itertools.combinations((2, 3, 4), n)]
    for corner in itertools.product(*(steps(n, w) for n, w in zip(data.shape[1:], PATCH, strict=True))):
        here = tuple(slice(a, a + n) for a, n in zip(corner, PATCH, strict=True))
        window = x[(slice(None), slice(None), *here)]
        with torch.no_grad():
            logits = sum(network(window.flip(axes)).flip(axes)[0] for axes in mirrors) / len(mirrors)
        total[(slice(None), *here)] += logits * weight
        weights[here] += weight
    return np.asarray(total / weights)


@pytest.mark.parametrize(
    ("spacing", "shape", "stated"),
    [((2.0, 1.1, 0.8), (15, 22, 36), (2.5, 1.0, 1.0)), ((6.0, 0.8, 0.8), (8, 20, 30), (4.0, 1.0, 1.0))],
    ids=["isotropic enough", "slices apart"],
)
def test_labels_are_those_of_the_published_steps(
    tmp_path: Path, spacing: Triple, shape: tuple[int, int, int], stated: Triple
) -> None:
    torch.manual_seed(1)
    peer = PlainConvUNet(1, 3).eval()
    configuration = {**PLANS["configurations"]["3d_fullres"], "normalization_schemes": ["ZScoreNormalization"]}
    configuration["spacing"] = list(stated)
    folder = write_folder(tmp_path / NAME, peer, plans={**PLANS, "configurations": {"3d_fullres": configuration}})
    model = convert_model(folder, tmp_path / "m.safetensors")
    assert model.spec.recipe == Recipe(mirror_axes=(0, 1, 2), mirrored=True, resampling="nnunet", statistics="box")

    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=shape), 1.5) * 1000 + 500
    values = (image - image.mean()) / image.std()
    apart = max(spacing) / min(spacing) > 3
    size = [round(n * a / b) for n, a, b in zip(shape, spacing, stated, strict=True)]
    logits = predicted(peer, resampled(values[None], size, 3, apart))
    expected = resampled(logits, shape, 1, apart).argmax(0)

    volume = Volume(image[None].astype(np.float32), Grid.from_spacing(shape, spacing), ("CT",))
    found = np.asarray(segment(volume, model, device="cpu").data[...])
    assert len(np.unique(expected)) == 3
    assert float((found == expected).mean()) > 0.999


def test_mean_and_deviation_are_those_of_the_box_around_what_is_not_0(tmp_path: Path) -> None:
    torch.manual_seed(1)
    peer = PlainConvUNet(1, 3).eval()
    configuration = {**PLANS["configurations"]["3d_fullres"], "normalization_schemes": ["ZScoreNormalization"]}
    folder = write_folder(tmp_path / NAME, peer, plans={**PLANS, "configurations": {"3d_fullres": configuration}})
    model = convert_model(folder, tmp_path / "m.safetensors")
    image = np.zeros(PATCH, np.float32)
    image[2:6, 3:12, 1:14] = np.random.default_rng(0).normal(100, 20, (4, 9, 13))
    image[3, 5, 5] = 0  # inside the box, and counted
    inside = image[2:6, 3:12, 1:14]
    expected = predicted(peer, ((image - inside.mean()) / inside.std())[None]).argmax(0)
    found = segment(Volume(image[None], Grid.from_spacing(PATCH, (2.5, 1.0, 1.0)), ("CT",)), model, device="cpu")
    assert np.array_equal(np.asarray(found.data[...]), expected)
