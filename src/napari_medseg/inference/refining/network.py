"""What a refiner says of a box: the image and the labels in it go in, the shares of the classes come out.

C: channels. K: classes, the background included. Boxes are (z, y, x) of the image, patches those of the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from napari_medseg.architectures.kernels import CpuKernels
from napari_medseg.errors import InputError
from napari_medseg.geometry import Shape3, triple_of
from napari_medseg.inference.plan import axis_maps
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.file import Model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.transforms.spatial import resample


@dataclass(frozen=True, eq=False)
class PatchNetwork:
    """A refiner's network, ready to run on boxes of any size."""

    network: nn.Module
    spec: ModelSpec
    device: torch.device

    @classmethod
    def of(cls, model: Model, device: torch.device) -> PatchNetwork:
        """The network of a refiner's file, with its weights."""
        require_refiner(model)
        return cls(model.load_network(device), model.spec, device)

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """An image (C, z, y, x) and its labels (K - 1, z, y, x), 1 in those of a voxel -> shares (K, z, y, x).

        A box of another size than the network's patch is resampled to it, and the shares back.
        """
        box, patch = shape3(image), self.spec.patch_zyx
        maps = axis_maps(box, patch)
        inputs = [resample(values, maps)[None].to(self.device) for values in (image, labels)]
        return resample(self._shares(*inputs)[0].cpu(), axis_maps(patch, box))

    def _shares(self, image: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        refines = self.spec.refines
        assert refines is not None, "only a refiner is one"
        if refines.method == "boundary-patch":
            predictor = Predictor.of(self.network, self.spec, self.device, "fp32")
            return predictor(torch.cat([image, labels], dim=1)).softmax(1)
        with CpuKernels():
            found: torch.Tensor = self.network(image, labels)
        return found


def require_refiner(model: Model) -> None:
    """Raise InputError for a model that segments."""
    if model.spec.refines is None:
        raise InputError(
            f"model {model.path} is no refiner: it segments images; train a refiner from its errors with scheme "
            f"boundary-patch or point-rend, and this model as init"
        )


def shape3(values: torch.Tensor) -> Shape3:
    """The last three sizes of a tensor."""
    return triple_of(values.shape[-3:])
