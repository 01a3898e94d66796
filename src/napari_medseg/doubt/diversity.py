"""Which of many to take, so that they are unsure and unlike each other. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

FloatArray = npt.NDArray[np.float64]
_MOST_COMPARED = 2000
"""Rows that are compared with each other."""


def joined(*groups: npt.ArrayLike) -> FloatArray:
    """Groups of features, each (n, f), as one (n, sum of f) in which every group counts alike.

    A group is centred, and divided by the root of its mean squared length; one that is constant is 0.
    """
    found = []
    for group in groups:
        values = np.asarray(group, np.float64)
        off = values - values.mean(axis=0)
        length = np.sqrt((off**2).sum(axis=1).mean())
        found.append(off / (length if length > 1e-12 else 1.0))
    return np.concatenate(found, axis=1)


def k_center(features: FloatArray, scores: npt.ArrayLike, count: int, taken: npt.ArrayLike = ()) -> list[int]:
    """The indices of `count` rows: each next one is that with the largest score x distance to all before it.

    The greedy k-center of Sener and Savarese (ICLR 2018), with the distances weighed by scores >= 0. features: (n, f).
    taken: indices of rows that are there already. Without any, the first is that of the largest score. Of equal ones
    the first in order.
    """
    weights = np.asarray(scores, np.float64)
    before = [int(k) for k in np.asarray(taken, np.int64)]
    nearest = np.full(len(features), np.inf)
    for k in before:
        nearest = np.minimum(nearest, np.linalg.norm(features - features[k], axis=1))
    open_ = np.ones(len(features), bool)
    open_[before] = False
    chosen: list[int] = []
    while open_.any() and len(chosen) < count:
        value = weights * (nearest if np.isfinite(nearest).all() else 1.0)
        value = np.where(open_, value, -1.0)
        k = int(value.argmax())
        chosen.append(k)
        open_[k] = False
        nearest = np.minimum(nearest, np.linalg.norm(features - features[k], axis=1))
    return chosen


def covering(
    features: FloatArray, scores: npt.ArrayLike, groups: npt.ArrayLike, count: int, taken: npt.ArrayLike = ()
) -> list[int]:
    """The indices of `count` rows of large scores that stand for the others: unsure, then representative.

    Of the better half by score, each next row lessens most the sum of the distances of that half to the nearest row
    that is there; it lies in a group with the fewest rows so far. A k-center takes outliers; this one takes what many
    rows are like (after Yang et al., MICCAI 2017). features: (n, f). groups: (n,) whole numbers from 0 on. taken:
    indices of rows that are there already. Of equal ones the first in order.
    """
    weights, of_group = np.asarray(scores, np.float64), np.asarray(groups, np.int64)
    before = np.asarray(taken, np.int64)
    held = np.bincount(of_group[before], minlength=of_group.max(initial=0) + 1)
    free = np.setdiff1d(np.arange(len(features)), before)
    most = max(count, min(_MOST_COMPARED, -(-len(free) // 2)))
    half = np.sort(free[np.argsort(-weights[free], kind="stable")[:most]])
    apart = cdist(features[half], features[half])
    nearest = cdist(features[half], features[before]).min(axis=1) if len(before) else apart.max(axis=1, initial=0.0)
    open_, chosen = np.ones(len(half), bool), list[int]()
    while open_.any() and len(chosen) < count:
        fewest = open_ & (held[of_group[half]] == held[of_group[half[open_]]].min())
        gains = np.maximum(0, nearest[:, None] - apart).sum(axis=0)
        k = int(np.where(fewest, gains, -1.0).argmax())
        chosen.append(int(half[k]))
        open_[k] = False
        held[of_group[half[k]]] += 1
        nearest = np.minimum(nearest, apart[k])
    return chosen
