"""More cases than there are: one network makes up label maps, a second one images for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from napari_medseg.architectures.translation import PatchCritic
from napari_medseg.architectures.unets.unet3d import UNet3D
from napari_medseg.events import MadeUp
from napari_medseg.training.cases import IGNORE
from napari_medseg.training.generative.appearance import deformed
from napari_medseg.training.generative.networks import (
    Coder,
    Decoder,
    Flat,
    drawn_hard,
    noise_like,
    one_hot,
)
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.planning.rules import pools_for
from napari_medseg.training.schemes.descent import is_finite
from napari_medseg.training.schemes.made.contest import adam, compete, judged, real, seeded
from napari_medseg.training.schemes.made.pictures import shown
from napari_medseg.training.schemes.supervised import Supervised
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.state import Setup, TrainState

_LENGTH = 64
"""Numbers of the noise that a label map is made of."""
_LIKENESS = 100.0
"""Weight of the mean absolute difference to the real image (Isola et al., CVPR 2017)."""
_WIDTHS = (16, 32, 64, 128, 128)
"""Features of the levels of what makes images."""


class ConditionalGan(Supervised):
    """Supervised training on real patches, and on made-up ones.

    Over the first part of the budget two pairs of networks are trained: noise to label maps, and label maps to images
    (Isola et al., CVPR 2017; in two stages, Guibas et al., 2017). Then they are left as they are. Half of the made-up
    label maps are real ones, deformed.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        super().__init__(setup, network)
        self.setup = setup
        spec = scheme_named("cgan")
        self.first_share, self._made = (spec.knob(setup.config, name) for name in ("first_share", "made_share"))
        self._flat = Flat(setup.spec.patch_zyx, setup.spec.mode)
        self._classes, self._channels = len(setup.spec.label_ids), len(setup.spec.channels)
        self.makers = nn.ModuleDict(self._new_makers(setup))
        self._optimisers = {name: adam(maker) for name, maker in self.makers.items()}

    def _new_makers(self, setup: Setup) -> dict[str, nn.Module]:
        size, both = self._flat.size, self._classes + self._channels
        unet = {
            "spatial_dims": len(size),
            "channels": _WIDTHS[: pools_for((1, *size) if len(size) == 2 else (size[0], size[1], size[2])) + 1],
            "norm": "instance",
            "activation": "leakyrelu",
            "down": "stride",
            "bias": False,
            "narrow_first": False,
            "wide_up": False,
            "deep_supervision": False,
        }
        to_image = {"in_channels": self._classes + 1, "out_channels": self._channels, **unet}
        return {
            "maps": seeded(setup, Decoder, 1, out_channels=self._classes, size=size, length=_LENGTH),
            "map critic": seeded(setup, Coder, 2, in_channels=self._classes, size=size, length=1),
            "images": seeded(setup, UNet3D, 3, **to_image),
            "image critic": seeded(setup, PatchCritic, 4, in_channels=both, size=size, width=32),
        }

    def networks(self) -> Mapping[str, nn.Module]:
        return {**super().networks(), **dict(self.makers.items())}

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {**super().optimisers(), **self._optimisers}

    def preparing(self, state: TrainState) -> str:
        return "what makes label maps and images" if self.setup.budget.fraction(state.step) < self.first_share else ""

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        if self.preparing(state):
            self.makers.train()
            return self._learn_maps(batch, state.step) | self._learn_images(batch, state.step)
        return super().step(self._with_made(batch, state.step), state)

    def made_up(self, batch: PatchBatch, state: TrainState) -> tuple[MadeUp, ...]:
        """Pictures of made-up patches, for the report: from noise, and from real label maps."""
        images, classes = self._make(batch, 2, state.step)
        names = "made-up label map and image", "image made for a real label map, deformed"
        return tuple(shown(*each) for each in zip(names, images, classes, strict=True))

    def _learn_maps(self, batch: PatchBatch, step: int) -> dict[str, float]:
        """A step of noise to label maps, against its critic; both learn nothing where the critic has diverged."""
        true = self._flat.of(one_hot(batch.classes, self._classes))
        noise = noise_like(len(true), _LENGTH, self._seed(step, 1), true.device)
        # What lies outside of the image is empty in both, or it would tell the critic which is which.
        made = drawn_hard(self.makers["maps"](noise)) * true.sum(1, keepdim=True)
        critic, clip = self.makers["map critic"], self.setup.config.optimiser.gradient_clip
        found = compete(self._optimisers["map critic"], {"map critic": judged(critic, true, made)}, clip)
        if not is_finite(found):
            return found
        return found | compete(self._optimisers["maps"], {"maps": real(critic(made))}, clip)

    def _learn_images(self, batch: PatchBatch, step: int) -> dict[str, float]:
        """A step of label maps to images."""
        real_images = batch.images[:, : self._channels]
        maps = one_hot(batch.classes, self._classes)
        seen, wanted = self._flat.of(maps), self._flat.of(real_images)
        made = self._images_of(maps, step)
        critic, clip = self.makers["image critic"], self.setup.config.optimiser.gradient_clip
        true, false = torch.cat([seen, wanted], 1), torch.cat([seen, made], 1)
        found = compete(self._optimisers["image critic"], {"image critic": judged(critic, true, false)}, clip)
        if not is_finite(found):
            return found
        losses = {"images": real(critic(false)), "likeness": _LIKENESS * functional.l1_loss(made, wanted)}
        return found | compete(self._optimisers["images"], losses, clip)

    def _images_of(self, maps: torch.Tensor, step: int) -> torch.Tensor:
        """(N, C, *size) images of maps (B, K, z, y, x); noise beside the maps stands for what they do not say."""
        seen = self._flat.of(maps)
        noise = noise_like(len(seen), int(np.prod(self._flat.size)), self._seed(step, 2), seen.device)
        images: torch.Tensor = self.makers["images"](torch.cat([seen, noise.reshape(len(seen), 1, *seen.shape[2:])], 1))
        return images

    def _with_made(self, batch: PatchBatch, step: int) -> PatchBatch:
        """The batch and some made-up patches; their number is the share of them all that they should be."""
        real_ones = len(batch.images)
        count = round(real_ones * self._made / (1 - self._made))
        if not count:
            return batch
        images, classes = self._make(batch, count, step)
        more: dict[str, torch.Tensor] = {"images": images.to(batch.images.dtype), "classes": classes}
        if batch.shapes is not None:
            more["shapes"] = batch.shapes.new_zeros((count, *batch.shapes.shape[1:]))
        if batch.plain is not None:
            more["plain"] = more["images"]
        joined: dict[str, Any] = {name: torch.cat([getattr(batch, name), tensor]) for name, tensor in more.items()}
        return replace(batch, **joined, cases=(*batch.cases, *["made up"] * count))

    @torch.no_grad()
    def _make(self, batch: PatchBatch, count: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(count, C, z, y, x) images and (count, z, y, x) classes: by turns from noise, and from a real label map."""
        self.makers.eval()
        classes = torch.stack(
            [
                self._map_from_noise(batch, step, k) if (step + k) % 2 == 0 else self._map_deformed(batch, step, k)
                for k in range(count)
            ]
        )
        made = self._flat.back(self._images_of(one_hot(classes, self._classes), step), count)
        over = (2, 3, 4)
        mean, deviation = made.mean(over, keepdim=True), made.std(over, keepdim=True).clamp(min=1e-6)
        by_itself = [rule.kind == "zscore" for rule in self.setup.spec.normalisation]  # else the scale is the model's
        standard = torch.tensor(by_itself, device=made.device)[:, None, None, None]
        images = torch.where(standard, (made - mean) / deviation, made) * (classes >= 0)[:, None]
        guides = batch.images.new_zeros((count, batch.images.shape[1] - images.shape[1], *images.shape[2:]))
        return torch.cat([images, guides], 1), classes

    def _map_from_noise(self, batch: PatchBatch, step: int, number: int) -> torch.Tensor:
        """A made-up label map (z, y, x); a real one, deformed, where it came out without any label."""
        slices = batch.classes.shape[1] if self._flat.by_slice else 1
        noise = noise_like(slices, _LENGTH, self._seed(step, 3 + number), batch.classes.device)
        found = self._flat.back(self.makers["maps"](noise), 1)[0].argmax(0)
        return found if bool((found > 0).any()) else self._map_deformed(batch, step, number)

    def _map_deformed(self, batch: PatchBatch, step: int, number: int) -> torch.Tensor:
        assert self.setup.spec.spacing_zyx_mm is not None, "a plan states its spacing"
        which = number % len(batch.classes)
        draw = np.random.default_rng((self.setup.config.seed, step, number))
        moved, _ = deformed(batch.classes[which], batch.images[which], self.setup.spec.spacing_zyx_mm, draw)
        return moved.clamp(min=IGNORE)

    def _seed(self, step: int, number: int) -> int:
        return int(np.random.default_rng((self.setup.config.seed, step, number)).integers(2**62))
