"""A correction as a simulated user makes it: clicks on what is wrong, and what R-Net makes of them.

Source: Wang et al., TPAMI 2018, section 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from napari_medseg.geometry import Triple
from napari_medseg.interactive.guided.deepigeos import Labels, corrected, simulated_clicks, standardised
from napari_medseg.interactive.kernels import Map
from napari_medseg.volume import Segmentation, Volume


@dataclass(frozen=True)
class Correction:
    """A volume, its true labels and those to correct, as channels of the network."""

    image: Map
    truth: Labels
    proposal: Labels
    spacing: Triple

    @classmethod
    def of(cls, volume: Volume, truth: Segmentation, proposal: Segmentation, ids: Sequence[int]) -> Correction:
        """ids: the labels, ascending; others count as background."""
        image = standardised(np.asarray(volume.data[:, :, :, :]))
        return cls(image, _channels(truth, ids), _channels(proposal, ids), volume.grid.spacing)


@dataclass(frozen=True, eq=False)
class Corrected:
    """How far a correction has come: the labels, and all clicks so far."""

    labels: Labels
    clicks: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, case: Correction, classes: int) -> Corrected:
        """The first model's labels, without a click."""
        return cls(case.proposal, np.zeros((classes, *case.truth.shape), dtype=bool))

    def clicked(self, case: Correction, rng: np.random.Generator) -> Corrected:
        """The same labels, with clicks on what is wrong in them."""
        return Corrected(self.labels, self.clicks | simulated_clicks(self.labels, case.truth, len(self.clicks), rng))

    def after_a_round(self, net: nn.Module, case: Correction, rng: np.random.Generator) -> Corrected:
        """Clicks on what is wrong, and the labels that R-Net gives by all clicks so far."""
        clicks = self.clicked(case, rng).clicks
        with torch.no_grad():
            return Corrected(corrected(net, case.image, self.labels, clicks, case.spacing), clicks)


def _channels(segmentation: Segmentation, ids: Sequence[int]) -> Labels:
    data = np.asarray(segmentation.data[:, :, :])
    out = np.zeros(data.shape, np.int64)
    for channel, label in enumerate(ids, start=1):
        out[data == label] = channel
    return out
