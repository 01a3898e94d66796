"""Training of Mask R-CNN: which anchors and boxes stand for which object, and the losses.

Sources: Ren et al., NeurIPS 2015 (anchors, losses); He et al., ICCV 2017 (regions of 1 to 3, masks). The thresholds of
the anchors are lower than published: two cubes of which one is a quarter longer share half of their union.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from napari_medseg.architectures.detection.boxes import iou, offsets_between
from napari_medseg.architectures.detection.mask_rcnn import MaskRCNN, Seen
from napari_medseg.architectures.detection.regions import places_in
from napari_medseg.errors import InputError
from napari_medseg.inference.device import autocast
from napari_medseg.training.cases import IGNORE
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import descend, drawing, set_learning_rate, train_mode
from napari_medseg.training.state import Setup, TrainState

_ANCHORS = 128
"""Anchors of an image that its loss counts."""
_ANCHOR_IS, _ANCHOR_IS_NOT = 0.4, 0.25
"""IoU with an object from which an anchor stands for it, and below which it stands for nothing."""
_REGIONS, _OBJECTS_AMONG = 48, 16
"""Boxes of an image that are looked at closely, and how many of them show an object at most."""
_REGION_IS = 0.5
"""IoU with an object from which a box shows it."""
_LEAST_VOXELS = 1
"""Voxels of an object in a patch, below which it is too little to be learned."""


@dataclass(frozen=True)
class Objects:
    """What is to be found in one image."""

    numbers: Tensor
    """(*size) the object of each voxel; 0 outside."""
    ids: Tensor
    """(n,) those of the objects."""
    boxes: Tensor
    """(n, 2 d)."""
    classes: Tensor
    """(n,) from 1 on."""
    unknown: Tensor
    """(*size) whether nobody annotated a voxel."""

    @classmethod
    def of(cls, numbers: Tensor, classes: Tensor) -> Objects:
        """numbers: (*size) of the objects; classes: (*size), of which an object has the one in its middle voxel."""
        numbers = torch.where(classes == IGNORE, 0, numbers)
        array, known = numbers.cpu().numpy(), classes.cpu().numpy()
        there, places = np.unique(array, return_inverse=True)
        ids, boxes, kinds = [], [], []
        for value, place in zip(there.tolist(), ndimage.find_objects(places.reshape(array.shape) + 1), strict=True):
            inside = array[place] == value
            kind = int(np.median(known[place][inside]))
            if value > 0 and kind > 0 and inside.sum() >= _LEAST_VOXELS:
                ids.append(value)
                boxes.append([*(s.start for s in place), *(s.stop for s in place)])
                kinds.append(kind)
        device, dims = numbers.device, numbers.ndim
        return cls(
            numbers,
            torch.tensor(ids, dtype=torch.long, device=device),
            torch.tensor(boxes, dtype=torch.float32, device=device).reshape(-1, 2 * dims),
            torch.tensor(kinds, dtype=torch.long, device=device),
            classes == IGNORE,
        )


class MaskRCNNScheme:
    """One Mask R-CNN and AdamW."""

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        if not isinstance(network, MaskRCNN):
            raise InputError("scheme mask-rcnn trains the network mask_rcnn: leave the network out")
        if setup.spec.mode not in ("2d", "3d"):
            raise InputError(f"scheme mask-rcnn works in mode 2d or 3d; got {setup.spec.mode}")
        config = setup.config.optimiser
        self._setup, self._network = setup, network
        self._optimiser = torch.optim.AdamW(
            [parameter for parameter in network.parameters() if parameter.requires_grad],
            lr=config.peak,
            weight_decay=config.weight_decay,
            fused=setup.device.type != "mps",
        )

    def networks(self) -> Mapping[str, nn.Module]:
        return {"network": self._network}

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"network": self._optimiser}

    def network_to_keep(self) -> nn.Module:
        return self._network

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        setup, config = self._setup, self._setup.config
        assert batch.objects is not None, "the cases of this scheme have objects"
        set_learning_rate(self._optimiser, config.optimiser, setup.budget.fraction(state.step))
        train_mode(self._network)
        images, classes, numbers = batch.images, batch.classes, batch.objects
        if self._network.spatial_dims == 2:  # every slice alone
            images = images.transpose(1, 2).flatten(0, 1)
            classes, numbers = classes.flatten(0, 1), numbers.flatten(0, 1)
        draw = torch.Generator().manual_seed(config.seed + state.step)
        with drawing(config.seed + state.step):
            with autocast(setup.device, setup.precision):
                seen = self._network.see(images)
            wanted = [Objects.of(*pair) for pair in zip(numbers, classes, strict=True)]
            each = [losses_of(self._network, seen, index, objects, draw) for index, objects in enumerate(wanted)]
        losses = {name: torch.stack([one[name] for one in each]).mean() for name in each[0]}
        return descend(self._optimiser, losses, config.optimiser.gradient_clip)


def losses_of(network: MaskRCNN, seen: Seen, index: int, objects: Objects, draw: torch.Generator) -> dict[str, Tensor]:
    """The losses of one image: of the anchors' objectness and offsets, of the boxes' classes and offsets, of masks."""
    anchors, logits, offsets = network.judge(seen, index)
    found = _anchor_losses(anchors, logits, offsets, objects, draw)
    with torch.no_grad():
        proposed = network.propose(anchors, logits, offsets, seen.size)
        # The objects themselves are among the boxes: early on, nothing else shows them.
        boxes = torch.cat((objects.boxes, proposed))
        which, best = _nearest(iou(boxes, objects.boxes))
        # A box that lies where nobody looked says nothing.
        known = ~_lies_in(boxes, objects.unknown)
        shows, other = _drawn((best >= _REGION_IS) & known, (best < _REGION_IS) & known, _REGIONS, _OBJECTS_AMONG, draw)
        chosen = torch.cat((shows, other))
        boxes, which = boxes[chosen], which[chosen]
    scores, better = network.rate(seen, index, boxes)
    count = len(shows)
    target = torch.zeros(len(chosen), dtype=torch.long, device=boxes.device)
    target[:count] = objects.classes[which[:count]]
    nothing = scores.sum() * 0
    masks = _mask_loss(network, seen, index, boxes[:count], objects, which[:count]) if count else nothing
    wanted = offsets_between(boxes[:count], objects.boxes[which[:count]])
    return {
        **found,
        "classes": functional.cross_entropy(scores, target) if len(chosen) else nothing,
        "boxes": functional.smooth_l1_loss(better[:count], wanted, beta=0.1) if count else better.sum() * 0,
        "masks": masks,
    }


def _anchor_losses(
    anchors: Tensor, logits: Tensor, offsets: Tensor, objects: Objects, draw: torch.Generator
) -> dict[str, Tensor]:
    with torch.no_grad():
        overlaps = iou(anchors, objects.boxes)
        which, best = _nearest(overlaps)
        is_object = best >= _ANCHOR_IS
        if len(objects.boxes):  # every object has the anchor that fits it best
            fittest = overlaps.argmax(0)
            is_object[fittest], which[fittest] = True, torch.arange(len(objects.boxes), device=which.device)
        is_nothing = ~is_object & (best < _ANCHOR_IS_NOT) & ~_lies_in(anchors, objects.unknown)
        yes, no = _drawn(is_object, is_nothing, _ANCHORS, _ANCHORS // 2, draw)
    chosen = torch.cat((yes, no))
    target = torch.zeros(len(chosen), device=logits.device)
    target[: len(yes)] = 1
    wanted = offsets_between(anchors[yes], objects.boxes[which[yes]]) if len(yes) else offsets[yes]
    return {
        "objectness": functional.binary_cross_entropy_with_logits(logits[chosen], target)
        if len(chosen)
        else logits.sum() * 0,
        "anchors": functional.smooth_l1_loss(offsets[yes], wanted, beta=0.1) if len(yes) else offsets.sum() * 0,
    }


def _mask_loss(network: MaskRCNN, seen: Seen, index: int, boxes: Tensor, objects: Objects, which: Tensor) -> Tensor:
    """Binary cross-entropy of the mask of the object's own class; the other classes' masks are left alone."""
    logits = network.outlines(seen, index, boxes)
    own = logits[torch.arange(len(boxes)), objects.classes[which] - 1]
    known = ~_at_bins(objects.unknown, boxes, own.shape[-1])
    wanted = masks_in(objects, boxes, which, own.shape[-1])
    entropy = functional.binary_cross_entropy_with_logits(own, wanted, reduction="none")
    return entropy[known].sum() / known.sum().clamp(min=1)


def masks_in(objects: Objects, boxes: Tensor, which: Tensor, bins: int) -> Tensor:
    """(n, bins, ... bins) 1 where the middle of a bin of a box lies in its object. boxes: (n, 2 d), which: (n,)."""
    ids = objects.ids[which].reshape(-1, *[1] * objects.numbers.ndim)
    return (_at_bins(objects.numbers, boxes, bins) == ids).float()


def _at_bins(values: Tensor, boxes: Tensor, bins: int) -> Tensor:
    """(n, bins, ... bins) the values (*size) in the middle of each bin of a box; 0 outside of the image."""
    size = values.shape
    places = places_in(boxes, bins).floor().long()  # (n, d, bins)
    dims, count = len(size), len(boxes)
    inside = torch.ones((count, *[1] * dims), dtype=torch.bool, device=boxes.device)
    at = []
    for axis, n in enumerate(size):
        shape = (count, *[bins if k == axis else 1 for k in range(dims)])
        inside = inside & ((places[:, axis] >= 0) & (places[:, axis] < n)).reshape(shape)
        at.append(places[:, axis].clamp(0, n - 1).reshape(shape))
    return values[tuple(at)] * inside


def _nearest(overlaps: Tensor) -> tuple[Tensor, Tensor]:
    """For each box the object that it overlaps most, and the IoU; (0, 0) where there is no object.

    overlaps: (boxes, objects) IoU.
    """
    if not overlaps.shape[1]:
        return torch.zeros(len(overlaps), dtype=torch.long, device=overlaps.device), overlaps.new_zeros(len(overlaps))
    best, which = overlaps.max(1)
    return which, best


def _lies_in(boxes: Tensor, mask: Tensor) -> Tensor:
    """(n,) whether the middle of each box lies in a mask (*size) or outside of it."""
    dims = mask.ndim
    middle = ((boxes[:, :dims] + boxes[:, dims:]) / 2).floor().long()
    size = torch.tensor(mask.shape, device=boxes.device)
    outside = ((middle < 0) | (middle >= size)).any(1)
    return mask[tuple(torch.minimum(middle.clamp(min=0), size - 1).unbind(1))] | outside


def _drawn(yes: Tensor, no: Tensor, count: int, most: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random indices of both kinds, `count` in all, and `most` of the first at most."""
    first = _some(yes.nonzero()[:, 0], most, draw)
    return first, _some(no.nonzero()[:, 0], count - len(first), draw)


def _some(indices: Tensor, count: int, draw: torch.Generator) -> Tensor:
    if len(indices) <= count:
        return indices
    return indices[torch.randperm(len(indices), generator=draw)[:count].to(indices.device)]
