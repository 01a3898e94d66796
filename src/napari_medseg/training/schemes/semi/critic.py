"""The discriminators of SASSNet and CA-Net: whether a map of distances is one of a labelled image.

B: batch. C: channels of the image. K: classes. *size: (Z, Y, X) or (Y, X).
    distances (B, K - 1, *size), images (B, C, *size) -> logits (B, 2): without labels, with
"""

from __future__ import annotations

from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Dropout
from torch import nn
from torch.nn import functional

from napari_medseg.architectures.blocks.outputs import Outputs

_LEVELS = 4
_SLOPE = 0.2
_REDUCTION = 8
"""Features over those of the layer inside a squeeze and excitation."""


class Critic(nn.Module):
    """4^n convolutions of stride 2, width to 8 width features, averaged over the patch; 2D or 3D.

    `attention`: a squeeze and excitation of the last features, one layer that is trained as all others (CA-Net's DAM).

    Sources: Li, Zhang and He, MICCAI 2020 (11,020,290 parameters with width 64, one channel and one class); Zhao et
    al., Expert Systems with Applications 2023 (11,085,826).
    """

    def __init__(self, *, distances: int, channels: int, spatial_dims: int, width: int, attention: bool) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(_LEVELS)]

        def halved(before: int, after: int) -> nn.Module:
            module: nn.Module = Conv[Conv.CONV, spatial_dims](before, after, kernel_size=4, stride=2, padding=1)
            return module

        self.of_distances, self.of_images = halved(distances, width), halved(channels, width)
        self.deeper = nn.ModuleList([halved(before, after) for before, after in pairwise(widths)])
        last = widths[-1]
        inside = max(1, last // _REDUCTION)
        self.excite = (
            nn.Sequential(
                nn.Linear(last, inside, bias=False), nn.ReLU(), nn.Linear(inside, last, bias=False), nn.Sigmoid()
            )
            if attention
            else None
        )
        self.drop = Dropout[Dropout.DROPOUT, spatial_dims](0.5)
        self.judge = nn.Linear(last, 2)

    def forward(self, distances: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Patches that are shorter than the strides are padded."""
        least = 2**_LEVELS
        padding = [n for size in images.shape[:1:-1] for n in (0, max(0, least - size))]
        x = self.of_distances(functional.pad(distances, padding)) + self.of_images(functional.pad(images, padding))
        x = self.drop(functional.leaky_relu(x, _SLOPE))
        for level in self.deeper:
            x = self.drop(functional.leaky_relu(level(x), _SLOPE))
        pooled = x.flatten(2).mean(2)
        if self.excite is not None:
            pooled = pooled * self.excite(pooled)  # scaled maps average to the scaled average
        logits: torch.Tensor = self.judge(pooled)
        return logits


def distances_of(outputs: torch.Tensor | Outputs) -> torch.Tensor:
    """Signed distances (B, K - 1, *size), negative inside: of the head for them, else read off the logits.

    The latter are the tanh of the log odds of each class against all others.
    """
    if isinstance(outputs, Outputs) and "sdf" in outputs.heads:
        return outputs.heads["sdf"].float()
    logits = (outputs.logits if isinstance(outputs, Outputs) else outputs).float()
    count = logits.shape[1]
    others = [torch.cat((logits[:, :k], logits[:, k + 1 :]), 1).logsumexp(1) for k in range(1, count)]
    return torch.tanh(torch.stack(others, 1) - logits[:, 1:])
