"""Which files belong to which case: two files, two folders matched by name, or the points of two time series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from napari_medseg import io
from napari_medseg.errors import FileError, InputError
from napari_medseg.io import choice, stored
from napari_medseg.io.folders import images_by_name, is_folder_of_images, pairs, partners, time_points
from napari_medseg.metrics.study.study import Case
from napari_medseg.metrics.study.tables import Table, table_of
from napari_medseg.volume import Segmentation, Volume

#: what the reference is called among the readers
REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the images of the cases lie: each a file, or a folder with a file of the same name for every case."""

    prediction: Path
    reference: Path
    compared: Path | None = None
    image: Path | None = None
    probabilities: Path | None = None
    readers: Sequence[Path] = ()
    """Further readers beside the reference; they are called reader 1, reader 2, ..."""

    @property
    def beside(self) -> dict[str, Path]:
        """{what it is: where it lies} of all that a case can do without."""
        single = {"compared": self.compared, "image": self.image, "probabilities": self.probabilities}
        readers = {f"reader {n}": path for n, path in enumerate(self.readers, start=1)}
        return {**{what: path for what, path in single.items() if path is not None}, **readers}


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """The files of one case."""

    name: str
    """Empty for the only case."""
    prediction: Path
    reference: Path
    beside: Mapping[str, Path] = field(default_factory=dict)
    """As `Sources.beside`, of what this case has."""

    def read(self) -> Case:
        """Open them all, each named by its whole path: file names are alike. Raises as `io.read` and `Case`."""
        labels = {what: _labels(path) for what, path in self.beside.items() if what not in _IMAGES}
        reference = _labels(self.reference)
        compared = labels.pop("compared", None)
        return Case(
            name=self.name,
            prediction=_labels(self.prediction),
            reference=reference,
            compared=compared,
            image=_image(self.beside["image"]) if "image" in self.beside else None,
            probabilities=_probabilities(self.beside["probabilities"]) if "probabilities" in self.beside else None,
            raters={REFERENCE: reference, **labels},
        )


_IMAGES = ("image", "probabilities")


@dataclass(frozen=True, kw_only=True)
class UnmatchedRow:
    """A file that some of its kind have no partner for."""

    case: str
    """The name of the file, without the suffix of its format."""
    missing: str
    """What there is no file of this name for."""


def match_files(sources: Sources, *, series: bool = False) -> tuple[list[CaseFiles], Table | None]:
    """The cases, sorted by name, and a table of the names that were not matched everywhere; None where all were.

    A case needs prediction and reference; one warning per folder tells what is left out. series: prediction and
    reference are files of several time points, which are the cases. Raises FileError for what is not there, InputError
    where nothing matches, or a file meets a folder.
    """
    for path in (sources.prediction, sources.reference, *sources.beside.values()):
        _require_there(path)
    folders = [is_folder_of_images(path) for path in (sources.prediction, sources.reference)]
    if all(folders):
        matched = pairs(sources.prediction, sources.reference)
    elif any(folders):
        raise InputError(
            f"{sources.prediction} and {sources.reference}: give two files or two folders, not one of each"
        )
    else:
        matched = _points(sources) if series else [("", sources.prediction, sources.reference)]
    names = [name for name, _, _ in matched]
    # The only case takes what is given as it is: an image may be a folder of DICOM files.
    alone = names == [""]
    beside = {what: {"": path} if alone else partners(path, names) for what, path in sources.beside.items()}
    cases = [
        CaseFiles(
            name=name,
            prediction=prediction,
            reference=reference,
            beside={what: found[name] for what, found in beside.items() if name in found},
        )
        for name, prediction, reference in matched
    ]
    return cases, _report(_alone(sources) if all(folders) else [], names, beside)


def _require_there(path: Path) -> None:
    whole, _ = choice.split(path)
    if not whole.exists():
        raise FileError(f"no such file or folder: {path}")


def _points(sources: Sources) -> list[tuple[str, Path, Path]]:
    """(name, prediction, reference) of each time point."""
    of_prediction, of_reference = time_points(sources.prediction), time_points(sources.reference)
    if len(of_prediction) != len(of_reference):
        raise InputError(
            f"{sources.prediction} has {len(of_prediction)} time points and {sources.reference} has "
            f"{len(of_reference)}: they must be the same"
        )
    return [(f"{n}", a, b) for n, (a, b) in enumerate(zip(of_prediction, of_reference, strict=True))]


def _alone(sources: Sources) -> list[UnmatchedRow]:
    """What lies in only one of the folders of predictions and references."""
    a, b = images_by_name(sources.prediction), images_by_name(sources.reference)
    return [
        UnmatchedRow(case=name, missing="reference" if name in a else "prediction") for name in sorted(set(a) ^ set(b))
    ]


def _report(
    alone: Sequence[UnmatchedRow], names: Sequence[str], beside: Mapping[str, Mapping[str, Path]]
) -> Table | None:
    rows = [*alone, *_missing(names, beside)]
    return table_of(rows, UnmatchedRow, name="unmatched", title="Files without a partner") if rows else None


def _missing(names: Sequence[str], beside: Mapping[str, Mapping[str, Path]]) -> Iterator[UnmatchedRow]:
    for what, found in beside.items():
        yield from (UnmatchedRow(case=name, missing=what) for name in names if name not in found)


def _labels(path: Path) -> Segmentation:
    return stored.to_segmentation(io.load(path, as_labels=True), str(path))


def _image(path: Path) -> Volume:
    return stored.to_volume(io.load(path, as_labels=False), str(path))


def _probabilities(path: Path) -> Volume:
    """An image whose channels are labels; the fourth axis of a NIfTI file, which may be time, is that here."""
    try:
        return _image(path)
    except choice.PointError:
        return _image(path.with_name(f"{path.name}#channels"))
