"""Which of many to take, so that they are unsure and unlike each other. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
_LEAST = 1e-12


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


def spread_out(
    features: FloatArray, scores: npt.ArrayLike, groups: npt.ArrayLike, count: int, taken: npt.ArrayLike = ()
) -> list[int]:
    """The indices of `count` rows: each next one lies in a group with the fewest rows so far.

    There it is that with the largest score x d / (d + typical), d being its distance to all before it. A k-center would
    take outliers, whatever their score; here a far row counts at most twice as much as a typical one, and only a near
    one counts little. features: (n, f). scores: >= 0. groups: (n,) whole numbers from 0 on. taken: indices of rows that
    are there already. Of equal ones the first in order.
    """
    weights, of_group = np.asarray(scores, np.float64), np.asarray(groups, np.int64)
    before = [int(k) for k in np.asarray(taken, np.int64)]
    nearest = np.full(len(features), np.inf)
    for k in before:
        nearest = np.minimum(nearest, np.linalg.norm(features - features[k], axis=1))
    open_, held = np.ones(len(features), bool), np.bincount(of_group[before], minlength=of_group.max(initial=0) + 1)
    open_[before] = False
    chosen: list[int] = []
    while open_.any() and len(chosen) < count:
        fewest = open_ & (held[of_group] == held[of_group[open_]].min())
        known = np.isfinite(nearest).all()
        typical = float(np.median(nearest[open_])) if known else 0.0
        share = nearest / (nearest + max(typical, _LEAST)) if known else 1.0
        k = int(np.where(fewest, weights * share, -1.0).argmax())
        chosen.append(k)
        open_[k] = False
        held[of_group[k]] += 1
        nearest = np.minimum(nearest, np.linalg.norm(features - features[k], axis=1))
    return chosen
