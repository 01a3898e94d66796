"""Where the network was wrong: voxels of the training cases, remembered so that patches can be centred on them.

Hard examples are mined as in Shrivastava et al., CVPR 2016: what was wrong is seen again sooner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_medseg.geometry import FloatArray
from napari_medseg.training.cases import IGNORE, PreparedCase

_MOST = 64
"""Voxels remembered of a case; the oldest are forgotten first."""
_OF_A_PATCH = 16
"""Voxels remembered of a patch, drawn evenly from those that were wrong."""
_NEW = 0.5
"""Weight of the latest patch in the remembered error of its case."""

Voxels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """Where a patch was cut from; an elastic deformation is left out."""

    case: int
    """Number of the case in the sampler."""
    centre: FloatArray
    """In voxels (z, y, x) of the case."""
    matrix: FloatArray
    """(3, 3) from an offset in the patch to one in the case."""


class Mistakes:
    """Per case, voxels where the network was wrong, and the error: the share of the labelled voxels that were.

    It follows from the batches, the networks and the seed alone, and is saved with the state of a training.
    """

    def __init__(self, cases: Sequence[PreparedCase], share: float, seed: int) -> None:
        """share: of the patches that are centred on a mistake, 0 to 1."""
        self._cases, self._share, self._seed = cases, share, seed
        self.errors = np.zeros(len(cases))
        """Remembered error of each case, 0 to 1; 0 before its first patch."""
        self.voxels: list[Voxels] = [np.empty((0, 3), np.int64) for _ in cases]
        """Per case (n, 3) voxels, the oldest first."""

    def place(self, draw: np.random.Generator) -> tuple[int, Voxels] | None:
        """(number of a case, voxel) to centre a patch on, or None for a patch as any other.

        Cases are drawn by their errors, their voxels evenly.
        """
        wanted = draw.random() < self._share
        weights = self.errors * [len(voxels) > 0 for voxels in self.voxels]
        if not wanted or not weights.any():
            return None
        case = int(draw.choice(len(weights), p=weights / weights.sum()))
        return case, self.voxels[case][draw.integers(len(self.voxels[case]))]

    def learn(self, logits: torch.Tensor, classes: torch.Tensor, views: Sequence[View], step: int) -> None:
        """Look at what the network says of the patches of a step.

        logits: (B, K, z, y, x). classes: (B, z, y, x), IGNORE where nobody annotated: nothing is wrong there.
        """
        found = logits.detach().argmax(1)
        known = classes != IGNORE
        wrong = known & (found != classes)
        labelled = known & ((classes > 0) | (found > 0))
        errors = wrong.flatten(1).sum(1) / labelled.flatten(1).sum(1).clamp(min=1)
        for number, (view, error) in enumerate(zip(views, errors.tolist(), strict=True)):
            draw = np.random.default_rng((self._seed, step, number))
            offsets = wrong[number].nonzero().cpu().numpy() - (np.array(wrong.shape[1:]) - 1) / 2
            self._remember(view, draw.permutation(offsets)[:_OF_A_PATCH], tuple(wrong.shape[1:]))
            self.errors[view.case] += _NEW * (error - self.errors[view.case])

    def state_dict(self) -> dict[str, Any]:
        """Tensors, as a checkpoint holds them."""
        counts = torch.tensor([len(voxels) for voxels in self.voxels])
        return {
            "errors": torch.from_numpy(self.errors.copy()),
            "counts": counts,
            "voxels": torch.from_numpy(np.concatenate(self.voxels)),
        }

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.errors = content["errors"].numpy().copy()
        ends = np.cumsum(content["counts"].numpy())
        self.voxels = np.split(content["voxels"].numpy().copy(), ends[:-1])

    def _remember(self, view: View, offsets: npt.NDArray[np.floating[Any]], patch: tuple[int, ...]) -> None:
        """offsets: (n, 3) from the middle of the patch. What else is remembered of its place is judged anew."""
        classes = self._cases[view.case].classes
        fresh = np.rint(view.centre + offsets @ view.matrix.T).astype(np.int64)
        fresh = fresh[((fresh >= 0) & (fresh < classes.shape)).all(axis=1)]
        # A turned patch names a neighbour now and then, of which nothing may be known.
        fresh = fresh[classes[tuple(fresh.T)] != IGNORE]
        old = self.voxels[view.case]
        inside = np.abs((old - view.centre) @ np.linalg.inv(view.matrix).T) <= np.array(patch) / 2
        self.voxels[view.case] = np.concatenate([old[~inside.all(axis=1)], fresh])[-_MOST:]
