"""Networks that know nothing, for the check: a map that stays as it is does not explain what was learned.

Source: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Array = npt.NDArray[np.float32]
ALIKE = 0.3
"""The correlation from which on a map hardly depends on what the network has learned."""
NETWORKS = 3
"""Networks of random weights that a map is compared with: one alone may be alike by chance."""


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """A copy whose weights are drawn anew: as large as they were on average; scales and biases are shuffled."""
    made = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                size = float(parameter.square().mean().sqrt())
                drawn = torch.randn(parameter.shape, generator=generator) * size
            else:
                drawn = parameter.cpu().flatten()[torch.randperm(parameter.numel(), generator=generator)]
            parameter.copy_(drawn.reshape(parameter.shape))
    return made


def several_randomised(network: nn.Module, seed: int) -> list[nn.Module]:
    """Copies of random weights, each of a seed of its own: `seed` and those after it."""
    return [randomised(network, seed + k) for k in range(NETWORKS)]


@dataclass
class Likeness:
    """Pearson's correlation of two maps that come part by part."""

    n: int = 0
    sum_a: float = 0.0
    sum_b: float = 0.0
    sum_aa: float = 0.0
    sum_bb: float = 0.0
    sum_ab: float = 0.0

    def add(self, a: Array, b: Array) -> None:
        """Some more voxels of both."""
        x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
        self.n += x.size
        self.sum_a += float(x.sum())
        self.sum_b += float(y.sum())
        self.sum_aa += float(x @ x)
        self.sum_bb += float(y @ y)
        self.sum_ab += float(x @ y)

    @property
    def correlation(self) -> float:
        """-1 to 1; 0 where one of them is the same everywhere; NaN without voxels."""
        if not self.n:
            return math.nan
        spread_a = self.sum_aa - self.sum_a**2 / self.n
        spread_b = self.sum_bb - self.sum_b**2 / self.n
        if min(spread_a, spread_b) <= 1e-12 * max(self.sum_aa, self.sum_bb, 1e-300):
            return 0.0
        return (self.sum_ab - self.sum_a * self.sum_b / self.n) / math.sqrt(spread_a * spread_b)
