"""A network ready to run on windows of a volume: in a number format, mirrored or not, alone or with others.

Shapes: windows are (B, C, z, y, x), logits (B, K, z, y, x). A predictor that tells of its mirrors gives K + 1 channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.architectures.kernels import CpuKernels
from napari_medseg.architectures.layout import lay
from napari_medseg.architectures.modes import in_mode
from napari_medseg.inference.device import autocast
from napari_medseg.inference.graphs.running import with_openvino
from napari_medseg.models.spec import ModelSpec

if TYPE_CHECKING:
    from napari_medseg.config import Precision
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.models.file import Model

Mirrors = tuple[tuple[int, ...], ...]
"""The axes (0 z, 1 y, 2 x) of each mirroring, beside the image as it is."""

UNCERTAIN = 0.9
"""A voxel is uncertain where the likeliest class is ahead of the next by less than this probability."""
_FEW = 0.002
"""Share of uncertain voxels from which on a window is uncertain."""


def mirrors_along(axes: Sequence[int]) -> Mirrors:
    """Every mirroring along some of the axes: (0, 1) gives (0,), (1,), (0, 1)."""
    return tuple(itertools.chain.from_iterable(itertools.combinations(axes, n) for n in range(1, len(axes) + 1)))


@dataclass(frozen=True)
class Predictor:
    """A network of volumes on a device, in a number format: windows in, float32 logits out."""

    network: nn.Module
    device: torch.device
    precision: Precision
    first: Predictor | None = None
    """The network of the first stage, in a cascade."""
    mirrors: Mirrors = ()
    """The logits are the mean of those of the window and of its mirror images."""
    mirror_all: bool = True
    """Whether windows of which the network is certain are mirrored too."""
    mirrors_told: float | None = None
    """Temperature of the probabilities whose variance over the mirrors is a further channel; None for no such one."""

    @classmethod
    def of(cls, network: nn.Module, spec: ModelSpec, device: torch.device, precision: Precision) -> Predictor:
        """The predictor of a registry's network in the mode of its model."""
        return cls(in_mode(network, spec.mode, spec.patch_zyx[0]), device, precision)

    def mirrored_as(self, plan: InferencePlan) -> Predictor:
        """The same predictor, which mirrors windows as a plan says."""
        told = plan.spec.trust.temperature if plan.mirrors_told else None
        mirrors = mirrors_along(plan.averaged_axes)
        return replace(self, mirrors=mirrors, mirror_all=plan.mirroring == "all", mirrors_told=told)

    @property
    def further(self) -> int:
        """Channels behind the logits: 1 where the variance over the mirrors is told."""
        return int(self.mirrors_told is not None)

    @torch.no_grad()
    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, C, z + 2 halo, y, x) -> (B, K, z, y, x)."""
        windows = windows.to(self.device)
        with autocast(self.device, self.precision), self._kernels():
            logits = logits_of(self.network(windows)).float()
            if not self.mirrors:
                return logits
            if self.mirrors_told is not None:
                assert self.mirror_all, "a variance of some windows only would say nothing"
                return torch.cat(
                    [self._with_variance(windows[i : i + 1], logits[i : i + 1]) for i in range(len(windows))]
                )
            # Window by window: whether one is mirrored does not depend on those that run with it.
            for i in range(len(windows)):
                if self.mirror_all or is_uncertain(logits[i]):
                    logits[i] = self._mean_of_mirrors(windows[i : i + 1], logits[i : i + 1])[0]
        return logits

    def _mean_of_mirrors(self, window: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(logits)
        for one in self._mirrored(window, logits):
            total += one
        return total / (1 + len(self.mirrors))

    def _mirrored(self, window: torch.Tensor, logits: torch.Tensor) -> Iterator[torch.Tensor]:
        """The logits of a window, and then those of its mirror images, mirrored back."""
        yield logits
        for axes in self.mirrors:
            along = [2 + axis for axis in axes]
            yield logits_of(self.network(window.flip(along))).float().flip(along)

    def _with_variance(self, window: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The mean of the logits over the mirrors, and the variance of the probabilities: (1, K + 1, z, y, x)."""
        total = torch.zeros_like(logits)

        def probabilities() -> Iterator[torch.Tensor]:
            for one in self._mirrored(window, logits):
                total.add_(one)
                yield one.div(self.mirrors_told or 1.0).softmax(1)

        variance = variance_of(probabilities())
        return torch.cat([total / (1 + len(self.mirrors)), variance], dim=1)

    def _kernels(self) -> AbstractContextManager[object]:
        return CpuKernels() if self.device.type == "cpu" and self.precision == "fp32" else nullcontext()


def variance_of(probabilities: Iterator[torch.Tensor]) -> torch.Tensor:
    """The variance over the passes, summed over the classes: (B, K, ...) each -> (B, 1, ...).

    It is 0 where all agree, and 0.5 where half of them are certain of one class and half of another.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for p in probabilities:  # Welford 1962: no pass is kept
        count += 1
        off = p - mean
        mean = mean + off / count
        squares = squares + off * (p - mean)
    return (squares / count).sum(1, keepdim=True)


def is_uncertain(logits: torch.Tensor) -> bool:
    """Whether the two likeliest classes are close in more than a few voxels of a window (K, z, y, x)."""
    first, second = logits.softmax(0).topk(2, 0).values
    return float((first - second < UNCERTAIN).float().mean()) > _FEW


def load_predictor(model: Model, plan: InferencePlan) -> Predictor:
    """A model's networks, on the device, in the number formats and in the layout of the plan.

    Raises NotSupportedError where the plan's backend is not installed, or cannot run the network.
    """
    device = torch.device(plan.device)
    predictor = Predictor.of(model.load_network(plan.device), plan.spec, device, plan.precision)
    predictor = predictor.mirrored_as(plan)
    lay(predictor.network, plan.layout)
    if plan.first is not None:
        predictor = replace(predictor, first=_first_of(model, plan.first, device))
    return predictor if plan.backend == "torch" else with_openvino(predictor, model, plan)


def _first_of(model: Model, plan: InferencePlan, device: torch.device) -> Predictor:
    """The first stage of a cascade."""
    first = Predictor.of(model.load_first(plan.device), plan.spec, device, plan.precision)
    return first.mirrored_as(plan) if plan.spec.recipe.mirrored else first
