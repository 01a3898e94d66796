"""What a memory network read: for voxels of an object in some slices, the places in the annotated slices that helped.

Planes are (rows, columns) of the volume's stored array, the annotated axis left out. T: annotated slices. (y, x): the
places of a slice in memory.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from napari_medseg.architectures.blocks.base import resize
from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.architectures.interactive.mem3d import Mem3D, Memory
from napari_medseg.config import ExplainConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Progress
from napari_medseg.explanation.asking import Asked
from napari_medseg.explanation.randomised import Likeness, several_randomised
from napari_medseg.explanation.targets import checked_place
from napari_medseg.explanation.views import odds
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

    def fill(self, target: Any, config: ExplainConfig) -> Generator[Progress, None, list[float]]:
        """Write the map into an array (1, Z, Y, X); returns correlations with random weights, if checked."""
        others = several_randomised(self.network, config.seed) if config.check else []
        networks, maps, done = [self.network, *others], [], 0
        for network in networks:
            assert isinstance(network, Mem3D), "a copy is of the same kind"
            total = torch.zeros(len(self.masks), self.view.square.size, self.view.square.size)
            memories = self._remembered(network)
            for index in self.asked:
                nearest = min(memories, key=partial(_distance, index))
                total += self._read(network, memories[nearest], index, config.weighted)
                done += 1
                yield Progress(done, len(networks) * len(self.asked), "slices")
            maps.append(self.view.square.paste(total).numpy())
        for k, plane in zip(sorted(self.masks), maps[0], strict=True):
            where: list[Any] = list(self.view.square.box)
            where.insert(self.view.axis, k)
            target[(0, *where)] = plane
        found = []
        for other in maps[1:]:
            likeness = Likeness()
            likeness.add(maps[0], other)
            found.append(likeness.correlation)
        return found

    @torch.no_grad()
    def _remembered(self, network: Mem3D) -> dict[int, Memory]:
        """{annotated slice: the memory of all of them, of which it is the last}; places are in the order of slices."""
        order = sorted(self.masks)
        seen = [torch.from_numpy(self.masks[k][self.view.square.box].astype(np.float32)) for k in order]
        masks = self.view.square.cut_masks(torch.stack(seen))
        images = self.view.image[order]
        memory = network.memorise(images.transpose(0, 1)[None], masks[None, None])
        return {k: replace(memory, last=torch.cat((images[n], masks[[n]]))[None]) for n, k in enumerate(order)}

    def _read(self, network: Mem3D, memory: Memory, index: int, weighted: bool) -> Tensor:
        """(T, size, size): what each place of the memory does to the score of one slice, or where its voxels read."""
        weights: list[Tensor] = []

        def keep(_: object, __: object, output: Tensor) -> Tensor:
            weights.append(output.detach().requires_grad_(weighted))
            return weights[0]

        hook = network.attention.map.register_forward_hook(keep)
        try:
            with torch.set_grad_enabled(weighted):
                logits = logits_of(network.segment(self.view.image[index][None], memory))
        finally:
            hook.remove()
        if not weights:
            raise InputError("the memory is too large to be shown: annotate fewer slices")
        depth, height, width = memory.keys.shape[2:]
        asked = self._asked_about(logits.detach())
        if weighted:
            (g,) = torch.autograd.grad((odds(logits, 1, apart_each=False)[0] * asked).sum(), weights[0])
            read = _effect(weights[0].detach()[0, 0], g[0, 0])
        else:
            read = adaptive_avg_pool2d(asked[None, None], (height, width)).flatten() @ weights[0][0, 0]
        size = self.view.square.size
        return resize(read.reshape(1, depth, height, width), (size, size))[0]

    def _asked_about(self, logits: Tensor) -> Tensor:
        """(size, size): the voxels of the slice that count."""
        if self.place is None:
            return (logits[0].softmax(0)[1] > _HALF).float()
        plane = torch.zeros(self.view.square.shape)
        plane[self.place] = 1
        cut = self.view.square.cut(plane[None])[0]
        return cut / cut.sum().clamp(min=1e-6)


def _distance(index: int, other: int) -> int:
    return abs(index - other)


def _effect(weights: Tensor, g: Tensor) -> Tensor:
    """(queries, keys) -> (keys,): how much the score rises where all queries look at a key a little more, rectified.

    g: the score's derivative by the weights, which are softmax(a): the derivative by a[:, k], summed over the queries.
    What is read by all, because it stands out and not because it helps, is dark.
    """
    return (weights * (g - (g * weights).sum(1, keepdim=True))).sum(0).clamp(min=0)
