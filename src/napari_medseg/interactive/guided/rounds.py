"""The rounds of the volumetric memory network: masks of some slices become a volume, and the next slice is proposed.

A reference is a slice with a mask by the user. A span is a run of slices between neighbouring references.

    image        (Z, C, Y, X) float32, normalised; Z: the slices along the annotated axis
    probability  (Z, Y, X) of the object
    quality      (Z,): the intersections over union that the network expects of its own masks on the way from the
                 reference to the slice, multiplied; 1 at references
    ratings      (Z,): of each slice alone, given the slice before it on the way; 1 at references

Sources: Zhou et al., MICCAI 2021; Zhou et al., MedIA 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.architectures.interactive.mem3d import Memory

_Answer = tuple[Tensor, Tensor, Tensor]
"""Of a slice: its probability (Y, X), quality () and rating ()."""
_WORST = 1e-3
"""A rating below this counts as this."""


class MemoryNetwork(Protocol):
    """What the rounds ask of a network; Mem3D is one."""

    def memorise(self, images: Tensor, masks: Tensor) -> Memory:
        """(1, C, T, Y, X), (1, 1, T, Y, X) -> the memory of T slices."""

    def segment(self, x: Tensor, memory: Memory) -> Outputs:
        """(1, C, Y, X) -> logits (1, 2, Y, X), and under "quality" (1,)."""


@dataclass(frozen=True)
class Span:
    """The slices between two neighbouring references, or between one and an end of the volume."""

    low: int | None
    """The reference below; None at the lower end."""
    high: int | None
    """The reference above; None at the upper end."""
    slices: range

    @property
    def references(self) -> tuple[int, ...]:
        """One or two, ascending."""
        return tuple(k for k in (self.low, self.high) if k is not None)


@dataclass(frozen=True, eq=False)
class Round:
    """What some references give."""

    masks: Mapping[int, Tensor]
    """{slice: (Y, X) float32}: the references."""
    probability: Tensor
    quality: Tensor
    ratings: Tensor
    computed: tuple[Span, ...]
    """The spans that this round propagated through; the others are those of the round before."""

    @property
    def weakest(self) -> int | None:
        """The slice to annotate next, by the quality head alone; None where every slice has a mask.

        It is the one from which most is to be gained: a mask there makes any slice as good as the ratings on the way
        from there, multiplied. Slices count by how much of the object was found in them.
        """
        open_slices = [k for k in range(len(self.quality)) if k not in self.masks]
        sums = torch.cat((self.quality.new_zeros(1), self.ratings.clamp_min(_WORST).log().cumsum(0)))
        upwards = (sums[None, 1:] - sums[1:, None]).exp().triu(1)  # (slice with the mask, slice that it reaches)
        downwards = (sums[:-1, None] - sums[None, :-1]).exp().tril(-1)
        from_there = upwards + downwards + torch.eye(len(self.quality))
        gains = ((from_there - self.quality).clamp_min(0) * self.probability.flatten(1).sum(1)).sum(1).tolist()
        return max(open_slices, key=lambda k: gains[k], default=None)


def spans(depth: int, references: Sequence[int]) -> tuple[Span, ...]:
    """The spans of a volume of `depth` slices, those without a slice left out."""
    edges = [None, *sorted(references), None]
    found = (
        Span(low, high, range(0 if low is None else low + 1, depth if high is None else high))
        for low, high in pairwise(edges)
    )
    return tuple(span for span in found if span.references and span.slices)


def propagate_round(
    network: MemoryNetwork, image: Tensor, masks: Mapping[int, Tensor], before: Round | None = None
) -> Round:
    """Fill a volume from the masks of its references, which are all that were given so far.

    before: the round before. What lies between two neighbours that both have the mask of that round is kept.
    A span reads the memory of its own references alone: rounds one after the other give what one round would.
    """
    depth, _, rows, columns = image.shape
    probability, quality, ratings = image.new_zeros(depth, rows, columns), image.new_ones(depth), image.new_ones(depth)
    if before is not None:
        probability, quality, ratings = before.probability.clone(), before.quality.clone(), before.ratings.clone()
    for index, mask in masks.items():
        probability[index], quality[index], ratings[index] = mask, 1, 1
    kept = _unchanged(before, masks, depth)
    computed = tuple(span for span in spans(depth, list(masks)) if span not in kept)
    with torch.inference_mode():
        memories = {k: _memorised(network, image[k], masks[k]) for k in {k for s in computed for k in s.references}}
        for span in computed:
            filled = _fill(network, image, span, memories)
            for index, answer in filled.items():
                probability[index], quality[index], ratings[index] = answer
    return Round(dict(masks), probability, quality, ratings, computed)


def _unchanged(before: Round | None, masks: Mapping[int, Tensor], depth: int) -> set[Span]:
    """The spans that the round before filled from the same masks."""
    if before is None:
        return set()
    same = {k for k, mask in before.masks.items() if k in masks and torch.equal(mask, masks[k])}
    return {span for span in spans(depth, list(before.masks)) if same.issuperset(span.references)}


def _fill(network: MemoryNetwork, image: Tensor, span: Span, memories: Mapping[int, Memory]) -> dict[int, _Answer]:
    """The answers of a span, from both sides; the nearer reference counts more."""
    walks = []
    for start, other, slices in ((span.low, span.high, span.slices), (span.high, span.low, span.slices[::-1])):
        if start is not None:
            # The slice that a walk starts from is the last one in memory, as each slice on the way is then.
            known = memories[start] if other is None else memories[other].with_later(memories[start])
            walks.append((start, _walk(network, image, known, slices)))
    filled = {}
    for index in span.slices:
        weights = [1 / abs(index - reference) for reference, _ in walks]
        parts = [
            [w / sum(weights) * part for part in found[index]] for w, (_, found) in zip(weights, walks, strict=True)
        ]
        probability, quality, rating = (torch.stack(of_walks).sum(0) for of_walks in zip(*parts, strict=True))
        filled[index] = (probability, quality, rating)
    return filled


def _walk(network: MemoryNetwork, image: Tensor, references: Memory, slices: range) -> dict[int, _Answer]:
    """Slice after slice; each reads the references and what the slice before it became, and is no surer than that."""
    memory, found, quality = references, {}, image.new_ones(())
    for index in slices:
        outputs = network.segment(image[index][None], memory)
        # The head sees one mask at a time: that errors add up on the way, it cannot see.
        probability, rating = outputs.logits.softmax(1)[0, 1], outputs.heads["quality"][0]
        quality = quality * rating
        found[index] = (probability, quality, rating)
        memory = references.with_later(_memorised(network, image[index], probability))
    return found


def _memorised(network: MemoryNetwork, image: Tensor, mask: Tensor) -> Memory:
    return network.memorise(image[None, :, None], mask[None, None, None])
