"""What becomes of final logits: labels, and where they are asked for probabilities and measures of doubt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from napari_medseg.arrays.boxes import Box
from napari_medseg.geometry import AxisOrder
from napari_medseg.inference.blend import Piece, classes_of
from napari_medseg.inference.results.rows import RowWriter
from napari_medseg.inference.results.softness import Softness

CERTAIN = 1e4
"""A logit whose class has the probability 1."""
Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits (K, z, y, x) and what comes with them (S, z, y, x) in, some channels (C, z, y, x) of float32 out."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """The arrays that a run fills, in stored order."""

    labels: Any
    """(Z, Y, X)."""
    probabilities: Any = None
    """(K, Z, Y, X) float32, or None."""
    uncertainty: Any = None
    """(C, Z, Y, X) float32 with the channels of `doubts_of`, and with TTA where mirrors are told, or None."""
    softness: Softness | None = None
    """Sums over all voxels, or None."""

    @property
    def needs_means(self) -> bool:
        """Whether logits are needed themselves, and not only which is the largest."""
        return self.needs_all or self.softness is not None

    @property
    def needs_all(self) -> bool:
        """Whether every window has to be looked at, one of nothing but air too."""
        return self.probabilities is not None or self.uncertainty is not None


class Sink:
    """Takes the pieces of a region, and writes them to the outputs."""

    def __init__(
        self,
        outputs: Outputs,
        order: AxisOrder,
        label_ids: tuple[int, ...],
        box: Box,
        temperature: float = 1.0,
        *,
        further: int = 0,
    ) -> None:
        """order: from the stored axes to the model's. box: the region, of whole chunks, in the model's axis order.

        temperature: of the model; the logits are divided by it where they become probabilities. further: channels
        behind the logits, which are measures of doubt themselves.
        """
        self._temperature = temperature
        self._softness = outputs.softness
        self._ids = np.asarray(label_ids, dtype=outputs.labels.dtype)
        self._labels = RowWriter(outputs.labels, order, box)
        wanted: list[tuple[Any, Measure]] = [
            (outputs.probabilities, lambda logits, _: probabilities_of(logits)),
            (outputs.uncertainty, _all_doubts),
        ]
        self._box = box
        # Where no window looked, as outside of the boxes of a cascade, the voxel is background without doubt.
        nowhere = certain_where_nothing_was(torch.zeros(len(label_ids), 1, 1, 1)), torch.zeros(further, 1, 1, 1)
        self._measures = [
            (RowWriter(array, order, box, measure(*nowhere).numpy()), measure)
            for array, measure in wanted
            if array is not None
        ]

    def write(self, piece: Piece) -> None:
        """Take a piece whose logits (K, z, y, x), and what comes behind them, are final."""
        classes = len(self._ids)
        found, further = piece.logits[:classes], piece.logits[classes:]
        self._labels.put(piece.box, self._ids[classes_of(found).cpu().numpy()])
        if not self._measures and self._softness is None:
            return
        logits = certain_where_nothing_was(found) / self._temperature
        if self._softness is not None:
            self._softness.add(logits.softmax(0))
        for writer, measure in self._measures:
            writer.put(piece.box, measure(logits, further).cpu().numpy())
            if piece.box[1:] == self._box[1:]:  # no plane before it is open: the rows of all classes are large
                writer.advance(piece.box[0].stop)

    def advance(self, stop: int) -> Box | None:
        """All planes before `stop` were written. Returns the box of labels, in stored order, that is stored now."""
        for writer, _ in self._measures:
            writer.advance(stop)
        return self._labels.advance(stop)


def certain_where_nothing_was(logits: torch.Tensor) -> torch.Tensor:
    """Logits (K, z, y, x), background without doubt where they are all 0: no window looked there."""
    nowhere = torch.zeros(len(logits), 1, 1, 1, device=logits.device)
    nowhere[0] = CERTAIN
    return torch.where((logits == 0).all(0), nowhere, logits)


def probabilities_of(logits: torch.Tensor) -> torch.Tensor:
    """The softmax over the classes."""
    return logits.softmax(0)


DOUBTS = ("entropy", "margin")
"""The channels of `doubts_of`."""
TTA = "tta"
"""The channel of a run in which every window is averaged over its mirror images: the variance over them."""


def _all_doubts(logits: torch.Tensor, further: torch.Tensor) -> torch.Tensor:
    """The doubts of the logits, and those that were measured before."""
    # Rounding of the blend may leave a variance a little below 0.
    return torch.cat([doubts_of(logits), further.clamp_min(0)])


def doubts_of(logits: torch.Tensor) -> torch.Tensor:
    """Entropy of the probabilities over that of a guess (0 to 1), and the margin of the likeliest class (0 to 1)."""
    p = logits.softmax(0)
    entropy = torch.special.entr(p).sum(0) / math.log(len(p))
    first, second = p.topk(2, dim=0).values
    return torch.stack([entropy, first - second])
