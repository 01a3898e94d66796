"""Cases that have labels and no image: they get a made-up image, so that plan, validation and report have one."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from napari_medseg.cases import Case, LabelSource, only_labels_at
from napari_medseg.errors import InputError
from napari_medseg.training.generative.appearance import synthesised
from napari_medseg.volume import Segmentation, Volume

_GREY, _REACH = 500.0, 100.0
"""Mean and deviation of made-up intensities; below zero they could be taken for CT."""


@dataclass(frozen=True)
class MadeImage:
    """An image of labels, always the same for a name."""

    name: str
    labels: Path | Segmentation | LabelSource

    def read(self) -> Volume:
        labels = self.labels
        found = only_labels_at(labels, None) if isinstance(labels, Path) else labels
        found = found if isinstance(found, Segmentation) else found.read(None)
        _, classes = np.unique(np.asarray(found.data[...]), return_inverse=True)
        draw = np.random.default_rng(zlib.crc32(self.name.encode()))
        image = synthesised(torch.from_numpy(classes.reshape(found.grid.shape).astype(np.int64)), 1, draw)
        data = np.clip(_GREY + _REACH * image.numpy(), 0, None).astype(np.float32)
        return Volume(data, found.grid, ("any",), name=self.name, provenance={"made from": "labels"})


def with_made_images(cases: Sequence[Case], scheme: str, from_labels: bool) -> list[Case]:
    """The cases; where none has an image, each with a made-up one.

    from_labels: whether the scheme of that name trains without images. Raises InputError where it does not, and where
    only some cases have an image.
    """
    without = [case.name for case in cases if not case.images]
    if not without:
        return list(cases)
    if not from_labels:
        raise InputError(f"case {without[0]} has no image, which scheme {scheme} needs: give it, or choose synthesis")
    if len(without) < len(cases):
        raise InputError(f"case {without[0]} has no image, others have one: give all of them, or none")
    return [replace(case, images=(_made(case),)) for case in cases]


def is_made(cases: Sequence[Case]) -> bool:
    """Whether the images of the cases are made up."""
    return any(isinstance(image, MadeImage) for case in cases for image in case.images)


def _made(case: Case) -> MadeImage:
    if case.labels is None:
        raise InputError(f"case {case.name} has neither an image nor labels: give one of them")
    return MadeImage(case.name, case.labels)
