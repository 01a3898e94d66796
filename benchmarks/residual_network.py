"""A network that corrects the engine's margin at the first prompts; `bench_promptable.py` trains it.

A small 3D U-Net of the registry sees what the engine sees, at half its resolution: the image, the engine's logits and
distances, the prompts, which one is new, what each voxel looks like beside them, and the mask so far. It gives a
residual to the logits and begins with zero, so that it begins as the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, interpolate, leaky_relu, pad

import napari_medseg as ms
from napari_medseg.interactive import engine
from napari_medseg.interactive.engine import Answer, Evidence
from napari_medseg.interactive.kernels import Map, Mask
from napari_medseg.interactive.scene import Scene

ENGINE_ALONE = engine.answer
CHANNELS = 11
LOGITS = 1
"""The channel of the engine's logits."""
REACH, REACH_OF_NEW = 4.0, 6.0
"""How far a prompt is seen in its channels, in voxels at half of the engine's resolution."""
MOST_LOGIT = 4.0
FARTHEST = 1000.0
"""The largest distance that the network is told of, in noise."""
UNLIKE_ALL = 50.0
"""How unlike a prompt is what has none to be like, in noise."""
FACTOR, CLICKS = 0.5, 5
"""Of the residual, and how many clicks the network learns from and corrects: later the engine is better alone.

Chosen on synthetic worlds that were not learned from, and on every second structure that choices were made on."""


class Residual(nn.Module):
    """(N, 1, Z, Y, X) the residual of inputs (N, 11, Z, Y, X) of any size; the U-Net works at half their resolution.

    Each of its voxels gives eight of the residual. The last layer begins with zero.
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 96)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv3d(CHANNELS, channels[0], 4, 2, 1)
        self.unet = ms.networks()["unet3d"].build(
            in_channels=channels[0], out_channels=8, spatial_dims=3, channels=channels, deep_supervision=False
        )
        head = [module for module in self.unet.modules() if isinstance(module, nn.Conv3d)][-1]
        for weight in head.parameters():
            nn.init.zeros_(weight)

    def forward(self, inputs: Tensor) -> Tensor:
        z, y, x = inputs.shape[2:]
        padded = pad(inputs, [p for n in (x, y, z) for p in (0, -n % 8)], mode="replicate")
        eight = self.unet(leaky_relu(self.down(padded)))
        parts = eight.unflatten(1, (2, 2, 2)).permute(0, 4, 1, 5, 2, 6, 3)
        whole = parts.flatten(1, 2).flatten(2, 3).flatten(3, 4)
        residual: Tensor = whole[:, None, :z, :y, :x]
        return residual


def halved(values: npt.NDArray[Any]) -> Map:
    """(Z, Y, X) at half the resolution; an odd side is carried on by a voxel."""
    whole = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
    half: Map = avg_pool3d(pad(whole, [p for n in reversed(values.shape) for p in (0, n % 2)], mode="replicate"), 2)[
        0, 0
    ].numpy()
    return half


def inputs_of(scene: Scene, prompts: Sequence[Evidence], background: Map, so_far: Mask | None, found: Answer) -> Tensor:
    """(11, Z, Y, X), at half the resolution of the scene.

    The image; the engine's logits; how far label and background are; the prompts for and against; the new one; how
    unlike the prompts for and against a voxel is; the mask so far; the volume.
    """
    nowhere = np.zeros(scene.inside.shape, dtype=bool)
    image, known = halved(scene.image[0]), scene.image[0][scene.inside]
    near = np.minimum.reduce(
        [np.full(nowhere.shape, FARTHEST, np.float32), *(e.distance for e in prompts if e.positive)]
    )
    far = np.minimum.reduce([background.clip(0, FARTHEST), *(e.distance for e in prompts if not e.positive)])
    seen, unlike = [], []
    for positive in (True, False):
        own = [e.seeds for e in prompts if e.positive == positive and e.decides and e.seeds.any()]
        seen.append(_nearness(np.logical_or.reduce([nowhere, *own]), REACH))
        apart = [np.abs(image - np.median(scene.image[0][marked])) for marked in own]
        unlike.append(np.log1p(np.minimum.reduce([np.full(image.shape, UNLIKE_ALL), *apart])) / 2)
    sign = 1 if prompts[-1].positive else -1
    channels = [
        (image - known.mean()) / (known.std() + 1e-6),
        halved(logits_of(found.probability)),
        np.log1p(halved(near)) / 3,
        np.log1p(halved(far)) / 3,
        *seen,
        sign * _nearness(prompts[-1].seeds, REACH_OF_NEW),
        *unlike,
        halved(nowhere if so_far is None else so_far),
        halved(scene.inside),
    ]
    return torch.from_numpy(np.stack(channels).astype(np.float32))


def _nearness(marked: Mask, reach: float) -> npt.NDArray[np.float64]:
    """1 at the marked voxels and less around them, at half the resolution; 0 where nothing is marked."""
    half = halved(marked) > 0
    away = ndimage.distance_transform_edt(~half) if half.any() else np.full(half.shape, np.inf)
    near: npt.NDArray[np.float64] = np.exp(-away / reach)
    return near


def logits_of(probability: Map) -> Map:
    inner = probability.astype(np.float64).clip(1e-3, 1 - 1e-3)
    logits: Map = np.log(inner / (1 - inner)).clip(-MOST_LOGIT, MOST_LOGIT).astype(np.float32)
    return logits


@contextmanager
def answering(answer: Any) -> Iterator[None]:
    """The engine answers in another way meanwhile."""
    engine.answer = answer
    try:
        yield
    finally:
        engine.answer = ENGINE_ALONE


class Corrected:
    """The engine's answer with the residual of a network, as long as there are few prompts."""

    def __init__(self, network: nn.Module, clicks: int) -> None:
        """clicks: how many prompts it corrects."""
        self._network, self._clicks = network.eval(), clicks

    def __call__(self, scene: Scene, prompts: Sequence[Evidence], background: Map, **known: Any) -> Answer:
        found = ENGINE_ALONE(scene, prompts, background, **known)
        if len(prompts) > self._clicks:
            return found
        inputs = inputs_of(scene, prompts, background, known.get("so_far"), found)[None]
        with torch.no_grad():
            residual = interpolate(self._network(inputs), scale_factor=2, mode="trilinear")[0, 0].numpy()
        z, y, x = scene.inside.shape
        logits = logits_of(found.probability) + FACTOR * residual[:z, :y, :x]
        probability = 1 / (1 + np.exp(-logits))
        nothing = np.zeros(scene.inside.shape, dtype=bool)
        yes = np.logical_or.reduce([nothing, *(e.seeds for e in prompts if e.positive and e.decides)])
        no = np.logical_or.reduce([nothing, *(e.seeds for e in prompts if not e.positive and e.decides)]) & ~yes
        probability[yes], probability[no] = 1, 0
        return engine.tidy(probability.astype(np.float32), scene.inside, yes, no, yes)
