"""How sharp the probabilities of a volume are, in sums that do not grow with it."""

from __future__ import annotations

import torch

from napari_medseg.models.trust import Signs

_LEAST_MASS = 1.0
"""Voxels of a label, by its probabilities, from which on it counts as present."""
_HARDLY = 0.05
"""The probability of background below which a voxel is sure to have a label."""


class Softness:
    """The sums of which the signs of a case are made: its labels against its own probabilities, no reference."""

    def __init__(self, classes: int) -> None:
        """classes: those of the model, background first."""
        self._sums = torch.zeros(4, classes, dtype=torch.float64)

    def add(self, probabilities: torch.Tensor) -> None:
        """Some voxels (K, ...) with their probabilities."""
        p = probabilities.flatten(1)
        for k in range(1, len(p)):  # class by class: a mask of all classes is as large as the probabilities
            found = p[k] == p.amax(0)
            parts = (p[k][found].sum(), p[k].sum(), found.sum(), (found & (p[0] < _HARDLY)).sum())
            self._sums[:, k] += torch.stack([part.cpu().double() for part in parts])

    @property
    def voxels(self) -> tuple[int, ...]:
        """The voxels of each label."""
        return tuple(int(n) for n in self._sums[2, 1:].tolist())

    @property
    def soft_dice(self) -> float:
        """The mean over the labels of 2 sum(p m) / (sum(p) + sum(m)), m being 1 where the label is likeliest.

        A label without a voxel and without probability does not count; without any label it is 1.
        """
        both, mass, found = self._sums[:3, 1:]
        there = (found > 0) | (mass >= _LEAST_MASS)
        dice = 2 * both / (mass + found).clamp_min(1e-9)
        return float(dice[there].mean()) if bool(there.any()) else 1.0

    def signs(self, voxel_mm3: float) -> Signs:
        """What Dice to expect is told from; voxel_mm3: the volume of a voxel."""
        found, sure = self._sums[2:, 1:]
        there = found > 0
        share = float((sure[there] / found[there]).mean()) if bool(there.any()) else 0.0
        return Signs(self.soft_dice, sum(self.voxels) * voxel_mm3 / 1000, share)
