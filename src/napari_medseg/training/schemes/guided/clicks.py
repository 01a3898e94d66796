"""Training DeepIGeoS: P-Net proposes, a simulated user clicks on what is wrong, R-Net corrects (Wang et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from napari_medseg.cases import Case
from napari_medseg.events import Progress, Work
from napari_medseg.interactive.guided.deepigeos import rnet_inputs, standardised, surroundings
from napari_medseg.interactive.guided.simulated import Corrected, Correction
from napari_medseg.metrics.pairwise.overlap import dice_per_label
from napari_medseg.registry import network as network_named
from napari_medseg.training.cases import IGNORE, class_indices
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import drawing, train_mode
from napari_medseg.training.schemes.guided.one_network import OneNetwork
from napari_medseg.training.state import Setup, TrainState

_ROUNDS = 3
"""Of a correction, at most: R-Net also learns from labels that it has corrected once or twice itself."""
_PNET = "deepigeos_pnet"


class SimulatedClicks(OneNetwork):
    """P-Net and R-Net learn side by side, so that R-Net sees the mistakes of a beginner and of an expert.

    Published as two trainings one after the other. R-Net is kept; it corrects labels of whatever made them.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        super().__init__(setup, network)
        spec = network_named(_PNET)
        with torch.random.fork_rng():
            torch.manual_seed(setup.config.seed)
            self._pnet = spec.build_from(setup.spec.arguments).to(setup.device)  # both have the same arguments
        self._pnet_optimiser = self._optimiser_of(self._pnet)

    def networks(self) -> Mapping[str, nn.Module]:
        return {"network": self._network, "proposes": self._pnet}

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"network": self._optimiser, "proposes": self._pnet_optimiser}

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        setup, rng = self._setup, self._draw(state)
        images = torch.stack([torch.from_numpy(standardised(i.cpu().numpy())) for i in batch.images]).to(setup.device)
        context = self._context(images, state)
        train_mode(self._pnet)
        with drawing(setup.config.seed + state.step):
            proposed = self._pnet(images)
        loss = setup.loss(proposed, batch.classes, context)
        losses = self._descend(self._pnet_optimiser, {"proposal": loss}, state)
        inputs = [
            self._clicked(image, labels, truth, rng)
            for image, labels, truth in zip(images, self._proposals(images), batch.classes, strict=True)
        ]
        train_mode(self._network)
        with drawing(setup.config.seed + state.step):
            corrected = self._network(*(torch.cat(parts).to(setup.device) for parts in zip(*inputs, strict=True)))
        loss = setup.loss(corrected, batch.classes, context)
        return losses | self._descend(self._optimiser, {"correction": loss}, state)

    def scores(self, cases: Sequence[Case]) -> Work[dict[int, float]]:
        """After one round of clicks on what P-Net gets wrong around the labels of the reference."""
        spec, found = self._setup.spec, {label: list[float]() for label in self._setup.spec.labels}
        for done, case in enumerate(cases, start=1):
            for label, dice in self._score(case, np.random.default_rng((self._setup.config.seed, done))).items():
                found[label].append(dice)
            yield Progress(done, len(cases), "validation")
        return {label: float(np.mean(found[label])) for label in spec.labels}

    def _score(self, case: Case, rng: np.random.Generator) -> dict[int, float]:
        spec = self._setup.spec
        volume, reference = case.load()
        truth = class_indices(reference, spec, self._setup.config.loss).astype(np.int64)
        box = surroundings(truth > 0, []) if (truth > 0).any() else (slice(None), slice(None), slice(None))
        image = standardised(np.asarray(volume.data[(slice(None), *box)]))
        proposal = self._proposals(torch.from_numpy(image)[None].to(self._setup.device))[0].cpu().numpy()
        correction = Correction(image, truth[box], proposal, volume.grid.spacing)
        self._network.eval()
        labels = Corrected.of(correction, len(spec.label_ids)).after_a_round(self._network, correction, rng).labels
        ids = np.asarray(spec.label_ids)
        return dice_per_label(
            ids[labels], ids[np.maximum(truth[box], 0)], tuple(spec.labels), ignore=truth[box] == IGNORE
        )

    def _proposals(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, z, y, x) -> the classes (B, z, y, x) that P-Net gives now."""
        self._pnet.eval()
        with torch.no_grad():
            classes: torch.Tensor = self._pnet(images).argmax(1)
        return classes

    def _clicked(
        self, image: torch.Tensor, labels: torch.Tensor, truth: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What R-Net takes after none, one or two rounds of its own, and clicks on what is still wrong."""
        spacing = self._setup.spec.spacing_zyx_mm
        assert spacing is not None, "a plan states its spacing"
        correction = Correction(image.cpu().numpy(), truth.cpu().numpy(), labels.cpu().numpy(), spacing)
        now = Corrected.of(correction, len(self._setup.spec.label_ids))
        self._network.eval()
        for _ in range(int(rng.integers(_ROUNDS))):
            now = now.after_a_round(self._network, correction, rng)
        now = now.clicked(correction, rng)
        return rnet_inputs(correction.image, now.labels, now.clicks, spacing)
