"""Images prepared as the source program of a model does it, step by step.

The prepared image is one array at the model's spacing: steps such as a crop or percentiles need all of it. Shapes:
(C, Z, Y, X) in the model's axis order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import FileError
from napari_medseg.events import Event, Notice, Progress
from napari_medseg.geometry import AxisMap, Shape3, triple_of
from napari_medseg.inference.plan import InferencePlan, Maps
from napari_medseg.inference.planes import any_not_finite, count_as_zero
from napari_medseg.models.pipeline import Step
from napari_medseg.transforms.intensity import as_float32
from napari_medseg.transforms.resampling import cropped, maps_back, model_grid, resampled
from napari_medseg.volume import Grid, Volume

if TYPE_CHECKING:
    from napari_medseg.models.spec import ModelSpec

Array = npt.NDArray[np.float32]
Bounds = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
_EPSILON = 1e-8


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared image."""

    values: Array
    """(C, Z, Y, X) on the model's grid, cropped where a step says so."""
    maps: Maps
    """From its samples to those of the image, in the model's axis order."""
    bounds: Bounds | None
    """The crop before the resampling, in voxels of the image; None without one."""


def preparing(volume: Volume, plan: InferencePlan) -> Generator[Event, None, Prepared]:
    """Read the image and take the steps; a Progress per step. Raises FileError where the image cannot be read."""
    spec, steps = plan.spec, steps_for(plan.spec)
    stored = _stored(volume, plan)
    if any_not_finite(stored):
        yield Notice(count_as_zero(volume))
    values = np.stack([as_float32(channel) for channel in stored])
    foreground: npt.NDArray[np.bool_] | None = None
    inside: Bounds | None = None
    for done, step in enumerate(steps, start=1):
        if step.kind == "resample":
            values = resampled(values, plan.image_grid, spec, step, _shape(values))
        elif step.kind == "crop":
            foreground, bounds = _found(values, step)
            values, foreground = _inside(values, bounds), _inside(foreground, bounds)
            inside = bounds if inside is None else _within(inside, bounds)
        else:
            values = taken(values, step, foreground)
        yield Progress(done, len(steps), "preparing the image")
    crop_first = _crops_first(steps)
    return Prepared(
        values,
        _maps(plan, _shape(values), inside, crop_first=crop_first),
        inside if crop_first else None,
    )


def steps_for(spec: ModelSpec) -> tuple[Step, ...]:
    """The steps of a model; those that its normalisation and spacing stand for where it states none."""
    if spec.steps:
        return spec.steps
    made: list[Step] = []
    for channel, rule in enumerate(spec.normalisation):
        if rule.kind == "zscore":
            made.append(Step(kind="zscore", channel=channel))
        elif rule.kind == "clip_zscore":
            assert rule.mean is not None, "the model file's schema holds all four"
            assert rule.std is not None
            made.append(Step(kind="clip", channel=channel, low=rule.low, high=rule.high))
            made.append(Step(kind="affine", channel=channel, factor=1 / rule.std, offset=-rule.mean / rule.std))
    return (*made, *([Step(kind="resample", method="extent")] if spec.spacing_zyx_mm else []))


def _stored(volume: Volume, plan: InferencePlan) -> npt.NDArray[np.generic]:
    """The voxels of a volume (C, Z, Y, X) in the model's axis order."""
    try:
        stored = np.asarray(volume.data[...])
    except (OSError, RuntimeError, ValueError) as error:
        raise FileError(f"{volume.name or 'volume'}: its voxels cannot be read ({error}): check its files") from error
    return plan.order.apply(stored)


def _shape(values: npt.NDArray[np.generic]) -> Shape3:
    return triple_of(values.shape[-3:])


def _crops_first(steps: tuple[Step, ...]) -> bool:
    """Whether the image is cropped before it is resampled."""
    kinds = [step.kind for step in steps if step.kind in ("crop", "resample")]
    return bool(kinds) and kinds[0] == "crop"


def _maps(plan: InferencePlan, shape: Shape3, inside: Bounds | None, *, crop_first: bool) -> Maps:
    """From the samples of the prepared image to those of the image. What lies outside of a crop is nothing."""
    image = plan.image_grid
    if inside is None:
        return maps_back(image, shape, plan.spec)
    if not crop_first:
        whole = maps_back(image, model_grid(image, plan.spec).shape, plan.spec)
        return triple_of(cropped(m, *bounds) for m, bounds in zip(whole, inside, strict=True))
    sizes = [stop - start for start, stop in inside]
    box = Grid((sizes[0], sizes[1], sizes[2]), image.affine)
    within = maps_back(box, shape, plan.spec)
    return triple_of(_placed(m, *b, n) for m, b, n in zip(within, inside, image.shape, strict=True))


def _placed(axis_map: AxisMap, start: int, stop: int, size: int) -> AxisMap:
    """A map to the samples [start, stop) of an axis of `size`, as one to all of them."""
    before, after = max(0, start), max(0, size - stop)
    rows = slice(max(0, -start), len(axis_map.first) - max(0, stop - size))  # of a margin, some lie beyond the image
    inner = axis_map.first[rows]
    first = np.concatenate([np.full(before, inner[0]), inner, np.full(after, inner[-1])])
    nothing = [np.zeros((n, axis_map.taps), np.float32) for n in (before, after)]
    return AxisMap(first, np.concatenate([nothing[0], axis_map.weights[rows], nothing[1]]), axis_map.n_old)


def _within(outer: Bounds, inner: Bounds) -> Bounds:
    return triple_of((o[0] + i[0], o[0] + i[1]) for o, i in zip(outer, inner, strict=True))


def _inside(values: npt.NDArray[Any], bounds: Bounds) -> npt.NDArray[Any]:
    """What lies in the bounds; beyond the image there is 0."""
    z, y, x = (slice(max(0, start), stop) for start, stop in bounds)
    sides = [(max(0, -start), max(0, stop - n)) for (start, stop), n in zip(bounds, values.shape[-3:], strict=True)]
    return np.pad(values[..., z, y, x], [(0, 0)] * (values.ndim - 3) + sides)


def _found(values: Array, step: Step) -> tuple[npt.NDArray[np.bool_], Bounds]:
    """The voxels that a crop is around, and its box: of any channel; all where there are none."""
    chosen: npt.NDArray[np.bool_] = np.any(values > 0 if step.over == "positive" else values != 0, axis=0)
    if step.over == "filled":
        from scipy.ndimage import binary_fill_holes

        chosen = binary_fill_holes(chosen)
    bounds = []
    for axis in range(3):
        at = np.flatnonzero(np.any(chosen, axis=tuple(a for a in range(3) if a != axis)))
        n = chosen.shape[axis]
        low, high = (int(at[0]) - step.margin, int(at[-1]) + 1 + step.margin) if len(at) else (0, n)
        bounds.append((max(0, low), min(n, high)) if step.clipped else (low, high))
    return chosen, (bounds[0], bounds[1], bounds[2])


def taken(values: Array, step: Step, foreground: npt.NDArray[np.bool_] | None = None) -> Array:
    """`values` (C, Z, Y, X) after one step that changes intensities only. foreground: what a crop was around."""
    change = _CHANGES[step.kind]
    if step.together:
        return change(values, step, foreground)
    done = values.copy()
    for c in range(len(values)) if step.channel is None else (step.channel,):
        done[c] = change(values[c], step, foreground)
    return done


def _chosen(values: Array, step: Step, foreground: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
    """The voxels that a step is about; None for all."""
    if step.over == "nonzero":
        return np.not_equal(values, 0)
    return foreground if step.over == "filled" else None


def _affine(values: Array, step: Step, foreground: npt.NDArray[np.bool_] | None) -> Array:
    assert step.factor is not None, "checked with the step"
    assert step.offset is not None, "checked with the step"
    changed = values * np.float32(step.factor) + np.float32(step.offset)
    chosen = _chosen(values, step, foreground)
    return changed if chosen is None else np.where(chosen, changed, values)


def _clip(values: Array, step: Step, _: object) -> Array:
    return np.clip(values, step.low, step.high)


def _minmax(values: Array, step: Step, _: object) -> Array:
    assert step.to_low is not None, "checked with the step"
    assert step.to_high is not None, "checked with the step"
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.asarray(values * np.float32(step.to_low), np.float32)
    return np.asarray((values - np.float32(low)) / np.float32(high - low), np.float32) * np.float32(
        step.to_high - step.to_low
    ) + np.float32(step.to_low)


def _zscore(values: Array, step: Step, foreground: npt.NDArray[np.bool_] | None) -> Array:
    chosen = _chosen(values, step, foreground)
    counted = values if chosen is None else values[chosen]
    if not counted.size:
        return values
    mean, std = float(counted.mean(dtype=np.float64)), float(counted.std(dtype=np.float64))
    changed = (values - np.float32(mean)) / np.float32(std if std > _EPSILON else 1)
    return changed if chosen is None else np.where(chosen, changed, values)


def _percentiles(values: Array, step: Step, _: object) -> Array:
    assert step.to_low is not None, "checked with the step"
    assert step.to_high is not None, "checked with the step"
    low, high = (float(v) for v in np.percentile(values, [step.low or 0.0, step.high or 0.0]))
    if low == high:
        changed = values - np.float32(low) + np.float32(step.to_low)
    else:
        scale = (step.to_high - step.to_low) / (high - low)
        changed = (values - np.float32(low)) * np.float32(scale) + np.float32(step.to_low)
    return np.clip(changed, step.to_low, step.to_high) if step.clipped else changed


def _threshold(values: Array, step: Step, _: object) -> Array:
    assert step.fill is not None, "checked with the step"
    kept = values > step.low if step.low is not None else values < (step.high or 0.0)
    return np.where(kept, values, np.float32(step.fill))


_CHANGES: dict[str, Callable[[Array, Step, npt.NDArray[np.bool_] | None], Array]] = {
    "affine": _affine,
    "clip": _clip,
    "minmax": _minmax,
    "zscore": _zscore,
    "percentiles": _percentiles,
    "threshold": _threshold,
}
