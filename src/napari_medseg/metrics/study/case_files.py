"""Which files belong to which case: two files, two folders matched by name, or the points of two time series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_medseg.cases import Case
from napari_medseg.errors import FileError, InputError, warn
from napari_medseg.io import choice
from napari_medseg.io.folders import (
    by_channel,
    images_by_name,
    is_folder_of_images,
    match_by_name,
    partners,
    time_points,
)
from napari_medseg.io.formats import check_no_archive, is_flat, labels_in, labels_on, peek, volume_in
from napari_medseg.io.stored import image_for_labels
from napari_medseg.metrics.study.study import PREDICTION, CaseImages
from napari_medseg.metrics.study.tables import Table, table_of
from napari_medseg.volume import Grid, Segmentation, Volume

REFERENCE = "reference"
"""What the reference is called among the readers."""
_CHANNEL = "channel"
"""What the channels of an image after the first are called, with a number."""
_IMAGES = ("image", "probabilities")
"""What is beside a case and not labels."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the images of the cases lie: files, or folders with a file of the same name for every case."""

    prediction: Path
    reference: Path
    compared: Path | None = None
    image: Path | None = None
    channels: Sequence[Path] = ()
    """Further channels of the image."""
    probabilities: Path | None = None
    readers: Sequence[Path] = ()
    """Further readers beside the reference; they are called reader 1, reader 2, ..."""

    @property
    def beside(self) -> dict[str, Path]:
        """{what it is: where it lies} for everything except prediction and reference."""
        single = {"compared": self.compared, "image": self.image, "probabilities": self.probabilities}
        single |= {f"{_CHANNEL} {n}": path for n, path in enumerate(self.channels, start=1)}
        readers = {f"reader {n}": path for n, path in enumerate(self.readers, start=1)}
        return {**{what: path for what, path in single.items() if path is not None}, **readers}


def opened(case: Case) -> CaseImages:
    """The images of a case, each named by its whole path: the file names of prediction and reference are equal.

    Raises as `io.read` and `CaseImages`.
    """
    assert isinstance(case.labels, Path), "the cases of match_files lie in files"
    channels = [path for what, path in case.beside.items() if what == "image" or what.startswith(_CHANNEL)]
    image = _stacked(channels) if channels else None
    reference = _labels(case.labels, None if image is None else image.grid)
    if reference.grid.in_pixels:  # the size that the prediction states
        reference = labels_on(case.labels, str(case.labels), peek(case.beside[PREDICTION], as_labels=True).grid)
    labels = {
        what: _labels(path, reference.grid)
        for what, path in case.beside.items()
        if what not in _IMAGES and not what.startswith(_CHANNEL)
    }
    return CaseImages(
        name=case.name,
        prediction=labels.pop(PREDICTION),
        reference=reference,
        compared=labels.pop("compared", None),
        image=image,
        probabilities=_all_channels(case.beside["probabilities"]) if "probabilities" in case.beside else None,
        raters={REFERENCE: reference, **labels},
    )


def notes_of(case: Case, grid: Grid) -> tuple[str, ...]:
    """What the 2D file leaves open that gives a case its size of a pixel; empty for other files. grid: of the case."""
    paths = [case.labels, case.beside.get("image"), case.beside.get(PREDICTION)]
    for path in (path for path in paths if isinstance(path, Path) and is_flat(choice.split(path)[0])):
        seen = peek(path, as_labels=path != case.beside.get("image"))
        if grid.in_pixels or not seen.grid.in_pixels:
            return seen.notes
    return ()


@dataclass(frozen=True, kw_only=True)
class UnmatchedRow:
    """A file without a partner."""

    case: str
    """The name of the file, without the suffix of its format."""
    missing: str
    """Which file of this name is missing."""


def match_files(sources: Sources, *, series: bool = False) -> tuple[list[Case], Table | None]:
    """The cases, in natural order, and a table of the files without a partner; None where all have one.

    A case needs a prediction and a reference. One warning per folder lists the files left out. series: prediction and
    reference are files of several time points, and each time point is a case. Raises FileError for a path that does not
    exist, InputError where no names match, and where a file is given with a folder.
    """
    for path in (sources.prediction, sources.reference, *sources.beside.values()):
        _require_there(path)
    folders = [is_folder_of_images(path) for path in (sources.prediction, sources.reference)]
    alone: list[UnmatchedRow] = []
    if all(folders):
        matched = match_by_name([sources.prediction, sources.reference])
        files = matched.paths
        alone = [
            UnmatchedRow(case=name, missing="reference" if predicted else "prediction")
            for name, (predicted, _) in matched.alone.items()
        ]
    elif any(folders):
        for path in (sources.prediction, sources.reference):
            check_no_archive(path)
        raise InputError(
            f"{sources.prediction} and {sources.reference}: give two files or two folders, not one of each"
        )
    else:
        files = _points(sources) if series else {"": (sources.prediction, sources.reference)}
    names = list(files)
    # An only case takes each path as it is given: an image may be a folder of DICOM files.
    is_only = names == [""]
    beside: dict[str, Mapping[str, Path]] = {}
    for what, path in sources.beside.items():
        channels = {} if is_only or what != "image" else _channels_in(path, names)
        beside |= channels or {what: {"": path} if is_only else partners(path, names)}
    cases = [
        Case(
            name=name,
            labels=reference,
            beside={PREDICTION: prediction, **{what: found[name] for what, found in beside.items() if name in found}},
        )
        for name, (prediction, reference) in files.items()
    ]
    return cases, _report([*alone, *_missing(names, beside)])


def _channels_in(path: Path, names: Sequence[str]) -> dict[str, dict[str, Path]]:
    """{"image", "channel 1", ...: {name: file}} of a folder that holds NAME_0000, NAME_0001, ...; else empty."""
    images = images_by_name(path) if is_folder_of_images(path) else {}
    grouped = by_channel(images)
    if images.keys() & set(names) or not grouped.keys() & set(names):
        return {}
    found: dict[str, dict[str, Path]] = {}
    for name in names:
        for n, file in enumerate(grouped.get(name, ())):
            found.setdefault(f"{_CHANNEL} {n}" if n else "image", {})[name] = file
    return found


def _require_there(path: Path) -> None:
    whole, _ = choice.split(path)
    if not whole.exists():
        raise FileError(f"no such file or folder: {path}")


def _points(sources: Sources) -> dict[str, tuple[Path, ...]]:
    """{number: (prediction, reference)} of the time points."""
    of_prediction, of_reference = time_points(sources.prediction), time_points(sources.reference)
    if len(of_prediction) != len(of_reference):
        raise InputError(
            f"{sources.prediction} has {len(of_prediction)} time points and {sources.reference} has "
            f"{len(of_reference)}: they must be the same"
        )
    return {f"{n}": pair for n, pair in enumerate(zip(of_prediction, of_reference, strict=True))}


def _report(rows: Sequence[UnmatchedRow]) -> Table | None:
    return table_of(rows, UnmatchedRow, name="unmatched", title="Files without a partner") if rows else None


def _missing(names: Sequence[str], beside: Mapping[str, Mapping[str, Path]]) -> Iterator[UnmatchedRow]:
    for what, found in beside.items():
        yield from (UnmatchedRow(case=name, missing=what) for name in names if name not in found)


def _labels(path: Path, grid: Grid | None) -> Segmentation:
    """grid: where they lie, if they do not say so themselves. Warns of an image in place of labels."""
    labels = labels_in(path, str(path)) if grid is None else labels_on(path, str(path), grid)
    if told := image_for_labels(labels, path):
        warn(told)
    return labels


def _image(path: Path) -> Volume:
    return volume_in(path, str(path))


def _stacked(paths: Sequence[Path]) -> Volume:
    """The image whose channels lie in these files."""
    return _all_channels(paths[0]) if len(paths) == 1 else Case(name=str(paths[0]), images=tuple(paths)).volume()


def _all_channels(path: Path) -> Volume:
    """An image with all its channels. The fourth axis of a file may be time; beside one case it holds channels."""
    try:
        return _image(path)
    except choice.PointError:
        return _image(path.with_name(f"{path.name}#channels"))
