"""What is asked of a model, and the answer of one window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from napari_medseg.config import ExplainConfig
from napari_medseg.errors import InputError
from napari_medseg.explanation.attribution import ATTRIBUTIONS, Question
from napari_medseg.explanation.methods import Combining, Method
from napari_medseg.explanation.randomised import several_randomised
from napari_medseg.explanation.targets import Place
from napari_medseg.inference.blend import classes_of
from napari_medseg.inference.plan import InferencePlan
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.spec import ModelSpec


@dataclass(frozen=True)
class Asked:
    """A question about a label of a model. Raises InputError for a component and a voxel at once."""

    method: Method
    label: int
    component: int | Place | None = None
    """Its number by size, from 1 on, or one of its voxels."""
    voxel: Place | None = None

    def __post_init__(self) -> None:
        if self.component is not None and self.voxel is not None:
            raise InputError("explain a component or a voxel: give one of the two")
        if self.method.name == "cam" and (self.component is not None or self.voxel is not None):
            raise InputError(
                "cam shows the evidence for a label at every voxel: leave component and voxel out, or use grad-cam"
            )

    def in_words(self, labels: Mapping[int, str]) -> str:
        """What is explained, for messages and names of layers."""
        name = labels.get(self.label) or f"label {self.label}"
        if self.voxel is not None:
            return f"{name} at {self.voxel}"
        return name if self.component is None else f"{name}, component {self.component}"


@dataclass(eq=False)
class Answers:
    """A network that is asked about its windows, and beside it some of random weights where the map is checked."""

    asked: Asked
    spec: ModelSpec
    predictor: Predictor
    config: ExplainConfig
    images: int
    """Channels of the image."""
    halo: int
    not_finite: int = 0
    """Windows that were left out, because the map is not finite."""
    seen: int = 0
    """Windows that hold voxels of what is explained."""
    networks: list[nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        network = self.predictor.network
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        self.networks = [network, *(several_randomised(network, self.config.seed) if self.config.check else ())]

    @property
    def combining(self) -> Combining:
        """How windows become one map: shares add up, and maps that no score weighs are averaged."""
        return self.asked.method.combining if self._depends_on_voxels else "mean"

    @property
    def _depends_on_voxels(self) -> bool:
        """Whether the map depends on the voxels that are explained."""
        unweighted = not self.config.weighted and self.asked.method.name in ("attention", "shape")
        return not unweighted and self.asked.method.name != "cam"

    @property
    def channels(self) -> int:
        """Of the answers: the map; where it is checked, the maps of the other networks, and 1."""
        return 1 + len(self.networks) if self.config.check else 1

    def of(self, window: Tensor, share: Tensor, wanted: Tensor | None) -> Tensor | None:
        """The maps (M, z, y, x) of a window; None where it holds nothing of what is explained.

        share: (z, y, x), see `shares.Shares`. wanted: (z, y, x), how much each voxel counts; by default those count
        that the network itself labels so.
        """
        window = window.to(self.predictor.device)
        weights = self._weights(self.networks[0], window, share, wanted)
        self.seen += bool(weights.any())
        if self._depends_on_voxels and not weights.any():
            return None
        maps = [self._map(self.networks[0], window, weights)]
        if not bool(maps[0].isfinite().all()):
            self.not_finite += 1
            return None
        if self.config.check:
            for network in self.networks[1:]:
                # Each network is asked about the voxels that it labels itself; one that labels none, about the same.
                own = self._weights(network, window, share, wanted)
                maps.append(self._map(network, window, own if own.any() else weights).nan_to_num(0.0, 0.0, 0.0))
            maps.append(torch.ones_like(maps[0]))
        return torch.stack(maps)

    def probe(self, plan: InferencePlan) -> None:
        """Ask about a window of noise: a network that cannot be asked so raises, before an output is begun."""
        depth, height, width = plan.windows.window
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(1, plan.inputs, depth + 2 * plan.halo, height, width, generator=generator)
        everywhere = torch.ones(plan.windows.window)
        self._map(self.networks[0], noise.to(self.predictor.device), everywhere.to(self.predictor.device))

    @property
    def index(self) -> int:
        """The output of the network that stands for the label. Raises InputError for a label without one."""
        if not self.spec.output.regions:
            return self.spec.label_ids.index(self.asked.label)
        found = [i for i, region in enumerate(self.spec.output.regions) if region.label == self.asked.label]
        if not found:
            raise InputError(f"label {self.asked.label} is no region of the model: its outputs cannot be told apart")
        return found[0]

    def _weights(self, network: nn.Module, window: Tensor, share: Tensor, wanted: Tensor | None) -> Tensor:
        """How much each voxel (z, y, x) counts in the score of a window."""
        if wanted is not None:
            return (share * wanted).to(window.device)
        logits = replace(self.predictor, network=network)(window)[0]
        labelled = logits[self.index] > 0 if self.spec.output.regions else classes_of(logits) == self.index
        return share.to(window.device) * labelled

    def _map(self, network: nn.Module, window: Tensor, weights: Tensor) -> Tensor:
        asked = Question(self.index, weights, bool(self.spec.output.regions), self.images, self.config)
        try:
            heat = ATTRIBUTIONS[self.asked.method.name](network, window, asked)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"{self.asked.method.name} needs more memory than {self.predictor.device} has: run it on the cpu"
            ) from error
        inner = heat[self.halo : len(heat) - self.halo] if len(heat) > asked.size[0] else heat
        return inner.detach().float().cpu()
