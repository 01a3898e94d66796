"""Segmentation of cases that lie in files: the command and the panel do the same.

torch is loaded when the first case is segmented.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_medseg import io
from napari_medseg.arrays.boxes import holds_any
from napari_medseg.cases import Case, cases_of_images, warn_of_notes
from napari_medseg.errors import InputError
from napari_medseg.events import Notice, Progress, Work
from napari_medseg.inference.refining.run import described_by, require_refiner_of
from napari_medseg.inference.results.wanted import Wanted
from napari_medseg.io import choice
from napari_medseg.io.disk import files, locks
from napari_medseg.io.formats import check_fits
from napari_medseg.io.outputs import earlier_labels, keeping_earlier, locked, output_paths
from napari_medseg.io.zarr.format import is_unfinished
from napari_medseg.models.several import ModelSet, models_of

if TYPE_CHECKING:
    from napari_medseg.config import SegmentConfig
    from napari_medseg.inference.engine import Spread
    from napari_medseg.inference.scale.crew import Crew
    from napari_medseg.models.file import Model
    from napari_medseg.volume import Segmentation


def segmenting_folder(
    images: Path, out: Path, model: Model | ModelSet, config: SegmentConfig, refiner: Model | None = None
) -> Work[list[Path]]:
    """Segment every image of a folder into a folder; returns the files that were written, in natural order.

    Yields a Progress per step, counted in images, and the Notices of each image under its name. All images are checked
    before the first is segmented. A fault ends the work, and finished outputs stay.
    Raises InputError or FileError as `output_paths`, `cases_of_images` and `check_cases`.
    """
    cases = cases_of_images([images])
    inputs = [path for case in cases for path in paths_of(case)]
    outputs = output_paths(inputs, f"{out}/", [case.name for case in cases])
    with locked(*outputs):
        check_cases(cases, model, config, refiner)
        for done, (case, target) in enumerate(zip(cases, outputs, strict=True)):
            yield Progress(done, len(cases), f"images; {case.name}")
            for event in segmenting_case(case, model, config, Wanted(target), refiner=refiner):
                if isinstance(event, Notice):
                    yield Notice(f"{case.name}: {event.message}")
                elif isinstance(event, Progress):
                    part = f"{event.done} of {event.total} {event.message}"
                    yield Progress(done, len(cases), f"images; {case.name}: {part}")
        yield Progress(len(cases), len(cases), "images")
    return outputs


def segmenting_case(
    case: Case,
    model: Model | ModelSet,
    config: SegmentConfig,
    wanted: Wanted,
    crew: Crew | None = None,
    refiner: Model | None = None,
) -> Work[Segmentation | None]:
    """Segment one case into the file `wanted.out`, of any format. Returns None where that is done already.

    crew: those who work on its blocks; by default this process. refiner: what makes the labels better at the end.

    An OME-Zarr is filled row by row. Any other format is written at the end; until then the labels lie in a hidden
    store beside it, so that a run that was broken off can be resumed.
    """
    from napari_medseg.inference.engine import provenance, segmenting

    assert wanted.out is not None, "a case is segmented into a file"
    target = wanted.out
    origin = {"input_sha256": sha256_of_all(paths_of(case))}
    made_by = {**provenance(model, config), **origin}
    of_labels = {**made_by, **described_by(refiner)}
    if wanted.resume and _are_done(wanted, of_labels, made_by):
        yield Notice(f"{target} is done already")
        return None
    for path in wanted.labels:
        if kept := earlier_labels(path):
            yield Notice(f"{path}: labels that no run wrote are there: they will be kept as {kept.name}")
    spread = None if crew is None or isinstance(model, ModelSet) else _spread_over(crew, case, model)
    image = paths_of(case)[0]

    def segment_into(goal: Wanted) -> Work[Segmentation]:
        volume = case.volume()
        return segmenting(volume, model, config, wanted=goal, origin=origin, spread=spread, refiner=refiner)

    with ExitStack() as stack, regions_beside(wanted, image) as goal:
        for store in (path for path in wanted.labels if path.suffix.lower() == ".zarr"):
            stack.enter_context(keeping_earlier(store))
        if target.suffix.lower() == ".zarr":
            result = yield from segment_into(goal)
        else:
            with unfinished_beside(target) as store:
                inside = replace(goal, out=store)
                if not wanted.resume:
                    locks.remove(store)
                if wanted.resume and _are_done(inside, of_labels, made_by):
                    result = io.read_segmentation(store)
                else:
                    result = yield from segment_into(inside)
                result = _written(target, result, image)
    yield from _told_if_empty(result, config)
    return result


def _told_if_empty(result: Segmentation, config: SegmentConfig) -> Iterator[Notice]:
    """One line where nothing was found; what numbers objects has its own."""
    if config.instances in ("auto", "none") and not holds_any(result.data):
        yield Notice("no voxel is labelled: the model finds nothing in this image")


def _are_done(wanted: Wanted, of_labels: Mapping[str, object], made_by: Mapping[str, object]) -> bool:
    """Whether all that is wanted is there. of_labels: what the labels say of how they were made; made_by: the rest."""
    return all(
        is_done(path, of_labels if path == wanted.out else made_by, as_labels=path in wanted.labels)
        for path in wanted.paths
    )


def _written(target: Path, labels: Segmentation, image: Path) -> Segmentation:
    """Write labels as a file of any format. Returns them in memory."""
    in_memory = replace(labels, data=np.asarray(labels.data[...]))
    with keeping_earlier(target):
        io.write(target, in_memory, source=labels_source(image, target))
    return in_memory


@contextmanager
def regions_beside(wanted: Wanted, image: Path) -> Iterator[Wanted]:
    """The outputs with stores for the regions; files of other formats are written of them at the end, one by one."""
    if wanted.regions is None:
        yield wanted
        return
    with ExitStack() as stack:
        stores = {
            name: path if path.suffix.lower() == ".zarr" else stack.enter_context(unfinished_beside(path))
            for name, path in wanted.regions.items()
        }
        yield replace(wanted, regions=stores)
        for name, path in wanted.regions.items():
            if stores[name] != path:
                _written(path, io.read_segmentation(stores[name]), image)


def _spread_over(crew: Crew, case: Case, model: Model) -> Spread:
    from napari_medseg.inference.scale.blocks import segment_blocks

    return lambda job, outputs, journal: segment_blocks(job, case, model, outputs, journal, crew)


@contextmanager
def unfinished_beside(target: Path) -> Iterator[Path]:
    """The place of a store beside `target` that holds its labels until they are written there.

    It is removed at the end. Where the work is broken off it stays if a row of it is done, and where the file cannot be
    written: it can be resumed.
    """
    # All of the target's name: x.nii and x.nrrd have stores of their own, and no x.zarr is filled at their place.
    store = locks.partial_beside(target.with_name(f"{target.name}.labels")).with_suffix(".labels.zarr")
    try:
        yield store
        locks.remove(store)
    finally:
        if is_unfinished(store) and not (store / locks.JOURNAL).is_file():
            locks.remove(store)


def is_done(target: Path, made_by: Mapping[str, object], *, as_labels: bool = True) -> bool:
    """Whether a file is there, complete, and made of the same image in the same way. as_labels: whether of labels."""
    if not target.exists() or is_unfinished(target):
        return False
    found = io.peek(target, as_labels=as_labels).provenance
    return all(found.get(name) == value for name, value in made_by.items())


def check_cases(
    cases: Iterable[Case],
    model: Model | ModelSet,
    config: SegmentConfig,
    refiner: Model | None = None,
    wanted: Sequence[Wanted] = (),
) -> None:
    """Check every image and the device against the model; no image is decoded for that. Raises InputError.

    wanted: what is made of each case; raises as `formats.check_fits` for labels that could not be written. Warns once
    of each thing that images leave open, such as how large a pixel is.
    """
    from napari_medseg.inference.device import choose_device
    from napari_medseg.inference.engine import require_fit

    choose_device(config.device)
    notes: dict[str, Sequence[str]] = {}
    for case, goal in zip(cases, wanted or repeat(Wanted()), strict=False):
        outline = case.peek()
        for path in goal.labels:
            earlier_labels(path)  # refused before the work, where it cannot be kept
            check_fits(path, outline.grid, labels_source(paths_of(case)[0], path))
        for one in models_of(model):
            require_fit(outline, one.spec, str(one.path), config.missing)
        if refiner is not None:
            require_refiner_of(refiner, model, outline, config.missing)
        notes[case.name] = outline.notes
    warn_of_notes(notes)


def paths_of(case: Case) -> list[Path]:
    """The files of its images."""
    return [image for image in case.images if isinstance(image, Path)]


def labels_source(image: Path, target: Path) -> Path | None:
    """The DICOM series that a .dcm output refers to: the image. Raises InputError where the image is none."""
    if target.suffix.lower() != ".dcm":
        return None
    if io.format_of(image).name != "DICOM":
        raise InputError(f"{target}: a DICOM segmentation refers to a DICOM series, and {image} is none: write .nii.gz")
    return image


def sha256_of_all(paths: list[Path]) -> str:
    """The SHA-256 of a file; of several the SHA-256 of their SHA-256 in hexadecimal, one a line."""
    sums = [sha256_of(path) for path in paths]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(f"{sum_}\n" for sum_ in sums).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file; for a folder the SHA-256 of its files' names and SHA-256, in sorted order.

    Raises FileError where nothing is there.
    """
    # A DICOM path may name one of several series. The files of FOLDER#SERIES are not known here: all in FOLDER count.
    path = choice.split(path)[0]
    files.status_of(path)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    inside = sorted(p for p in path.rglob("*") if p.is_file())
    listing = "".join(f"{p.relative_to(path).as_posix()}\0{sha256_of(p)}\n" for p in inside)
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
