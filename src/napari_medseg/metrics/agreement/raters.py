"""Several raters of the same image: how far they agree, and the labels that most of them gave.

A rater is a person or program that made labels. Columns, flags and messages call raters readers, as radiology does.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.arrays.boxes import Box, block_shape, blocks, chunks_of, whole
from napari_medseg.errors import InputError
from napari_medseg.metrics.inputs import require_named, require_segmentation
from napari_medseg.metrics.pairwise.scores import on_grid_of
from napari_medseg.volume import LazyArray, Segmentation

ALL_LABELS = (0, "all labels")
"""(label, name) of the rows that judge all ids at once, background included."""

Joint = Counter[tuple[int, int]]
"""{(id by one rater, id by another): voxels}."""


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """How far two readers agree on one label."""

    case: str = ""
    """Which case of several."""
    reader: str
    """One reader."""
    other: str
    """The other."""
    label: int
    """Id of the label; 0 for all ids at once, background included."""
    name: str
    """Name of the label."""
    dice: float
    """2 |A n B| / (|A| + |B|) of the two; of all ids at once the mean over the labels. 1 where neither has it."""
    kappa: float
    """Cohen's kappa over all voxels (Cohen 1960): agreement beyond chance; of all ids at once, each is a category."""


@dataclass(frozen=True, kw_only=True)
class AgreementRow:
    """How far all readers agree on one label."""

    case: str = ""
    """Which case of several."""
    label: int
    """Id of the label; 0 for all ids at once, background included."""
    name: str
    """Name of the label."""
    readers: int
    """How many readers there are."""
    mean_dice: float
    """Mean of the Dice of all pairs of readers."""
    least_dice: float
    """The lowest Dice of a pair of readers."""
    fleiss_kappa: float
    """Fleiss' kappa over all voxels (Fleiss 1971): agreement beyond chance of any number of readers."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What `agreement_of` finds."""

    rows: tuple[AgreementRow, ...]
    pairs: tuple[PairRow, ...]

    def dice_matrix(self, label: int, raters: Sequence[str]) -> npt.NDArray[np.float64]:
        """(raters, raters): the Dice of every two on a label, 1 on the diagonal; NaN for pairs not measured."""
        matrix = np.full((len(raters), len(raters)), np.nan)
        np.fill_diagonal(matrix, 1.0)
        for row in self.pairs:
            if row.label == label and {row.reader, row.other} <= set(raters):
                i, j = raters.index(row.reader), raters.index(row.other)
                matrix[i, j] = matrix[j, i] = row.dice
        return matrix


def agreement_of(raters: Mapping[str, Segmentation], names: Mapping[int, str] | None = None) -> Agreement:
    """Compare every two raters, and all of them together.

    raters: {name: labels}, two or more, of one image. names: {id: name}, preferred to the names in the labels.
    Each block is read once. Raises InputError for fewer than two raters, GridMismatchError unless all lie on the same
    grid, up to flips and permutations of the axes.
    """
    require_named(raters, "reader")
    who, arrays = list(raters), on_one_grid(list(raters.values()))
    joints = _joint_counts(arrays)
    labels = sorted({k for joint in joints.values() for pair in joint for k in pair} - {0})
    named = _named(labels, [names or {}, *(rater.labels for rater in raters.values())])
    pairs = tuple(row for (i, j), joint in joints.items() for row in _pair_rows(joint, who[i], who[j], named))
    rows = tuple(_agreement_row(label, name, pairs, joints, len(who)) for label, name in [ALL_LABELS, *named.items()])
    return Agreement(rows=rows, pairs=pairs)


def majority_vote(raters: Sequence[Segmentation]) -> Segmentation:
    """The label that most raters gave to each voxel; the smallest id where votes are equal.

    It lies on the grid of the first rater. Raises as `agreement_of`.
    """
    for number, rater in enumerate(raters, start=1):
        require_segmentation(rater, f"reader {number}")
    arrays = on_one_grid(raters)
    first = raters[0]
    votes = np.zeros(first.grid.shape, np.int32)
    for box, stack in _stacks(arrays):
        votes[box] = _most_frequent(stack)
    names = {k: name for rater in reversed(raters) for k, name in rater.labels.items()}
    return Segmentation(votes, first.grid, names, name="majority vote")


def on_one_grid(raters: Sequence[Segmentation]) -> list[LazyArray]:
    """The raters' data in the axis order of the first. Raises as `agreement_of`."""
    if len(raters) < 2:
        raise InputError(f"agreement needs two readers or more; got {len(raters)}")
    return [on_grid_of(raters[0], rater) for rater in raters]


def _named(labels: Sequence[int], names: Sequence[Mapping[int, str]]) -> dict[int, str]:
    """{id: its first name in `names`, else "label 7"}."""
    return {k: next((of[k] for of in names if k in of), f"label {k}") for k in labels}


def _stacks(arrays: Sequence[LazyArray]) -> Iterator[tuple[Box, npt.NDArray[Any]]]:
    """Yield (box, (raters, Z, Y, X) ids), block by block."""
    z, y, x = arrays[0].shape
    chunks = np.max([chunks_of(array) for array in arrays], axis=0).tolist()
    for box in blocks(whole((z, y, x)), block_shape((z, y, x), (chunks[0], chunks[1], chunks[2]))):
        yield box, np.stack([np.asarray(array[box]) for array in arrays])


def _joint_counts(arrays: Sequence[LazyArray]) -> dict[tuple[int, int], Joint]:
    """{(place of a rater, of another): voxels of each pair of ids}."""
    joints: dict[tuple[int, int], Joint] = {p: Counter() for p in itertools.combinations(range(len(arrays)), 2)}
    for _, stack in _stacks(arrays):
        ids, index = _numbered(stack.reshape(len(arrays), -1))
        for (i, j), joint in joints.items():
            found, voxels = np.unique(index[i] * len(ids) + index[j], return_counts=True)
            for a, b, n in zip(ids[found // len(ids)], ids[found % len(ids)], voxels, strict=True):
                joint[int(a), int(b)] += int(n)
    return joints


def _numbered(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """(ids, index) with ids[index] == values."""
    ids, index = np.unique(values, return_inverse=True)
    return ids, index.reshape(values.shape)


def _most_frequent(stack: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(raters, ...) ids -> the most frequent id of each voxel; the smallest where votes are equal."""
    most = np.zeros(stack.shape[1:], np.intp)
    winner: npt.NDArray[Any] = stack[0]
    for own in stack:
        votes = np.count_nonzero(stack == own, axis=0)
        winner = np.where((votes > most) | ((votes == most) & (own < winner)), own, winner)
        np.maximum(most, votes, out=most)
    return winner


def _pair_rows(joint: Joint, reader: str, other: str, named: Mapping[int, str]) -> Iterator[PairRow]:
    rows = [
        PairRow(reader=reader, other=other, label=k, name=name, dice=_dice(joint, k), kappa=_cohen(_only(joint, k)))
        for k, name in named.items()
    ]
    mean = float(np.mean([row.dice for row in rows])) if rows else 1.0
    label, name = ALL_LABELS
    yield PairRow(reader=reader, other=other, label=label, name=name, dice=mean, kappa=_cohen(joint))
    yield from rows


def _agreement_row(
    label: int, name: str, pairs: Sequence[PairRow], joints: Mapping[tuple[int, int], Joint], raters: int
) -> AgreementRow:
    dice = [row.dice for row in pairs if row.label == label]
    judged = joints if label == ALL_LABELS[0] else {pair: _only(joint, label) for pair, joint in joints.items()}
    return AgreementRow(
        label=label,
        name=name,
        readers=raters,
        mean_dice=float(np.mean(dice)),
        least_dice=min(dice),
        fleiss_kappa=_fleiss(judged, raters),
    )


def _only(joint: Joint, label: int) -> Joint:
    """The same with two categories: the label, and everything else."""
    two: Joint = Counter()
    for (a, b), n in joint.items():
        two[int(a == label), int(b == label)] += n
    return two


def _dice(joint: Joint, label: int) -> float:
    two = _only(joint, label)
    size = 2 * two[1, 1] + two[0, 1] + two[1, 0]
    return 2 * two[1, 1] / size if size else 1.0


def _cohen(joint: Joint) -> float:
    """(observed - expected) / (1 - expected) agreement, with each rater's own share of every category."""
    first, second, agreeing = _margins(joint)
    total = joint.total()
    expected = sum(first[k] * second[k] for k in first) / total**2
    return _beyond_chance(agreeing / total, expected)


def _fleiss(joints: Mapping[tuple[int, int], Joint], raters: int) -> float:
    """The same for all raters, with their common share of every category.

    The mean over voxels of the fraction of pairs that agree is the mean over pairs of the fraction of voxels.
    """
    total = next(iter(joints.values())).total()
    shares: Counter[int] = Counter()
    agreeing = 0
    for joint in joints.values():
        first, second, both = _margins(joint)
        shares.update(first)
        shares.update(second)
        agreeing += both
    # Every rater is in (raters - 1) pairs, so that all shares are counted equally often.
    expected = sum((n / shares.total()) ** 2 for n in shares.values())
    return _beyond_chance(agreeing / (total * math.comb(raters, 2)), expected)


def _margins(joint: Joint) -> tuple[Counter[int], Counter[int], int]:
    first: Counter[int] = Counter()
    second: Counter[int] = Counter()
    for (a, b), n in joint.items():
        first[a] += n
        second[b] += n
    return first, second, sum(n for (a, b), n in joint.items() if a == b)


def _beyond_chance(observed: float, expected: float) -> float:
    """Kappa; NaN where there is only one category, because chance then always agrees."""
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan
