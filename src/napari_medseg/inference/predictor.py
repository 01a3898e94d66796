"""A network ready to run on windows of a volume.

Shapes: windows are (B, C, z, y, x), logits (B, K, z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_medseg.architectures.modes import in_mode
from napari_medseg.inference.device import autocast
from napari_medseg.models.spec import ModelSpec

if TYPE_CHECKING:
    from napari_medseg.config import Precision
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.models.file import Model


@dataclass(frozen=True)
class Predictor:
    """A network of volumes on a device, in a number format: windows in, float32 logits out."""

    network: nn.Module
    device: torch.device
    precision: Precision
    first: Predictor | None = None
    """The network of the first stage, in a cascade."""

    @classmethod
    def of(cls, network: nn.Module, spec: ModelSpec, device: torch.device, precision: Precision) -> Predictor:
        """The predictor of a registry's network in the mode of its model."""
        return cls(in_mode(network, spec.mode, spec.patch_zyx[0]), device, precision)

    @torch.no_grad()
    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, C, z + 2 halo, y, x) -> (B, K, z, y, x)."""
        windows = windows.to(self.device)
        with autocast(self.device, self.precision):
            logits: torch.Tensor = self.network(windows)
        return logits.float()


def load_predictor(model: Model, plan: InferencePlan) -> Predictor:
    """A model's networks, on the device and in the number formats of the plan."""
    device = torch.device(plan.device)
    predictor = Predictor.of(model.load_network(plan.device), plan.spec, device, plan.precision)
    if plan.first is None:
        return predictor
    first = Predictor.of(model.load_first(plan.device), plan.first.spec, device, plan.first.precision)
    return replace(predictor, first=first)
