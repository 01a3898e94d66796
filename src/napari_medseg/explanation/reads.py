"""Where a memory network looked: for voxels of an object in some slices, the places in the annotated slices.

Planes are (rows, columns) of the volume's stored array, the annotated axis left out. T: annotated slices. (y, x): a
sixteenth of a slice as the network sees it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from napari_medseg.architectures.blocks.base import resize
from napari_medseg.architectures.interactive.mem3d import Mem3D
from napari_medseg.config import ExplainConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Progress
from napari_medseg.explanation.asking import Asked
from napari_medseg.explanation.randomised import Likeness, randomised
from napari_medseg.explanation.targets import checked_place
from napari_medseg.interactive.guided.memory import Mask, MemoryView, memory_network
from napari_medseg.interactive.propagation import annotated
from napari_medseg.models.file import Model
from napari_medseg.volume import Segmentation, Volume

_HALF = 0.5


@dataclass(frozen=True, eq=False)
class MemoryReads:
    """An object in annotated slices, and the slices in which it is looked for."""

    network: Mem3D
    view: MemoryView
    masks: dict[int, Mask]
    """{annotated slice: the object there}"""
    asked: list[int]
    place: tuple[int, int] | None
    """The voxel (row, column) of the one slice that is asked; None for all voxels that the network gives the object."""

    @classmethod
    def of(cls, volume: Volume, model: Model, asked: Asked, labels: Segmentation | None) -> MemoryReads:
        """Raises InputError where the annotated slices are missing, do not hold the object, or hold the voxel."""
        if labels is None:
            raise InputError("memory-read needs labels of some slices, which the network reads from: give labels")
        if asked.component is not None:
            raise InputError("memory-read explains an object or a voxel of it: leave component out")
        if len(volume.channels) != 1:
            raise InputError(
                f"{volume.name or 'the volume'}: a memory network sees one channel; got {len(volume.channels)}"
            )
        data = np.asarray(labels.data[...])
        axis, indices = annotated(data)
        masks = {k: np.take(data, k, axis=axis) == asked.label for k in indices}
        network, size = memory_network(model)
        view = MemoryView.of(network, size, volume, axis, masks)
        others = [k for k in range(volume.grid.shape[axis]) if k not in masks]
        if asked.voxel is None:
            return cls(network, view, masks, others, None)
        at = list(checked_place(asked.voxel, volume.grid.shape))
        index = at.pop(axis)
        if index in masks:
            raise InputError(f"voxel {asked.voxel} lies in an annotated slice: ask about a slice that is filled")
        row, column = (i - side.start for i, side in zip(at, view.square.box, strict=True))
        if not (0 <= row < view.square.shape[0] and 0 <= column < view.square.shape[1]):
            raise InputError(f"voxel {asked.voxel} lies beside what the network sees, around the annotated object")
        return cls(network, view, masks, [index], (row, column))

    def fill(self, target: Any, config: ExplainConfig) -> Generator[Progress, None, float | None]:
        """Write the map into an array (1, Z, Y, X); returns the correlation with random weights where that is asked."""
        networks = [self.network, randomised(self.network, config.seed)] if config.check else [self.network]
        done, maps = 0, []
        for network in networks:
            assert isinstance(network, Mem3D), "a copy is of the same kind"
            total = torch.zeros(len(self.masks), self.view.square.size, self.view.square.size)
            memory = self._remembered(network)
            for index in self.asked:
                total += self._read(network, memory, index)
                done += 1
                yield Progress(done, len(networks) * len(self.asked), "slices")
            maps.append(self.view.square.paste(total).numpy())
        for k, plane in zip(sorted(self.masks), maps[0], strict=True):
            where: list[Any] = list(self.view.square.box)
            where.insert(self.view.axis, k)
            target[(0, *where)] = plane
        if len(maps) == 1:
            return None
        likeness = Likeness()
        likeness.add(maps[0], maps[1])
        return likeness.correlation

    @torch.no_grad()
    def _remembered(self, network: Mem3D) -> Any:
        order = sorted(self.masks)
        seen = [torch.from_numpy(self.masks[k][self.view.square.box].astype(np.float32)) for k in order]
        masks = (self.view.square.cut(torch.stack(seen)) > _HALF).float()
        return network.memorise(self.view.image[order].transpose(0, 1)[None], masks[None, None])

    @torch.no_grad()
    def _read(self, network: Mem3D, memory: Any, index: int) -> Tensor:
        """(T, size, size): where the voxels that are asked about read, summed over them."""
        weights: list[Tensor] = []
        hook = network.attention.map.register_forward_hook(lambda _, __, output: weights.append(output))
        try:
            outputs = network.segment(self.view.image[index][None], memory)
        finally:
            hook.remove()
        if not weights:
            raise InputError("the memory is too large to be shown: annotate fewer slices")
        depth, *coarse = memory.keys.shape[2:]
        counted = adaptive_avg_pool2d(self._asked_about(outputs.logits)[None, None], coarse).flatten()
        read = (counted @ weights[0][0, 0]).reshape(1, depth, *coarse)
        size = self.view.square.size
        return resize(read, (size, size))[0]

    def _asked_about(self, logits: Tensor) -> Tensor:
        """(size, size): the voxels of the slice that count."""
        if self.place is None:
            return (logits[0].softmax(0)[1] > _HALF).float()
        plane = torch.zeros(self.view.square.shape)
        plane[self.place] = 1
        cut = self.view.square.cut(plane[None])[0]
        return cut / cut.sum().clamp(min=1e-6)
