"""Refiners with known answers, and their specs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_medseg import registry
from napari_medseg.inference.refining.network import PatchNetwork
from napari_medseg.models.file import Model, write_model
from napari_medseg.models.refining import Refining, network_of
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation

TINY: dict[str, Any] = {"channels": (4, 8), "deep_supervision": False}


def spec_of(
    *, labels: int = 1, patch: tuple[int, int, int] = (4, 6, 6), mode: Any = "3d", overlap: float = 0.55, **changed: Any
) -> ModelSpec:
    """A boundary-patch refiner of a few labels, with a tiny network, for images that are taken as they are."""
    arguments = registry.network("unet3d").arguments(
        in_channels=1 + labels, out_channels=1 + labels, spatial_dims=3 if mode == "3d" else 2, **TINY
    )
    known: dict[str, Any] = {
        "network": "unet3d",
        "arguments": arguments,
        "channels": (Channel(name="image", modality="other"),),
        "labels": {k: f"label {k}" for k in range(1, labels + 1)},
        "patch_zyx": patch,
        "normalisation": (Normalisation(kind="none"),),
        "mode": mode,
        "deep_supervision": False,
        "refines": Refining(method="boundary-patch", overlap=overlap),
    }
    return ModelSpec(**known | changed)


class AsGiven(nn.Module):
    """Says what it is given: the label of a voxel, or the background."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        labels = x[:, 1:]
        return 9 * torch.cat([1 - labels.sum(1, keepdim=True), labels], dim=1)


class Brighter(nn.Module):
    """Label 1 where the image is above a half."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = 9 * (x[:, :1] - 0.5)
        return torch.cat([-bright, bright, *[torch.full_like(bright, -99)] * (x.shape[1] - 2)], dim=1)


def write_brighter(path: Path, spec: ModelSpec) -> Model:
    """A model file, of a refiner or not, that says label 1 where the first channel is above its mean."""
    network = network_of(spec)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.zero_()
            if name.endswith("weight") and parameter.ndim == 5 and not name.startswith("up"):
                parameter[0, 0][tuple(n // 2 for n in parameter.shape[2:])] = 1
            elif name.endswith("weight") and parameter.ndim == 1:
                parameter.fill_(1)
        head = dict(network.named_parameters())["heads.0.weight"]
        head.zero_()
        head[1, 0], head[0, 0] = 1, -1
    return write_model(path, spec, network.state_dict())


def segmenter(spec: ModelSpec) -> ModelSpec:
    """The spec of a model that segments, with the network of a refiner."""
    return replace(spec, refines=None, arguments={**spec.arguments, "in_channels": len(spec.channels)})


def patches(network: nn.Module, spec: ModelSpec) -> PatchNetwork:
    return PatchNetwork(network, spec, torch.device("cpu"))
