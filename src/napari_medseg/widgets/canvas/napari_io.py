"""napari's readers, writers and samples: our files as layers and back."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from napari.layers import Layer
from qtpy.QtCore import QTimer

from napari_medseg import io
from napari_medseg.errors import FileError, InputError, MedsegError, MedsegWarning
from napari_medseg.io.choice import ChoiceError, PointError
from napari_medseg.io.label_files import is_named_like_labels, labels_in
from napari_medseg.io.outputs import SAVED_BY
from napari_medseg.sample import phantom
from napari_medseg.volume import Segmentation, Volume
from napari_medseg.widgets.canvas.flat import flat_layers
from napari_medseg.widgets.canvas.layers import (
    GRID_KEY,
    PART_KEY,
    labels_layer,
    to_segmentation,
    to_volume,
    volume_layer,
)
from napari_medseg.widgets.canvas.orientation import show_orientation

if TYPE_CHECKING:
    from napari_medseg.widgets.canvas.layers import LayerData

    Loader = Callable[[str], Volume | Segmentation]

SOURCE_KEY = "napari_medseg_source"
"""Where an image layer's metadata holds the path of the DICOM series that it was read from."""
_MOST_CHOICES = 32
"""Series, stacks or sets of segments that open as layers."""
_MOST_POINTS = 8
"""Time points, or contrasts on a fourth axis, that open as layers; a file with more is refused."""
_LETTERS_MS = 200
"""The letters come this long after the layers: napari's first drawing of both at once would hold up the window."""


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """The reader of one file or folder; None for a stack of several, which medical formats are not, and for a folder
    without an image of ours, which may be of another plugin."""
    if not isinstance(path, str) or (Path(path).is_dir() and not _holds_an_image(Path(path))):
        return None
    return read_layers


def read_layers(path: str) -> list[LayerData]:
    """Labels where the file says that it holds labels, or looks as if it did; else one image layer per channel.

    NIfTI and similar formats rarely say so: see `labels_in`; "Use as labels" takes the others for labels. All DICOM
    series of a folder or below it, all overlapping segments, and a few time points open, each as its own layer.
    Raises FileError for more than a list of layers is fit for.
    """
    _letter_the_canvas()
    return _layers_of_part(path, io.loader(path))


def _holds_an_image(folder: Path) -> bool:
    try:
        io.format_of(folder)
    except FileError:
        return False
    return True


def _layers_of_parts(path: str, several: ChoiceError | PointError, load: Loader) -> list[LayerData]:
    """All parts, each as its own layers. A series that is no volume, such as a scout, is passed over with a warning."""
    is_time = isinstance(several, PointError)
    parts = several.points if isinstance(several, PointError) else several.choices
    if len(parts) > (_MOST_POINTS if is_time else _MOST_CHOICES):  # and napari opens no path such as a.nii.gz#3
        raise FileError(
            f"{path}: {len(parts)} volumes in one {'folder' if Path(path).is_dir() else 'file'}, too many for layers: "
            f"write one to its own file and open that: napari-medseg convert '{parts[0]}' -o one.nii.gz"
        ) from several
    layers: list[LayerData] = []
    faults = []
    for part, words in zip(
        parts, several.words if isinstance(several, ChoiceError) else ("",) * len(parts), strict=True
    ):
        try:
            layers += _named(_layers_of_part(part, load), part, words)
        except MedsegError as error:
            if is_time:
                raise
            faults.append(error)
    if not layers:
        raise faults[0]
    for fault in faults:
        warnings.warn(str(fault), MedsegWarning, stacklevel=2)
    return layers


def _layers_of_part(path: str, load: Loader) -> list[LayerData]:
    """The layers of a path, which may hold parts: the series of a folder, and the echoes of a series."""
    try:
        noun = load(path)
    except (ChoiceError, PointError) as several:
        return _layers_of_parts(path, several, load)
    format_ = io.format_of(Path(path))
    is_dicom = format_.name == "DICOM"
    if isinstance(noun, Volume) and not is_dicom:  # which tells labels from images
        noun = labels_in(noun)
    if format_.is_flat:
        return flat_layers(_coloured_labels(path, noun))
    if isinstance(noun, Segmentation):
        return [labels_layer(noun)]
    layers = volume_layer(noun)
    for _, attributes, _ in layers if is_dicom else ():
        attributes["metadata"][SOURCE_KEY] = path
    return layers


def _coloured_labels(path: str, noun: Volume | Segmentation) -> Volume | Segmentation:
    """A 2D image that is named like labels and drawn in colours, as the ids of its palette or table; else as it is."""
    if isinstance(noun, Segmentation) or not is_named_like_labels(noun.name) or len(noun.channels) == 1:
        return noun
    try:
        return io.load(path, as_labels=True)
    except MedsegError:  # colours of a picture
        return noun


def _named(layers: list[LayerData], part: str, words: str) -> list[LayerData]:
    """The layers of a part, with what it is in words in their names."""
    for _, attributes, _ in layers:
        attributes["metadata"].setdefault(PART_KEY, part)
        if words:
            attributes["name"] = f"{attributes['name']} {words}"
    return layers


@contextmanager
def refusals_as_file_errors() -> Iterator[None]:
    """Refusals as FileError: napari takes a ValueError for a path that no plugin writes, and drops what it says."""
    try:
        yield
    except InputError as error:
        raise FileError(str(error)) from error


@refusals_as_file_errors()
def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save an image layer on its true grid."""
    layer = Layer.create(data, attributes, "image")
    io.write(path, to_volume(layer, open_layers()))
    return [path]


@refusals_as_file_errors()
def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Labels layer on its true grid, with its names and what made it; as .dcm beside its open DICOM series."""
    layer = Layer.create(data, attributes, "labels")
    labels = to_segmentation(layer, open_layers())
    source = _series_of(labels, path) if path.lower().endswith(".dcm") else None
    provenance = {**labels.provenance, SAVED_BY: "napari"} if labels.provenance else {}
    io.write(path, labels, provenance=provenance, source=source)
    return [path]


def _series_of(labels: Segmentation, path: str) -> str:
    """Where the open DICOM series was read from that the labels lie on. Raises InputError where none is open."""
    for layer in open_layers():
        grid = layer.metadata.get(GRID_KEY)
        if SOURCE_KEY in layer.metadata and grid is not None and labels.grid.order_onto(grid) is not None:
            return str(layer.metadata[SOURCE_KEY])
    raise InputError(
        f"{path}: a DICOM segmentation refers to the series that it was drawn on: open that series beside it, or save "
        f"as .nii.gz"
    )


def sample_ct() -> list[LayerData]:
    """The CT phantom that the sample model is made for, and its exact labels: those of the sample's files.

    They are made and not read: the first import of a reader would hold up the window, in whose thread napari asks.
    """
    return _sample(*phantom("ct"), "CT phantom")


def sample_mr() -> list[LayerData]:
    """An MR phantom of other anatomy, with coil shading, and its exact labels, hidden."""
    return _sample(*phantom("mr", seed=1), "MR phantom")


def _sample(image: Volume, truth: Segmentation, name: str) -> list[LayerData]:
    _letter_the_canvas()
    data, attributes, kind = labels_layer(replace(truth, name=f"{name} truth"))
    return [*volume_layer(replace(image, name=name)), (data, {**attributes, "visible": False}, kind)]


def _letter_the_canvas() -> None:
    viewer = napari.current_viewer()
    if viewer:
        # A timer that held the viewer would be the last one to hold it, and end it at a bad moment for Qt.
        QTimer.singleShot(_LETTERS_MS, partial(_letter, weakref.ref(viewer)))


def _letter(here: weakref.ref[napari.Viewer]) -> None:
    viewer = napari.current_viewer()
    if viewer is not None and viewer is here():  # not closed meanwhile
        show_orientation(viewer)


def open_layers() -> list[Any]:
    """The viewer's layers: labels drawn over an image are saved on its grid."""
    viewer = napari.current_viewer()
    return list(viewer.layers) if viewer else []
