"""A volumetric memory network on a volume: masks of slices in, a volume and the quality of its slices out.

Masks of slices are (rows, columns) of the volume's stored array, the annotated axis left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_medseg.architectures.interactive.mem3d import Mem3D
from napari_medseg.errors import InputError
from napari_medseg.interactive.guided.region import Square, normalised
from napari_medseg.interactive.guided.rounds import MemoryNetwork, Round, propagate_round
from napari_medseg.models.file import Model, as_model
from napari_medseg.volume import Volume

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class MemoryView:
    """One object of a volume, as a memory network sees it: the slices along an axis, cut to a square around it."""

    network: MemoryNetwork
    square: Square
    image: Tensor
    """(Z, 1, size, size), normalised by the annotated slices."""
    axis: int

    @classmethod
    def of(cls, network: MemoryNetwork, size: int, volume: Volume, axis: int, masks: Mapping[int, Mask]) -> MemoryView:
        """The view that the first masks give; later rounds keep it. InputError where no mask holds a voxel."""
        held = np.logical_or.reduce(list(masks.values()))
        if not held.any():
            raise InputError("the memory needs a slice that holds the object: all masks are empty")
        across = [s for a, s in enumerate(volume.grid.spacing) if a != axis]
        square = Square.around(held, (across[0], across[1]), size)
        where: list[slice] = list(square.box)
        where.insert(axis, slice(0, volume.grid.shape[axis]))
        planes = np.moveaxis(np.asarray(volume.data[(0, *where)]), axis, 0)
        return cls(network, square, square.cut(normalised(planes, sorted(masks)))[:, None], axis)

    def propagate(self, masks: Mapping[int, Mask], before: Round | None = None) -> Round:
        """A round from the masks of all references so far; see `propagate_round`."""
        return propagate_round(self.network, self.image, {k: self._seen(mask) for k, mask in masks.items()}, before)

    def probability(self, found: Round) -> tuple[tuple[slice, slice, slice], npt.NDArray[np.float32]]:
        """The box of the volume that the view can reach, and the probability of the object there."""
        pasted = np.moveaxis(self.square.paste(found.probability).numpy(), 0, self.axis)
        where: list[slice] = list(self.square.box)
        where.insert(self.axis, slice(0, len(self.image)))
        return (where[0], where[1], where[2]), pasted

    def _seen(self, mask: Mask) -> Tensor:
        cropped = torch.from_numpy(mask[self.square.box].astype(np.float32))
        return self.square.cut_masks(cropped[None])[0]


def memory_network(model: Model | str | Path) -> tuple[Mem3D, int]:
    """The network of a model file, and the size of a slice that it sees. InputError for another kind of model."""
    opened = as_model(model)
    if opened.spec.network != "mem3d" or not opened.spec.arguments["quality"] or len(opened.spec.channels) != 1:
        raise InputError(
            f"{opened.path}: slices are filled by a model of mem3d with its quality head and one channel; this is "
            f"{opened.spec.network} of {len(opened.spec.channels)}"
        )
    network = opened.load_network()
    assert isinstance(network, Mem3D), "the registry says so"
    return network, opened.spec.patch_zyx[1]


def by_memory(
    volume: Volume, labels: Labels, ids: Sequence[int], axis: int, indices: Sequence[int], model: Model | str | Path
) -> Labels:
    """Fill the volume from annotated slices, each label by itself; the likelier one takes a voxel."""
    if len(volume.channels) != 1:
        raise InputError(
            f"{volume.name or 'the volume'} has {len(volume.channels)} channels, and the memory network sees one: give "
            f"a volume of one channel"
        )
    network, size = memory_network(model)
    data, likeliest = np.zeros_like(labels), np.full(labels.shape, 0.5, np.float32)
    for label in ids:
        masks = {k: np.take(labels, k, axis=axis) == label for k in indices}
        view = MemoryView.of(network, size, volume, axis, masks)
        box, probability = view.probability(view.propagate(masks))
        likelier = probability > likeliest[box]
        data[box][likelier], likeliest[box][likelier] = label, probability[likelier]
    return data
