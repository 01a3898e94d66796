"""Mask R-CNN in 2D and 3D: a U-Net's features, boxes proposed from anchors, and a class and a mask for each box.

N: batch. C: channels. K: classes without the background. *size: (Z, Y, X) or (Y, X). A: edge lengths of the anchors.
    x           (N, in_channels, *size)
    fine        (N, features[0], *size), for the regions
    coarse      (N, features[1], *ceil(size / 2)), for the anchors
    objectness  (places * A,)    offsets (places * A, 2 d)
    scores      (n, 1 + K)       masks (n, K, m, ... m), m = 2 * mask

Source: He et al., ICCV 2017, doi:10.1109/ICCV.2017.322, with these differences: one scale of anchors' places, features
of a light U-Net in place of a pyramid on a ResNet, offsets that do not depend on the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from napari_medseg.architectures.blocks.resnet import conv_unit
from napari_medseg.architectures.blocks.unet import (
    Concatenate,
    EncoderDecoder,
    interpolated_up,
    pooled_between,
    two_convolutions,
)
from napari_medseg.architectures.detection.boxes import anchors_of, best_of, clipped, moved, volume_of
from napari_medseg.architectures.detection.regions import roi_align

PROPOSED = 600
"""Anchors of the best objectness from which boxes are proposed."""
KEPT = 200
"""Boxes that are proposed."""
PROPOSED_IOU = 0.7
"""Of two proposed boxes that overlap more, one stays."""
DETECTIONS = 100
"""Objects that an image (a window) has at most."""
SCORE = 0.5
"""An object is found where its class has at least this score."""
FOUND_IOU = 0.5
"""Of two objects of a class whose boxes overlap more, one stays."""
_LEAST_VOLUME = 1.0
"""Voxels below which a box is nothing."""
_NOWHERE = -12.0
"""Logit of a class where there is no object."""


@dataclass(frozen=True)
class Found:
    """The objects of one image, the best first."""

    boxes: Tensor
    """(n, 2 d), see `boxes`."""
    scores: Tensor
    """(n,) 0 to 1."""
    classes: Tensor
    """(n,) from 1 on."""
    masks: Tensor
    """(n, m, ... m) probabilities inside the box."""


@dataclass(frozen=True)
class Seen:
    """The features of some images, padded to what the network halves."""

    fine: Tensor
    coarse: Tensor
    stride: int
    """Voxels between two places of `coarse`."""

    @property
    def size(self) -> tuple[int, ...]:
        """Of the padded images."""
        return tuple(self.fine.shape[2:])


class MaskRCNN(nn.Module):
    """Objects one by one."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        features: tuple[int, ...],
        anchors: tuple[int, ...],
        roi: int,
        mask: int,
        hidden: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.spatial_dims, self.anchors, self.roi, self.mask = spatial_dims, anchors, roi, mask
        self.classes = out_channels - 1
        stage = partial(two_convolutions, spatial_dims, norm)
        pairs = list(zip(features[:0:-1], features[-2::-1], strict=True))
        self.backbone = EncoderDecoder(
            encoder=pooled_between(
                spatial_dims, (stage(a, b) for a, b in zip((in_channels, *features), features, strict=False))
            ),
            up=(interpolated_up(spatial_dims, norm, deep, fine) for deep, fine in pairs),
            joins=(Concatenate() for _ in pairs),
            decoder=(stage(2 * fine, fine) for _, fine in pairs),
            heads=(),
        )
        conv, unit = Conv[Conv.CONV, spatial_dims], partial(conv_unit, spatial_dims, bias=True)
        fine, coarse = features[0], features[1 if len(features) > 2 else 0]
        self.look = unit("none", coarse, coarse)
        self.objectness = conv(coarse, len(anchors), kernel_size=1)
        self.offsets = conv(coarse, 2 * spatial_dims * len(anchors), kernel_size=1)
        self.describe = nn.Sequential(
            nn.Flatten(), nn.Linear(fine * roi**spatial_dims, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.class_scores = nn.Linear(hidden, out_channels)
        self.box_offsets = nn.Linear(hidden, 2 * spatial_dims)
        self.outline = nn.Sequential(
            unit("none", fine, 2 * fine),
            unit("none", 2 * fine, 2 * fine),
            Conv[Conv.CONVTRANS, spatial_dims](2 * fine, fine, kernel_size=2, stride=2),
            nn.ReLU(),
            conv(fine, self.classes, kernel_size=1),
        )
        for head in (self.objectness, self.offsets, self.class_scores, self.box_offsets):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *size) -> logits (N, 1 + K, *size): for each class, of the likeliest object there.

        That is the network as one that labels voxels; `find` keeps the objects apart.
        """
        return torch.stack([self._painted(found, x.shape[2:]) for found in self.find(x)])

    def find(self, x: Tensor) -> list[Found]:
        """(N, in_channels, *size) -> the objects of each image."""
        seen = self.see(x)
        return [self._found(seen, index, tuple(x.shape[2:])) for index in range(len(x))]

    def see(self, x: Tensor) -> Seen:
        """The features of images."""
        scales = self.backbone.decoded(x)
        coarse = scales[min(1, len(scales) - 1)]
        return Seen(scales[0].float(), coarse.float(), 2 if len(scales) > 1 else 1)

    def judge(self, seen: Seen, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of one image: anchors (n, 2 d), the logits (n,) that an object is there, and offsets (n, 2 d)."""
        features = self.look(seen.coarse[index : index + 1])
        anchors = anchors_of(features.shape[2:], seen.stride, self.anchors).to(features.device)
        logits = self.objectness(features)[0].movedim(0, -1).reshape(-1)
        offsets = self.offsets(features)[0].movedim(0, -1).reshape(len(anchors), -1)
        return anchors, logits, offsets

    def propose(self, anchors: Tensor, logits: Tensor, offsets: Tensor, size: tuple[int, ...]) -> Tensor:
        """The boxes (n, 2 d) that are looked at closely, the likeliest first."""
        best = logits.topk(min(PROPOSED, len(logits))).indices
        boxes = clipped(moved(anchors[best], offsets[best]), size)
        inside = volume_of(boxes) >= _LEAST_VOLUME
        boxes, scores = boxes[inside], logits[best][inside]
        return boxes[best_of(boxes, scores, PROPOSED_IOU)[:KEPT]]

    def rate(self, seen: Seen, index: int, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Of boxes (n, 2 d): the logits of their classes (n, 1 + K), and offsets (n, 2 d) to better boxes."""
        described = self.describe(roi_align(seen.fine[index], boxes, seen.size, self.roi))
        return self.class_scores(described), self.box_offsets(described)

    def outlines(self, seen: Seen, index: int, boxes: Tensor) -> Tensor:
        """Of boxes (n, 2 d): a mask of each class, logits (n, K, m, ... m)."""
        masks: Tensor = self.outline(roi_align(seen.fine[index], boxes, seen.size, self.mask))
        return masks

    def _found(self, seen: Seen, index: int, size: tuple[int, ...]) -> Found:
        boxes = self.propose(*self.judge(seen, index), size)
        logits, offsets = self.rate(seen, index, boxes)
        boxes = clipped(moved(boxes, offsets), size)
        scores, classes = logits.softmax(-1)[:, 1:].max(-1)
        good = (scores >= SCORE) & (volume_of(boxes) >= _LEAST_VOLUME)
        boxes, scores, classes = boxes[good], scores[good], classes[good]
        # Objects of different classes do not suppress each other: a class is a place of its own.
        apart = boxes + classes[:, None] * (2 * max(size))
        best = best_of(apart, scores, FOUND_IOU)[:DETECTIONS]
        boxes, scores, classes = boxes[best], scores[best], classes[best]
        masks = self.outlines(seen, index, boxes)[torch.arange(len(best)), classes].sigmoid()
        return Found(boxes, scores, classes + 1, masks)

    def _painted(self, found: Found, size: torch.Size) -> Tensor:
        """The objects as logits (1 + K, *size)."""
        logits = found.masks.new_full((1 + self.classes, *size), _NOWHERE)
        logits[0] = 0
        for box, kind, mask in zip(found.boxes, found.classes.tolist(), found.masks, strict=True):
            part, inside = pasted(mask, box, tuple(size))
            where = (kind, *part)
            logits[where] = torch.maximum(logits[where], inside.logit(eps=1e-5))
        return logits


def pasted(mask: Tensor, box: Tensor, size: tuple[int, ...]) -> tuple[tuple[slice, ...], Tensor]:
    """The probabilities of a mask (m, ... m) at the voxels of its box (2 d,): the voxels, and (*voxels) of them.

    size: of the image.
    """
    dims = len(size)
    low, high = box[:dims], box[dims:]
    first = [min(n - 1, max(0, int(v))) for n, v in zip(size, low.floor().tolist(), strict=True)]
    last = [max(f + 1, min(n, int(v))) for f, n, v in zip(first, size, high.ceil().tolist(), strict=True)]
    middles = [torch.arange(f, stop, device=mask.device) + 0.5 for f, stop in zip(first, last, strict=True)]
    return tuple(slice(f, stop) for f, stop in zip(first, last, strict=True)), sampled(mask, box, middles)


def sampled(mask: Tensor, box: Tensor, places: Sequence[Tensor]) -> Tensor:
    """The probabilities of a mask (m, ... m) of a box (2 d,) at places along each axis; 0 outside of the box.

    A place is in voxels from the image's edge, as the box is.
    """
    low, high = box[: len(places)], box[len(places) :]
    axes = [2 * (at - low[k]) / (high[k] - low[k]).clamp(min=0.01) - 1 for k, at in enumerate(places)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)[None]
    found = grid_sample(mask[None, None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0, 0]
    for axis, at in enumerate(axes):
        found = found * (at.abs() <= 1).reshape([-1 if k == axis else 1 for k in range(len(axes))])
    return found
