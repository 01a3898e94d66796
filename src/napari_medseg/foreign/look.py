"""A model of another program as the user sees it before it is taken: what it is, and what could not be taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.errors import MedsegError
from napari_medseg.foreign.asked import Asked
from napari_medseg.foreign.convert import Written, understood, writing
from napari_medseg.foreign.imported import Imported, ImportedSet
from napari_medseg.models.naming import SUFFIX, first_free

if TYPE_CHECKING:
    from napari_medseg.models.pipeline import Step
    from napari_medseg.models.spec import ModelSpec

_SHOWN = 12
"""Labels that a summary names."""


@dataclass(frozen=True)
class Look:
    """What a file or folder was understood to be."""

    source: Path
    found: Imported | ImportedSet
    summary: tuple[tuple[str, str], ...]
    """(what, how it is) in the order in which a user asks."""
    notes: tuple[str, ...]
    """What could not be taken, or differs."""


def look(source: Path, asked: Asked) -> Look:
    """Read a model of another program; nothing is written. Raises as `convert_model`."""
    with understood(source, asked) as found:
        first = found if isinstance(found, Imported) else next(iter(found.loads.values()))()
        rows = summary(first.spec)
        notes = tuple(dict.fromkeys((*found.notes, *first.notes)))
        if isinstance(found, ImportedSet):
            where = "" if found.is_averaged else "of the first part, "
            rows = (*_set_told(found), *((what, where * (what == "Labels") + how) for what, how in rows))
    return Look(source, found, rows, tuple(note.removeprefix(f"{source}: ") for note in notes))


def _set_told(found: ImportedSet) -> tuple[tuple[str, str], ...]:
    """What is in a set, and where its models look."""
    if found.is_averaged:
        names = list(found.members[0])
        return (("Models", f"{len(names)}, averaged: {', '.join(names)}"),)
    parts = [" and ".join(group) + " averaged" * (len(group) > 1) for group in found.members]
    rows = [("Models", f"{sum(map(len, found.members))}, merged: {', '.join(parts)}")]
    if found.crop is not None:
        rows.append(("Where", f"in the box that {found.crop.name} finds, and {found.crop.margin_mm:g} mm around it"))
    return tuple(rows)


def target_in(folder: Path, source: Path) -> Path:
    """A free name for the model file of a source."""
    stem = source.name if source.is_dir() else source.stem
    names = (folder / f"{stem}{f' {n}' if n else ''}{SUFFIX}" for n in range(10_000))
    return first_free(names)


def take(
    found: Imported | ImportedSet, out: Path, tell: Callable[[int, int], None], should_stop: Callable[[], bool]
) -> Written | None:
    """Write what was understood into the folder of `out`, which is made; None where it was stopped.

    tell: takes (models done, models in all), from the thread that this runs in.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    work = writing(found, out)
    while True:
        try:
            progress = next(work)
        except StopIteration as done:
            written: Written = done.value
            return written
        tell(progress.done, progress.total)  # type: ignore[attr-defined]  # its only events
        if should_stop():
            work.close()
            return None


def fault_or(compute: Callable[[], Look | Written | None]) -> Look | Written | str | None:
    """What `compute` returns, or why it cannot: for a thread that has nobody to raise to."""
    try:
        return compute()
    except MedsegError as error:
        return str(error)


def summary(spec: ModelSpec) -> tuple[tuple[str, str], ...]:
    """What a model is, in rows that a user reads."""
    names = list(spec.labels.values())
    kind = ("overlapping region" if spec.output.regions else "label") + "s" * (len(names) != 1)
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    before = f", after {spec.first.model.network}" if spec.first else ""
    patch = " × ".join(map(str, spec.patch_zyx))
    images = ", ".join(f"{channel.name} ({channel.modality})" for channel in spec.channels)
    rows = (
        ("Network", f"{spec.network}, {spec.mode}{before}; window {patch}"),
        ("Images", images),
        ("Labels", f"{len(names)} {kind}: {shown}"),
        ("Spacing", _spacing(spec)),
        ("Intensities", intensities_told(spec)),
        ("Licence", spec.licence or "not stated: ask whoever trained it"),
    )
    return tuple((what, " ".join(how.split())) for what, how in rows)


def _spacing(spec: ModelSpec) -> str:
    if spec.size_zyx is not None:
        return "resized to " + " × ".join(str(n or "any") for n in spec.size_zyx) + " voxels"
    if spec.spacing_zyx_mm is None:
        return "as the image has it"
    return " × ".join(f"{s:.3g}" for s in spec.spacing_zyx_mm) + " mm"


def intensities_told(spec: ModelSpec) -> str:
    """How a model wants intensities, in one line."""
    steps = [_step(step) for step in spec.steps if step.kind != "resample"]
    rules = [rule.kind for rule in spec.normalisation if rule.kind != "none"]
    return ", then ".join(steps or dict.fromkeys(rules)) or "as they are"


def _step(step: Step) -> str:
    where = "" if step.channel is None else f" (channel {step.channel})"
    numbers = {
        "affine": f"times {step.factor:.4g} plus {step.offset:.4g}" if step.factor is not None else "",
        "clip": f"clipped to {step.low} … {step.high}",
        "minmax": f"the image's range to {step.to_low} … {step.to_high}",
        "zscore": "mean 0, deviation 1" + ("" if step.over == "all" else f" of the {step.over} voxels"),
        "percentiles": f"percentiles {step.low} and {step.high} to {step.to_low} … {step.to_high}",
        "threshold": f"{step.fill} beyond {step.low if step.low is not None else step.high}",
        "crop": f"cropped to what is {step.over}",
    }
    return numbers[step.kind] + where
