"""What a validation says of how far a model can be believed: its temperature, and what Dice to expect.

Sources: temperature scaling, Guo et al., ICML 2017; the Dice of a case without a reference, after Robinson et al.,
MICCAI 2018, here from the sharpness of its own probabilities and its volume, as a regression over the validation cases.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from napari_medseg.config import SegmentConfig
from napari_medseg.doubt.streaming import Seen, streamed
from napari_medseg.events import Work
from napari_medseg.inference.device import Machine
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.predictor import Predictor
from napari_medseg.inference.results.sink import CERTAIN
from napari_medseg.models.spec import ModelSpec
from napari_medseg.models.trust import Bin, DiceLine, Signs, Trust, log_volume
from napari_medseg.volume import Volume

Logits = npt.NDArray[np.floating[Any]]
Classes = npt.NDArray[np.int16]
MOST_VALUES = 2**22
"""Numbers that the voxels of a validation may have: voxels x classes."""
FEWEST_CASES = 6
"""Cases below which no Dice is expected."""
_HOTTEST = 20.0
_STEEPEST = 100.0
_WORTH = 0.98
"""How much of the error another sign has to leave at most, so that it is taken."""
_VOLUME = 2
"""The place of the volume among the signs: a large one may count as better or worse."""
_BINS = 15
_HASH = 2654435761
"""Knuth's multiplier: which voxels are kept depends on where they lie, and on nothing else."""


@dataclass(frozen=True, eq=False)
class Observed:
    """What is kept of a validation case."""

    logits: Logits
    """(n, K) of some voxels."""
    classes: Classes
    """(n,): what they are; < 0 where nobody annotated, and where no window looked."""
    dice: float
    """The mean over the labels, over all voxels that are annotated."""
    volume_ml: float
    """Of all labels that the network gives, annotated or not: of the kept voxels there may be too few."""


def observing(volume: Volume, classes: Classes, spec: ModelSpec, predictor: Predictor, keep: int) -> Work[Observed]:
    """Run a network on a validation case, and keep some of its voxels.

    classes: (Z, Y, X), < 0 where nobody annotated. keep: about how many voxels.
    """
    wishes = SegmentConfig(precision=predictor.precision, preset="exact")
    plan = resolve(ImageFacts.of(volume), spec, wishes, Machine(str(predictor.device)))
    count = len(spec.label_ids)
    logits, kept = list[Logits](), list[Classes]()
    sums, voxels = np.zeros((2, count), np.int64), 0
    for event in streamed(volume, plan, predictor):
        if not isinstance(event, Seen):
            yield event
            continue
        truth, found = classes[event.box], event.logits.argmax(0).cpu().numpy()
        known = truth >= 0
        voxels += int(np.count_nonzero(found))
        same = known & (truth == found)
        sums[0] += np.bincount(truth[same], minlength=count)
        sums[1] += np.bincount(truth[known], minlength=count) + np.bincount(found[known], minlength=count)
        # No temperature changes what no window looked at: it says nothing of one.
        truth = np.where((event.logits[0] >= CERTAIN).cpu().numpy(), np.int16(-1), truth)
        some = _some(event.box, classes.shape, keep)
        logits.append(event.logits.cpu().numpy()[:, some].T.copy())
        kept.append(truth[some])
    both, of_each = sums[:, 1:]
    dice = np.where(of_each > 0, 2 * both / np.maximum(1, of_each), 1.0)
    return Observed(
        np.concatenate(logits), np.concatenate(kept), float(dice.mean()), voxels * volume.grid.voxel_volume_mm3 / 1000
    )


def trust_of(cases: Sequence[Observed]) -> Trust:
    """What the validation cases say; nothing where they have no annotated voxel."""
    known = [(case.logits[case.classes >= 0], case.classes[case.classes >= 0]) for case in cases]
    if not sum(len(classes) for _, classes in known):
        return Trust()
    logits = np.concatenate([pair[0] for pair in known])
    classes = np.concatenate([pair[1] for pair in known])
    temperature = fit_temperature(logits, classes)
    line = fit_line([signs_of(case, temperature) for case in cases], [case.dice for case in cases])
    return Trust(
        temperature=temperature,
        dice=line,
        before=reliability(logits, classes),
        after=reliability(logits / temperature, classes),
    )


def fit_temperature(logits: Logits, classes: npt.NDArray[np.integer]) -> float:
    """The temperature with the least mean negative log-likelihood. logits: (n, K); classes: (n,)."""
    # Relative to the true class: the likelihood is 1 / sum(exp(difference / T)).
    relative = logits - logits[np.arange(len(logits)), classes][:, None]

    def loss(log_temperature: float) -> float:
        scaled = relative * math.exp(-log_temperature)
        most = scaled.max(axis=1)  # at least 0, that of the true class
        return float(np.mean(most + np.log(np.exp(scaled - most[:, None]).sum(axis=1)), dtype=np.float64))

    # Convex in 1 / T, so it has one minimum; a network that is never wrong would get an ever lower temperature.
    reach = math.log(_HOTTEST)
    found = minimize_scalar(loss, bounds=(-reach, reach), method="bounded", options={"xatol": 1e-3})
    return float(math.exp(found.x))


def fit_line(signs: Sequence[Signs], dice: Sequence[float]) -> DiceLine | None:
    """Dice from the signs of cases; None for fewer than 6 cases.

    Of the mean alone and all choices of signs it takes what predicts a case best from all others, and of choices that
    are nearly as good that of the fewest signs. Sharper cases never count as worse.
    """
    n = len(signs)
    if n < FEWEST_CASES:
        return None
    columns = np.array([(s.sure, s.soft_dice, log_volume(s.volume_ml)) for s in signs])
    best = _fitted(columns, (), dice)
    assert best is not None, "the mean is in bounds"
    for count in range(1, 4):
        fits = (_fitted(columns, names, dice) for names in itertools.combinations(range(3), count))
        rival = min((fit for fit in fits if fit is not None), key=lambda fit: fit[0], default=best)
        if rival[0] < _WORTH * best[0] - 1e-9:
            best = rival
    off, taken, weights = best
    slopes = dict(zip(taken, weights[1:].tolist(), strict=True))
    return DiceLine(
        intercept=float(weights[0]),
        slope=slopes.get(1, 0.0),
        per_volume=slopes.get(_VOLUME, 0.0),
        spread=min(1.0, off),
        cases=n,
        per_sure=slopes.get(0, 0.0),
    )


def _fitted(
    columns: npt.NDArray[np.float64], names: tuple[int, ...], dice: Sequence[float]
) -> tuple[float, tuple[int, ...], npt.NDArray[np.float64]] | None:
    """How far a regression on some columns is off where a case is left out, and its weights; None out of bounds."""
    y, x = np.asarray(dice), np.column_stack([np.ones(len(columns)), columns[:, names]])
    inverse = np.linalg.pinv(x)
    weights = inverse @ y
    falls = any(slope <= 0 for name, slope in zip(names, weights[1:], strict=True) if name != _VOLUME)
    if falls or bool((np.abs(weights[1:]) > _STEEPEST).any()):
        return None
    # What is left of a case when the others predict it: the residual over 1 - leverage (Allen 1974).
    left = (y - x @ weights) / np.maximum(1e-9, 1 - np.einsum("ij,ji->i", x, inverse))
    return float(np.sqrt((left**2).mean())), names, weights


def signs_of(case: Observed, temperature: float) -> Signs:
    """The signs of a case by its kept voxels, and the volume by all."""
    import torch

    from napari_medseg.inference.results.softness import Softness

    softness = Softness(case.logits.shape[1])
    softness.add(torch.from_numpy((case.logits / temperature).T.copy()).softmax(0))
    return replace(softness.signs(1.0), volume_ml=case.volume_ml)


def reliability(logits: Logits, classes: npt.NDArray[np.integer]) -> tuple[Bin, ...]:
    """(share, confidence, accuracy) of the likeliest class, in 15 bins of equal width; empty bins are left out."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = 1 / exponents.sum(axis=1)
    right = logits.argmax(axis=1) == classes
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    found = []
    for k in np.unique(bins):
        inside = bins == k
        found.append((float(inside.mean()), float(confidence[inside].mean()), float(right[inside].mean())))
    return tuple(found)


def _some(box: tuple[slice, slice, slice], shape: tuple[int, ...], keep: int) -> npt.NDArray[np.bool_]:
    """Which voxels of a box of an image are kept."""
    share = keep / math.prod(shape)
    z, y, x = (np.arange(side.start, side.stop, dtype=np.uint64) for side in box)
    _, rows, columns = (np.uint64(n) for n in shape)
    flat = (z[:, None, None] * rows + y[:, None]) * columns + x
    hashed = (flat * np.uint64(_HASH)) % np.uint64(2**32)
    return np.asarray(hashed < np.uint64(min(2**32, math.ceil(share * 2**32))))
