"""The core of the engine: boxes of the image in, windows through a network, blended logits out piece by piece.

Shapes: boxes of the image are (C, z, y, x), windows (B, C, z, y, x), in the model's axis order and spacing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from napari_medseg.arrays.boxes import Box
from napari_medseg.geometry import Shape3, triple_of
from napari_medseg.inference.blend import Piece
from napari_medseg.inference.regions import padded, rows_of
from napari_medseg.inference.windows import Windows

SEEN = 0.1
"""The summed foreground probability from which on a guide has seen something in a window."""
_REMEMBERED_BYTES = 1 << 27
"""The most logits that are kept for windows of one value."""

Network = Callable[[torch.Tensor], torch.Tensor]
"""Windows with their halo (B, C, z + 2 halo, y, x) in, float32 logits (B, K, z, y, x) out; a `Predictor`."""


class Source(Protocol):
    """Where the voxels of the model's grid come from."""

    guides: int
    """How many of the channels, the last ones, are foreground probabilities of the first stage."""

    def read(self, box: Box) -> torch.Tensor:
        """The box as (C, z, y, x) float32. A region's boxes come in ascending order of z."""

    def expect(self, box: Box) -> None:
        """The box is read soon: what can be decoded meanwhile may be."""


class Accumulator(Protocol):
    """Where the logits of windows become those of the output."""

    source: Box
    """The voxels of the model's grid, without padding, that the output is made of."""

    def wants(self, corner: Shape3) -> bool:
        """Whether the window at this corner (padded) counts in the output."""

    def take(self, corner: Shape3, logits: torch.Tensor) -> Iterable[Piece]:
        """Take the logits (K, z, y, x) of a window, which may be changed; the pieces that they decide alone."""

    def finish(self, following: int, row: int | None = None) -> Iterable[Piece]:
        """The pieces that are final once no window reaches before the plane `following` (padded).

        row: the windows that are left may do so, but from this row (padded) on.
        """

    def final(self, following: int) -> int:
        """The output plane before which all is final then."""


@dataclass(frozen=True)
class WindowsDone:
    """Some more windows are done."""

    count: int
    """Windows of the region done so far; those that were left out count as done."""


@dataclass(frozen=True)
class Final:
    """All planes of the output, in this region, before `stop` were handed out."""

    stop: int


Mirror = Callable[[Shape3], tuple[int, ...]]
"""The axes (0 z, 1 y, 2 x) along which the window at a corner (padded) is mirrored."""
Sees = Callable[[torch.Tensor], list[int]]
"""The indices of those windows (B, C, z, y, x) that the network has to run on; the others are background."""


def blended(
    source: Source,
    windows: Windows,
    network: Network,
    accumulator: Accumulator,
    *,
    batch_size: int,
    halo: int = 0,
    sees: Sees | None = None,
    mirror: Mirror | None = None,
) -> Iterator[WindowsDone | Piece | Final]:
    """Run the windows of a region: WindowsDone after each batch, each Piece of the output once it is final, and Final
    after each row of windows.

    halo: slices beyond either end of a window that the network sees too. sees: by default, the windows in which a guide
    sees something, or all where there is no guide. mirror: the axes along which the network sees a window mirrored.
    """
    sees = sees or (lambda inputs: seen_by(inputs, source.guides))
    wanted = padded(accumulator.source, windows)
    done = 0
    rows = [
        (z, following, [c for c in corners if accumulator.wants((z, *c))])
        for z, following, corners in rows_of(windows, wanted)
    ]
    slab = InputSlab(source, windows, halo, _hull([c for _, _, corners in rows for c in corners], windows))
    after = dict(itertools.pairwise(z for z, _, corners in rows if corners))
    for z, following, corners in rows:
        if corners:
            slab.advance(z)
            if z in after:
                slab.expect(after[z])
        for i in range(0, len(corners), batch_size):
            batch = corners[i : i + batch_size]
            done += len(batch)
            inputs = slab.windows(batch)
            seen = sees(inputs)
            if seen:
                axes = [mirror((z, *batch[index])) if mirror else () for index in seen]
                logits = network(_mirrored(inputs[seen], axes))
                for index, window_logits in zip(seen, _mirrored(logits, axes), strict=True):
                    yield from accumulator.take((z, *batch[index]), window_logits)
            yield WindowsDone(done)
            if i + batch_size < len(corners):
                yield from accumulator.finish(following, corners[i + batch_size][0])
        yield from accumulator.finish(following)
        yield Final(accumulator.final(following))


def _mirrored(windows: torch.Tensor, axes: list[tuple[int, ...]]) -> torch.Tensor:
    """Windows (B, C, z, y, x), each mirrored along its axes (0 z, 1 y, 2 x)."""
    if not any(axes):
        return windows
    pairs = zip(windows, axes, strict=True)
    return torch.stack([window.flip([1 + axis for axis in along]) for window, along in pairs])


def _hull(corners: list[tuple[int, int]], windows: Windows) -> tuple[slice, slice]:
    """The rows and columns of the padded grid in which windows at these corners lie; of none, all."""
    _, height, width = windows.window
    if not corners:
        return slice(0, windows.padded[1]), slice(0, windows.padded[2])
    ys, xs = zip(*corners, strict=True)
    return slice(min(ys), max(ys) + height), slice(min(xs), max(xs) + width)


def seen_by(inputs: torch.Tensor, guides: int) -> list[int]:
    """The windows of a batch that the network runs on: those in which the guide sees something; all without one."""
    if not guides:
        return list(range(len(inputs)))
    most = inputs[:, -guides:].sum(1).flatten(1).amax(1)
    return [i for i, value in enumerate(most.tolist()) if value >= SEEN]


class SkipsAir:
    """Leaves out the windows of one value, such as air, that the network labels background.

    A window of each value is tried once and never counted, so that the labels do not depend on which came first.
    """

    def __init__(self, network: Network, guides: int) -> None:
        self._network = network
        self._guides = guides
        self._is_background: dict[tuple[float, ...], bool] = {}
        """By the values of the channels."""

    def __call__(self, windows: torch.Tensor) -> list[int]:
        """The indices of those windows (B, C, z, y, x) that are to be run."""
        return [i for i in seen_by(windows, self._guides) if not self._is_air(windows[i : i + 1])]

    def _is_air(self, window: torch.Tensor) -> bool:
        values = values_of(window[0])
        if values is None:
            return False
        if values not in self._is_background:
            self._is_background[values] = not bool(self._network(window.contiguous()).argmax(1).any())
        return self._is_background[values]


class RemembersAir:
    """A network that runs once on windows of one value: their logits are always the same.

    Those of the last value are kept, up to 128 MiB of them.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._values: tuple[float, ...] | None = None
        self._logits = torch.zeros(0)

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, C, z, y, x) -> (B, K, z, y, x). A batch of several windows runs as it is."""
        values = values_of(windows[0]) if len(windows) == 1 else None
        if values is None:
            return self._network(windows)
        if values != self._values:
            logits = self._network(windows.contiguous())  # a view of one value may take another kernel
            if logits.nbytes > _REMEMBERED_BYTES:
                return logits
            self._values, self._logits = values, logits
        return self._logits.clone()  # who adds them up changes them


def values_of(window: torch.Tensor) -> tuple[float, ...] | None:
    """The value of each channel of a window (C, z, y, x); None where a channel has several."""
    if is_one_value(window):
        return tuple(window[:, 0, 0, 0].tolist())
    found = []
    for channel in window:
        low, high = (float(end) for end in channel.aminmax())  # along an axis it takes 16 times as long
        if low != high:
            return None
        found.append(low)
    return tuple(found)


def is_one_value(block: torch.Tensor) -> bool:
    """Whether a block (C, z, y, x) is a view of one value per channel, which takes no memory."""
    return not any(block.stride()[1:])


def _joined(above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """Two blocks (C, z, y, x), one below the other; a view where the lower one is a view and both have its value."""
    if below.shape[1] == 0:  # the row before reached the end already
        return above
    if is_one_value(below) and values_of(above) == values_of(below):
        return below[:, :1].expand(-1, above.shape[1] + below.shape[1], -1, -1)
    return torch.cat([above, below], dim=1)


class InputSlab:
    """The padded input of one row of windows and of their halo.

    Planes that the row before has too are kept, so that the source gives each plane once. Outside of the image there
    are zeros, as MONAI pads; outside of the padded image, where only a halo reaches, its end planes are repeated.
    """

    def __init__(self, source: Source, windows: Windows, halo: int, hull: tuple[slice, slice] | None = None) -> None:
        """hull: the rows and columns of the padded image that the windows lie in; by default all of them."""
        self._source = source
        self._windows = windows
        self._halo = halo
        self._hull = hull or (slice(0, windows.padded[1]), slice(0, windows.padded[2]))
        self._slab = torch.zeros((0,))
        self._start = self._stop = -halo

    def advance(self, z: int) -> None:
        """Hold the padded planes [z - halo, z + window + halo); rows come in ascending order."""
        start, stop = self._planes(z)
        fresh = self._read_padded(max(start, self._stop), stop)
        if start < self._stop:
            fresh = _joined(self._slab[:, start - self._start :], fresh)
        self._slab, self._start, self._stop = fresh, start, stop

    def expect(self, z: int) -> None:
        """Tell the source which planes the row at `z` will ask for."""
        start, stop = self._planes(z)
        first, last = max(start, self._stop, 0), min(self._windows.padded[0], stop)
        if first < last and not any(s.stop <= s.start for s in self._inside(first, last)):
            self._source.expect(self._inside(first, last))

    def _planes(self, z: int) -> tuple[int, int]:
        return z - self._halo, z + self._windows.window[0] + self._halo

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

    def _inside(self, start: int, stop: int) -> Box:
        """The part of the image in the padded planes [start, stop) and in the hull."""
        sides = (slice(start, stop), *self._hull)
        return triple_of(
            slice(min(n, max(0, side.start - before)), min(n, max(0, side.stop - before)))
            for side, before, n in zip(sides, self._windows.pad_before, self._windows.shape, strict=True)
        )

    def _read_inside(self, start: int, stop: int) -> torch.Tensor:
        """Padded planes [start, stop) of 0 to the padded depth: those of the source in a frame of zeros."""
        box = self._inside(start, stop)
        values = self._source.read(box)
        frame: list[int] = []  # before and after, the last axis first, as torch pads
        for axis, side in zip((2, 1, 0), (*reversed(self._hull), slice(start, stop)), strict=True):
            before = self._windows.pad_before[axis]
            frame += [box[axis].start + before - side.start, side.stop - before - box[axis].stop]
        return nn.functional.pad(values, frame) if any(frame) else values

    def windows(self, corners: list[tuple[int, int]]) -> torch.Tensor:
        """The windows with their halo, (B, C, z + 2 halo, y, x), at these (y, x) corners."""
        _, height, width = self._windows.window
        top, left = self._hull[0].start, self._hull[1].start
        if is_one_value(self._slab):
            return self._slab[None, :, :, :height, :width].expand(len(corners), -1, -1, -1, -1)
        return torch.stack(
            [self._slab[:, :, y - top : y - top + height, x - left : x - left + width] for y, x in corners]
        )
