"""The core of the engine: planes in, windows through a network, blended logits out plane by plane.

Shapes: planes are (C, n, Y, X), windows (B, C, z, y, x), in the model's axis order and spacing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from napari_medseg.inference.blend import RollingLogits
from napari_medseg.inference.windows import Windows, gaussian

SEEN = 0.1
"""The summed foreground probability from which on a guide has seen something in a window."""

Network = Callable[[torch.Tensor], torch.Tensor]
"""Windows with their halo (B, C, z + 2 halo, y, x) in, float32 logits (B, K, z, y, x) out; a `Predictor`."""


class PlaneSource(Protocol):
    """Where the planes of the model's grid come from."""

    guides: int
    """How many of the channels, the last ones, are foreground probabilities of the first stage."""

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Planes [start, stop) as (C, stop - start, Y, X) float32.

        Calls come in ascending order, and ask for each plane at most once.
        """


@dataclass(frozen=True)
class WindowsDone:
    """Some more windows are done."""

    count: int
    """Windows done so far; those that the guide left out count as done."""


@dataclass(frozen=True)
class PlaneDone:
    """A plane of the output's grid is final."""

    index: int
    logits: torch.Tensor
    """(K, Y, X); valid until the next event is asked for: it may be a view of the accumulator, which is used again."""


def blended(
    source: PlaneSource, windows: Windows, network: Network, blend: RollingLogits, *, batch_size: int, halo: int = 0
) -> Iterator[WindowsDone | PlaneDone]:
    """Run the windows: WindowsDone after each batch, and PlaneDone for every plane of the output, in order.

    halo: slices beyond either end of a window that the network sees too.
    """
    weight = torch.from_numpy(gaussian(windows.window)).to(blend.device)
    slab = InputSlab(source, windows, halo)
    done = 0
    for z, following, corners in windows.rows():
        if corners:
            slab.advance(z)
        for i in range(0, len(corners), batch_size):
            batch = corners[i : i + batch_size]
            done += len(batch)
            inputs = slab.windows(batch)
            seen = _seen(inputs, source.guides)
            if seen:
                logits = network(inputs[seen])
                for index, window_logits in zip(seen, logits, strict=True):
                    blend.add((z, *batch[index]), window_logits, weight)
            yield WindowsDone(done)
        for index, plane in blend.finish(following):
            yield PlaneDone(index, plane)


def _seen(inputs: torch.Tensor, guides: int) -> list[int]:
    """The windows of a batch that the network runs on: those in which the guide sees something; all without one."""
    if not guides:
        return list(range(len(inputs)))
    most = inputs[:, -guides:].sum(1).flatten(1).amax(1)
    return [i for i, value in enumerate(most.tolist()) if value >= SEEN]


class InputSlab:
    """The padded input planes of one row of windows and of their halo.

    Planes that the row before has too are kept, so that the source gives each plane once. Outside of the image there
    are zeros, as MONAI pads; outside of the padded image, where only a halo reaches, its end planes are repeated.
    """

    def __init__(self, source: PlaneSource, windows: Windows, halo: int) -> None:
        self._source = source
        self._windows = windows
        self._halo = halo
        self._slab = torch.zeros((0,))
        self._start = self._stop = -halo

    def advance(self, z: int) -> None:
        """Hold the padded planes [z - halo, z + window + halo); rows come in ascending order."""
        start, stop = z - self._halo, z + self._windows.window[0] + self._halo
        fresh = self._read_padded(max(start, self._stop), stop)
        if start < self._stop:
            fresh = torch.cat([self._slab[:, start - self._start :], fresh], dim=1)
        self._slab, self._start, self._stop = fresh, start, stop

    def _read_padded(self, start: int, stop: int) -> torch.Tensor:
        """Padded planes [start, stop), those beyond the ends repeated."""
        depth = self._windows.padded[0]
        if start >= depth:
            # The row before held the last plane already. It is the slab's last: its halo is what repeats it.
            return self._slab[:, -1:].expand(-1, stop - start, -1, -1)
        values = self._read_inside(max(0, start), min(depth, stop))
        missing = [max(0, -start), max(0, stop - depth)]
        if any(missing):
            ends = (values[:, :1].expand(-1, missing[0], -1, -1), values[:, -1:].expand(-1, missing[1], -1, -1))
            values = torch.cat([ends[0], values, ends[1]], dim=1)
        return values

    def _read_inside(self, start: int, stop: int) -> torch.Tensor:
        """Padded planes [start, stop) of 0 to the padded depth: those of the source in a frame of zeros."""
        pad, shape, padded = self._windows.pad_before, self._windows.shape, self._windows.padded
        first, last = max(0, start - pad[0]), min(shape[0], stop - pad[0])
        values = self._source.read(first, last)
        sides: list[int] = []  # before and after, the last axis first, as torch pads
        for axis in (2, 1):
            sides += [pad[axis], padded[axis] - shape[axis] - pad[axis]]
        sides += [first + pad[0] - start, stop - pad[0] - last]
        return nn.functional.pad(values, sides) if any(sides) else values

    def windows(self, corners: list[tuple[int, int]]) -> torch.Tensor:
        """The windows with their halo, (B, C, z + 2 halo, y, x), at these (y, x) corners."""
        _, height, width = self._windows.window
        return torch.stack([self._slab[:, :, y : y + height, x : x + width] for y, x in corners])
