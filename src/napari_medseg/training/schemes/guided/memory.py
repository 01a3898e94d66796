"""Training a volumetric memory network on clips of slices, cut from patches (Zhou et al., MICCAI 2021)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from napari_medseg.architectures.interactive.mem3d import Mem3D
from napari_medseg.cases import Case
from napari_medseg.events import Progress, Work
from napari_medseg.interactive.guided.clips import Clip, Example, clip_losses, clip_of
from napari_medseg.interactive.guided.memory import MemoryView
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import train_mode
from napari_medseg.training.schemes.guided.one_network import OneNetwork
from napari_medseg.training.state import TrainState

if TYPE_CHECKING:
    from napari_medseg.volume import Volume

_CLIPS = 4
"""Of a step, at least; a patch can give several."""


class MemoryClips(OneNetwork):
    """The network carries the mask of the first slice of a clip to the second and the third, and rates what it made."""

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        """A batch in which no object is seen teaches nothing: its losses are 0."""
        rng = self._draw(state)
        clips = self._clips(batch, rng)
        if not clips:
            return {"mask": 0.0, "quality": 0.0}
        train_mode(self._network)
        losses = clip_losses(cast("Mem3D", self._network), clips, rng, far=bool(rng.random() < 0.5))
        return self._descend(self._optimiser, losses, state)

    def scores(self, cases: Sequence[Case]) -> Work[dict[int, float]]:
        """From the largest slice of each object and the one that the quality head asks for; given ones do not count."""
        network, found = cast("Mem3D", copy.deepcopy(self._network).cpu().eval()), list[float]()
        for done, case in enumerate(cases, start=1):
            volume, reference = case.load()
            data = np.asarray(reference.data[...])
            known = data != self._setup.config.loss.ignore_label  # None is no label
            for label in np.unique(data[known & (data > 0)]).tolist():
                found.append(self._score(network, volume, data == label, known))
            yield Progress(done, len(cases), "validation")
        told = [dice for dice in found if math.isfinite(dice)]
        return {1: float(np.mean(told))} if told else {}

    def _clips(self, batch: PatchBatch, rng: np.random.Generator) -> list[Clip]:
        spec = self._setup.spec
        assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
        examples = [
            Example(image[0].cpu().numpy(), classes.cpu().numpy(), spec.spacing_zyx_mm)
            for image, classes in zip(batch.images, batch.classes, strict=True)
        ]
        count = max(_CLIPS, len(examples))
        made = [clip_of(examples[k % len(examples)], rng, spec.patch_zyx[1]) for k in range(count)]
        device = self._setup.device
        return [(images.to(device), masks.to(device)) for images, masks in filter(None, made)]

    def _score(
        self, network: Mem3D, volume: Volume, mask: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]
    ) -> float:
        """NaN where the object has no slice that was not given. known: where somebody annotated."""
        first = int(mask.sum(axis=(1, 2)).argmax())
        given = {first: mask[first]}
        view = MemoryView.of(network, self._setup.spec.patch_zyx[1], volume, 0, given)
        found = view.propagate(given)
        if found.weakest is not None:
            given[found.weakest] = mask[found.weakest]
            found = view.propagate(given, found)
        labels = np.zeros(mask.shape, dtype=bool)
        box, probability = view.probability(found)
        labels[box] = probability > 0.5
        labels &= known
        others = [k for k in range(len(mask)) if k not in given]
        both = int(labels[others].sum() + mask[others].sum())
        return 2 * int((labels[others] & mask[others]).sum()) / both if both else math.nan
