"""A phantom whose label depends on one marked region, and small networks that have learned it.

A grey ball is labelled; brighter boxes and noise are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, max_pool2d

from napari_medseg import Grid, Segmentation, Volume, registry
from napari_medseg.architectures.blocks.outputs import Outputs, logits_of
from napari_medseg.architectures.modes import in_mode
from napari_medseg.models.file import Channel, Model, ModelSpec, Normalisation, write_model
from napari_medseg.models.spec import Mode

SHAPE = (16, 32, 32)
RADIUS = 4.0
LABELS = {1: "ball", 3: "nothing"}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "unet3d": {"channels": (8, 16), "deep_supervision": False},
    "attention_unet": {"spatial_dims": 2, "channels": (8, 16, 16), "deep_supervision": False},
    "saunet": {
        "spatial_dims": 2,
        "features": 8,
        "growth": 4,
        "blocks": (2, 2, 2, 2),
        "shape": (8, 8, 4, 4),
        "filters": 4,
        "deep_supervision": False,
    },
}
"""{network: its arguments}, small."""


def phantom(seed: int = 0) -> tuple[Volume, Segmentation, npt.NDArray[np.bool_]]:
    """The image, its labels, and the marked region: the ball and one voxel around it."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.3, SHAPE).astype(np.float32)
    centre = [rng.integers(6, n - 6) for n in SHAPE]
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices(SHAPE), centre, strict=True)))
    near = np.zeros(SHAPE, dtype=bool)
    for _ in range(6):
        z, y, x = (int(rng.integers(0, n - 5)) for n in SHAPE)
        near[z : z + 5, y : y + 5, x : x + 5] = True
    image[near & (distance > RADIUS + 3)] += 3
    ball = distance <= RADIUS
    image[ball] += 1.2
    grid = Grid(SHAPE, np.eye(4))
    labels = Segmentation(ball.astype(np.uint8), grid, LABELS, name="truth")
    return Volume(image[None], grid, ("image",), name="marked"), labels, distance <= RADIUS + 1


def trained(folder: Path, network: str, *, steps: int = 60, learning_rate: float = 1e-2, seed: int = 0) -> Model:
    """A model that labels the ball. It overfits nothing: every step sees another phantom.

    A shape stream learns the ball's borders in its slices, as SAUNet's does.
    """
    torch.manual_seed(seed)
    spec = registry.network(network)
    arguments = spec.arguments(in_channels=1, out_channels=1 + len(LABELS), **NETWORKS[network])
    mode: Mode = "3d" if arguments["spatial_dims"] == 3 else "2d"
    model = spec.build_from(arguments)
    of_volumes = in_mode(model, mode).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for step in range(steps):
        volume, labels, _ = phantom(1000 * (seed + 1) + step)
        x, y = torch.from_numpy(np.asarray(volume.data))[None], torch.from_numpy(np.asarray(labels.data))[None].long()
        weight = torch.tensor([1.0, 4.0, 1.0])
        outputs = of_volumes(x)
        loss = cross_entropy(logits_of(outputs), y, weight)
        if isinstance(outputs, Outputs) and "edges" in outputs.heads:
            edges = outputs.heads["edges"][:, 0]
            loss = loss + binary_cross_entropy_with_logits(edges, borders(y), pos_weight=torch.tensor(8.0))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
    described = ModelSpec(
        network=network,
        arguments=arguments,
        channels=(Channel(name="image", modality="other"),),
        labels=LABELS,
        patch_zyx=(16, 24, 24) if mode == "3d" else (1, *SHAPE[1:]),
        normalisation=(Normalisation(kind="none"),),
        mode=mode,
        deep_supervision=False,
    )
    return write_model(folder / f"{network}.safetensors", described, model.state_dict())


def borders(labels: torch.Tensor) -> torch.Tensor:
    """(N, Z, Y, X) -> the same, 1 where a neighbour in the slice has another label."""
    near = partial(max_pool2d, kernel_size=3, stride=1, padding=1)
    values = labels.float()
    return (near(values) != -near(-values)).float()


def share_inside(heat: npt.NDArray[np.float32], region: npt.NDArray[np.bool_]) -> float:
    """The mass of a map inside of the region over all of it, as a multiple of the region's share of the volume."""
    mass = np.abs(heat)
    return float(mass[region].sum() / mass.sum() / region.mean())
