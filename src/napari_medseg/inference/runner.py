"""A network ready to run on windows of a volume.

Shapes: windows are (B, C, z, y, x), logits (B, K, z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_medseg.architectures.modes import in_mode
from napari_medseg.geometry import Shape3
from napari_medseg.inference.device import autocast
from napari_medseg.models.spec import ModelSpec

if TYPE_CHECKING:
    from napari_medseg.config import Precision


@dataclass(frozen=True)
class WindowRunner:
    """A network of volumes on a device, in a number format: windows in, float32 logits out."""

    network: nn.Module
    device: torch.device
    precision: Precision
    first: WindowRunner | None = None
    """The network of the stage before, in a cascade."""

    @classmethod
    def of(cls, network: nn.Module, spec: ModelSpec, device: torch.device, precision: Precision) -> WindowRunner:
        """The runner of a registry's network in the mode of its model."""
        return cls(in_mode(network, spec.mode, spec.patch_zyx[0]), device, precision)

    @property
    def halo(self) -> int:
        """Slices beyond either end of a window that the network sees too."""
        return int(getattr(self.network, "halo", 0))

    @torch.no_grad()
    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, C, z + 2 halo, y, x) -> (B, K, z, y, x)."""
        windows = windows.to(self.device)
        with autocast(self.device, self.precision):
            logits: torch.Tensor = self.network(windows)
        return logits.float()


def window_of(spec: ModelSpec) -> Shape3:
    """The voxels that a window's logits are of: its patch, or one slice where the patch holds its neighbours too."""
    return (1, *spec.patch_zyx[1:]) if spec.mode == "2.5d" else spec.patch_zyx
