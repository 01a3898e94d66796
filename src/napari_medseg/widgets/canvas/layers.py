"""The only translator between napari layers and our Volume and Segmentation.

napari's world here is (I, P, L): a Grid's (S, P, L) with the first axis negated, which with napari's default camera
gives the radiological picture in all three planes. A layer gets the array transposed to the order nearest (z, y, x) and
scale, translate and units only: nothing is flipped, rotated or resampled. The true Grid stays in the layer's metadata,
and what is saved, segmented or measured lies on it.

A layer that the user turned, sheared or moved, or that has other axes, lies where napari shows it. What is made of it
gets its axes and its whole transform.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_medseg import geometry
from napari_medseg.arrays.views import lazy_view, with_transpose
from napari_medseg.errors import GridMismatchError, InputError, MedsegWarning
from napari_medseg.geometry import AxisOrder, FloatArray, Shape3
from napari_medseg.io.formats import is_flat
from napari_medseg.transforms.intensity import CT_BELOW_HU
from napari_medseg.volume import MAX_LABEL, Colour, Grid, LazyArray, Segmentation, Volume

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer

    from napari_medseg.metrics.pairwise.surface_mesh import SurfaceMesh

    LayerData = tuple[Any, dict[str, Any], str]

GRID_KEY = "napari_medseg"
"""Where a layer's metadata holds the Grid of its array in the order of its file."""
PROVENANCE_KEY = "napari_medseg_provenance"
"""Where a Labels layer's metadata holds what made it (model, SHA-256); written with it into files."""
PART_KEY = "napari_medseg_part"
"""Where a layer's metadata holds the path of its part of a file ("series.nii.gz#3"), where it is a part."""
CHANNEL_KEY = "napari_medseg_channel"
"""Where an image layer's metadata holds the name of its channel ("FLAIR"); a layer's own name may be anything."""

IGNORE_KEY = "napari_medseg_ignore_label"
"""Where a Labels layer's metadata holds the id of its voxels that nobody annotated."""
COLOURS_KEY = "napari_medseg_colours"
"""Where a Labels layer's metadata holds the colours that it had before some of its labels were hidden."""

_IPL_FROM_SPL = np.array([-1.0, 1.0, 1.0])
_RGB = ("red", "green", "blue")
_KEPT = (False, False, False)
_STRAY = 1e-6
"""The part of a step that may lead out of the volume's axes: rounding."""
_OPACITY = 0.5
"""Of a Labels layer: the image under it can be seen."""
_OF_NO_LABEL: dict[int | None, tuple[float, ...]] = {None: (0.6, 0.6, 0.6, 1.0), 0: (0.0, 0.0, 0.0, 0.0)}
"""The colours (RGBA) of ids without one, and of the background, where some ids have colours."""
_LOADED_AT_MOST = 2 * 2**30
_SOFT_TISSUE_HU = (-160.0, 240.0)


@dataclass(frozen=True)
class Placement:
    """How an array on `grid` became a layer's array: `order.apply(array)` is what the layer holds, up to `beside`."""

    grid: Grid
    order: AxisOrder
    beside: Layer | None = None
    """The layer whose axes and transform show the array; None: three axes, and the transform of `frame`."""

    @classmethod
    def of(cls, grid: Grid) -> Placement:
        """The placement that we give to a layer: axes in the order nearest (z, y, x), nothing flipped."""
        axes, _ = geometry.nearest_axes(grid.affine)
        return cls(grid, AxisOrder((axes.index(0), axes.index(1), axes.index(2)), _KEPT))

    @property
    def frame(self) -> Grid:
        """The axis-aligned Grid that napari shows: the true one, turned about its centre onto the patient's axes."""
        shown = self.grid.reordered(self.order)
        _, signs = geometry.nearest_axes(shown.affine)
        affine = np.diag([*(np.array(signs) * shown.spacing), 1.0])
        centre = (np.array(shown.shape) - 1) / 2
        affine[:3, 3] = shown.index_to_world(centre) - affine[:3, :3] @ centre
        return Grid(shown.shape, affine)

    def layer_arguments(self) -> dict[str, Any]:
        """The transform, units and metadata for the layer."""
        if self.beside is not None:
            return {**transform_of(self.beside), "metadata": {GRID_KEY: self.grid}}
        affine = self.frame.affine
        return {
            "scale": np.diag(affine)[:3] * _IPL_FROM_SPL,
            "translate": affine[:3, 3] * _IPL_FROM_SPL,
            "units": ("mm", "mm", "mm"),
            "metadata": {GRID_KEY: self.grid},
        }

    @property
    def axes(self) -> list[int]:
        """The axes of the layer, and of a viewer of it, that are those of the volume (z, y, x), or of its slice (y, x).

        Counted from the last, which is -1: a viewer lines its layers up there.
        """
        return [-3, -2, -1] if self.beside is None else [axis - self.beside.ndim for axis in _axes(self.beside)]

    def to_grid(self, own: npt.ArrayLike) -> FloatArray:
        """(..., layer.ndim) indices of the layer's own array -> (..., 3) indices on the grid."""
        own, axes = np.asarray(own, dtype=float), self.axes
        index = np.zeros((*own.shape[:-1], 3))
        index[..., 3 - len(axes) :] = own[..., axes]
        matrix = self.order.affine(np.eye(4), self.grid.shape)
        moved: FloatArray = index @ matrix[:3, :3].T + matrix[:3, 3]
        return moved

    def from_grid(self, index_zyx: npt.ArrayLike) -> FloatArray:
        """(..., 3) indices on the grid -> (..., layer.ndim) indices of the layer's own array."""
        matrix = np.linalg.inv(self.order.affine(np.eye(4), self.grid.shape))
        index: FloatArray = np.asarray(index_zyx, dtype=float) @ matrix[:3, :3].T + matrix[:3, 3]
        axes = self.axes
        own = np.zeros((*index.shape[:-1], 3 if self.beside is None else self.beside.ndim))
        own[..., axes] = index[..., 3 - len(axes) :]
        return own

    @property
    def is_direct(self) -> bool:
        """Whether the layer holds the array as it is."""
        return self.order.is_identity and (self.beside is None or self.beside.ndim == 3)

    def to_layer(self, data: LazyArray) -> Any:
        """The array (z, y, x) in the layer's order and with its axes; a view."""
        if self.is_direct:
            return data
        ordered = self.order.apply(with_transpose(data))
        if self.beside is None:
            return ordered
        axes = _axes(self.beside)
        return ordered[0] if len(axes) < 3 else ordered[_index(self.beside, axes, None)]

    def from_layer(self, data: LazyArray) -> Any:
        """The layer's array as (z, y, x) in the order of the grid; a view."""
        if self.is_direct:
            return data
        array = with_transpose(data)
        if self.beside is not None:
            axes = _axes(self.beside)
            array = array[None] if len(axes) < 3 else array[_index(self.beside, axes, 0)]
        return self.order.inverse.apply(array)


def volume_layer(volume: Volume, among: Iterable[Layer] = ()) -> list[LayerData]:
    """One image layer per channel of the volume, each lazy where the volume is. among: see `labels_layer`."""
    place = _shown_by(volume.grid, among)
    data = with_transpose(volume.data)
    single = len(volume.channels) == 1
    layers: list[LayerData] = []
    for c, channel in enumerate(volume.channels):
        arguments = place.layer_arguments()
        arguments["name"] = volume.name or channel if single else f"{volume.name} {channel}".strip()
        arguments["metadata"][CHANNEL_KEY] = channel
        layers.append((place.to_layer(data[c]), {**arguments, **_contrast(data[c])}, "image"))
    return layers


def labels_layer(segmentation: Segmentation, among: Iterable[Layer] = ()) -> LayerData:
    """The layer of a segmentation: painting writes into the segmentation's own array wherever napari can do so.

    A zarr array in the order of the screen is handed over as it is, so that painting and undo write through to the
    store. Others (read-only, or zarr and dask in another axis order) are loaded, so that painting changes no file;
    beyond 2 GiB they are shown from where they are, and cannot be painted.

    among: layers of the viewer. The first of them that lies on the same grid says where the new layer is shown: it gets
    the axes and the whole transform of that layer, which the user may have turned.
    """
    place = _shown_by(segmentation.grid, among)
    arguments = place.layer_arguments()
    if segmentation.provenance:
        arguments["metadata"][PROVENANCE_KEY] = dict(segmentation.provenance)
    names = segmentation.labels
    return (
        place.to_layer(_paintable(segmentation.data, place)),
        {
            **arguments,
            **_colours(segmentation),
            "name": segmentation.name or "labels",
            "opacity": _OPACITY,
            "features": {"index": list(names), "name": list(names.values())},
        },
        "labels",
    )


def to_volume(layers: Image | Sequence[Image], among: Iterable[Layer] = ()) -> Volume:
    """The layer, or the layers as channels in that order, as a Volume on its true Grid; wrapped, never copied.

    among: the viewer's layers, for a layer without a Grid of ours that lies exactly on one that has it.
    A layer of colours is red, green and blue. Raises InputError for time series, and for colours beside other channels;
    GridMismatchError for channels on different grids.
    """
    channels = list(layers) if isinstance(layers, Sequence) else [layers]
    if not channels:
        raise InputError("choose an image layer first")
    if any(layer.rgb for layer in channels):
        return _colour_channels(channels, list(among))
    among = list(among)
    places = [placement(layer, among) for layer in channels]
    grid = places[0].grid
    arrays = []
    for layer, place in zip(channels, places, strict=True):
        order = place.grid.order_onto(grid)
        if order is None:
            raise GridMismatchError(
                f"channels must lie on the same grid; layer {channels[0].name!r} has {grid.describe()}, layer "
                f"{layer.name!r} has {place.grid.describe()}: resample one onto the other first"
            )
        array = place.from_layer(_finest(layer))
        arrays.append(array if order.is_identity else order.apply(with_transpose(array)))
    names = tuple(layer.metadata.get(CHANNEL_KEY, f"channel {c}") for c, layer in enumerate(channels))
    return Volume(_stacked(arrays), grid, names, name=channels[0].name)


def _colour_channels(layers: Sequence[Image], among: Iterable[Layer]) -> Volume:
    """A layer of colours as three channels; the opacity is left out."""
    layer = layers[0]
    if len(layers) > 1:
        raise InputError(f"layer {layer.name!r} and others are channels, and one of them holds colours: use Split RGB")
    if layer.ndim != 2 or getattr(layer, "multiscale", False):
        raise InputError(f"layer {layer.name!r} holds colours and is no single 2D image: use Split RGB first")
    grid = placement(layer, among).grid
    return Volume(np.moveaxis(np.asarray(layer.data)[..., :3], -1, 0)[:, None], grid, _RGB, name=layer.name)


def to_segmentation(layer: Labels, among: Iterable[Layer] = ()) -> Segmentation:
    """The layer as a Segmentation on its true Grid, with names and colours; wrapped, never copied.

    among: see `to_volume`.
    """
    place = placement(layer, among)
    return Segmentation(
        place.from_layer(_finest(layer)),
        place.grid,
        label_names(layer),
        name=layer.name,
        colours=label_colours(layer),
        provenance=layer.metadata.get(PROVENANCE_KEY, {}),
    )


def ignored_in(layer: Labels) -> int | None:
    """The id of voxels that nobody annotated, in a layer that says so."""
    ignored: int | None = layer.metadata.get(IGNORE_KEY)
    return ignored


def world_point(layer: Layer, index_zyx: npt.ArrayLike, among: Iterable[Layer] = ()) -> tuple[float, ...]:
    """Where the viewer shows a voxel of the layer's true Grid: napari's world coordinates. among: see `placement`."""
    return tuple(float(v) for v in layer.data_to_world(placement(layer, among).from_grid(index_zyx)))


def voxel_at(layer: Layer, world: npt.ArrayLike, among: Iterable[Layer] = ()) -> Shape3 | None:
    """The voxel of the layer's true Grid at a place of napari's world; None beside the image. among: see `placement`.

    world: a coordinate for each axis of the viewer; of several points of time or channels the last axes count.
    """
    place = placement(layer, among)
    own = layer.world_to_data(np.asarray(world, dtype=float)[-layer.ndim :])
    z, y, x = (round(float(v)) for v in place.to_grid(own))
    inside = all(0 <= i < n for i, n in zip((z, y, x), place.grid.shape, strict=True))
    return (z, y, x) if inside else None


def surface_layer(mesh: SurfaceMesh, beside: Labels, among: Iterable[Layer] = ()) -> LayerData:
    """The layer of a mesh on the true Grid of `beside`, drawn where that layer is. InputError where it is 2D.

    Its vertices are in napari's world: napari lights surfaces that their own transform mirrors from behind.
    """
    check_volume(beside)
    origin, *axes = (np.array(world_point(beside, corner, among)) for corner in np.vstack([np.zeros(3), np.eye(3)]))
    vertices = mesh.vertices_zyx @ (np.array(axes) - origin) + origin
    return (vertices, mesh.faces, mesh.distance_mm), {"units": beside.units}, "surface"


def transform_of(layer: Layer) -> dict[str, Any]:
    """The arguments that give another layer the transform and units of this one."""
    return {name: getattr(layer, name) for name in ("scale", "translate", "rotate", "shear", "affine", "units")}


def bare(layer: Any) -> Any:
    """The layer itself: napari hands plugins a guard of it, whose attributes are guards, too."""
    return getattr(layer, "__wrapped__", layer)


def path_of(layer: Layer) -> str | None:
    """What `io.read` takes for the layer as it was opened; None where it was not opened from a file."""
    path = layer.source.path
    return str(layer.metadata.get(PART_KEY, path)) if path else None


def label_names(layer: Labels) -> dict[int, str]:
    """{id: name} from the layer's features table (columns index and name); empty where it has none."""
    table = layer.features
    if not {"index", "name"} <= set(table.columns):
        return {}
    named = table[["index", "name"]].dropna()  # the user's rows may have no name
    return {int(i): str(name) for i, name in zip(named["index"], named["name"], strict=True) if name}


def set_label_names(layer: Labels, names: Mapping[int, str]) -> None:
    """Make these the names of the layer's labels, with which files are saved; one that is left out, or "", has none.

    The user's own columns of the table of features stay, and so do their rows.
    """
    names = {label: name for label, name in names.items() if name}
    if names == label_names(layer):
        return
    table = layer.features.copy()
    if "index" not in table:  # napari counts the rows instead
        table.insert(0, "index", range(len(table)))
    table = table.assign(name="").set_index("index")
    for label, name in names.items():
        table.loc[label, "name"] = name
    if list(table.columns) == ["name"]:
        table = table[table["name"] != ""]
    ordered = table.sort_index() if all(isinstance(label, Real) for label in table.index) else table
    layer.features = ordered.reset_index()


def label_colours(layer: Labels) -> dict[int, Colour]:
    """{id: (red, green, blue)} of a layer with colours of its own; empty where napari chose them."""
    table = getattr(layer.metadata.get(COLOURS_KEY, layer.colormap), "color_dict", {})
    return {
        int(label): _rgb(colour)
        for label, colour in table.items()
        if label is not None and 0 < label <= MAX_LABEL and colour[3] > 0
    }


def largest_label(layer: Labels) -> int:
    """The largest id that the layer's array can hold."""
    dtype = np.dtype(layer.dtype)
    return 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)


def check_volume(layer: Labels) -> None:
    """Raise InputError unless the layer is a volume, which can have a surface in 3D."""
    if layer.ndim != 3:
        raise InputError(f"layer {layer.name!r} must be a volume for a surface in 3D; it has {layer.ndim} dimensions")


def placement(layer: Layer, among: Iterable[Layer] = ()) -> Placement:
    """Where the layer's voxels lie.

    The Grid in its metadata is believed only while shape and transform agree with it (projecting and duplicating copy
    metadata). Then comes the Grid of a layer of `among` that has the same shape and transform up to flips (New Labels
    drops negative scales). Last come the layer's own scale, translate, rotate, shear and affine, with a warning where
    its units are missing. Raises InputError for what is no volume: see `_axes` and `_frame`.
    """
    for candidate in (layer, *among):
        grid = candidate.metadata.get(GRID_KEY)
        if isinstance(grid, Grid):
            place = _match(layer, Placement.of(grid))
            if place is not None and (candidate is layer or _match(candidate, Placement.of(grid)) is not None):
                return place
    factors = _units_mm(layer)
    frame = _frame(layer, factors)
    if factors is None:
        is_file = layer.source.reader_plugin != "napari-medseg" and is_flat(Path(layer.source.path or ""))
        menu = "; File > IO Utilities > Open 2D images with their size reads it from the file" if is_file else ""
        warnings.warn(
            f"layer {layer.name!r} has no units: its scale is taken as mm. If it is not, say so in napari's console: "
            f"viewer.layers[{layer.name!r}].units = 'um'{menu}",
            MedsegWarning,
            stacklevel=2,
        )
    return Placement(frame, geometry.AS_IT_IS, layer)


def _shown_by(grid: Grid, among: Iterable[Layer]) -> Placement:
    """How a new layer on the grid is shown: as the first layer of `among` that lies on it, else as its frame."""
    ours, among = Placement.of(grid), list(among)
    for layer in among:
        if _match(layer, ours) is not None and layer.ndim == 3 and isinstance(layer.metadata.get(GRID_KEY), Grid):
            return ours
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MedsegWarning)  # who takes the layer itself is warned
            try:
                place = placement(layer, among)
            except InputError:  # no volume, such as points or a time series
                continue
        if place.grid.same_as(grid):
            return replace(place, grid=grid)
    return ours


def _match(layer: Layer, place: Placement) -> Placement | None:
    """The placement of `layer` if it lies where `place` shows its grid, up to flips."""
    try:
        shown, frame = place.frame, _frame(layer, _units_mm(layer))
    except InputError:
        return None
    flips = shown.order_onto(frame)
    if flips is None or flips.axes != (0, 1, 2):
        return None
    return Placement(place.grid, AxisOrder(place.order.axes, flips.flips), layer)


def _frame(layer: Layer, factors_mm: FloatArray | None) -> Grid:
    """The layer's shape and its whole transform as napari has it, as a Grid; a 2D layer becomes one slice of 1 mm.

    Raises InputError where the transform leads out of the axes of the volume, or is singular.
    """
    axes, ndim = _axes(layer), layer.ndim
    corner = np.array(layer.data_to_world(np.zeros(ndim)))
    columns = np.transpose([np.array(layer.data_to_world(row)) - corner for row in np.eye(ndim)[axes]])
    others = [axis for axis in range(ndim) if axis not in axes]
    if np.any(np.abs(columns[others]) > _STRAY * np.abs(columns).max(initial=0)):
        raise InputError(
            f"layer {layer.name!r} is turned out of its volume, into axis {others[0]} of length 1: split it off, or "
            f"reset the layer's transform"
        )
    affine = np.eye(4)
    first = 3 - len(axes)
    affine[first:3, 3] = corner[axes]
    affine[first:3, first:3] = columns[axes]
    if factors_mm is not None:
        affine[first:3] *= factors_mm[:, None]
    affine[0] *= -1  # (I, P, L) -> (S, P, L)
    affine[0] += 0.0  # no negative zeros
    shape = (1,) * first + tuple(_finest(layer).shape[axis] for axis in axes)
    try:
        return Grid((shape[0], shape[1], shape[2]), affine)
    except InputError as error:
        raise InputError(f"layer {layer.name!r} has a scale or transform that is of no use: {error}") from error


def _units_mm(layer: Layer) -> FloatArray | None:
    """mm per unit of each axis of the volume; None where they have no units (napari calls those pixels)."""
    units = [layer.units[axis] for axis in _axes(layer)]
    if all(str(unit) == "pixel" for unit in units):
        return None
    if not all(unit.is_compatible_with("mm") for unit in units):
        names = ", ".join(str(unit) for unit in units)
        raise InputError(
            f"layer {layer.name!r} needs lengths on its axes; its units are {names}: set them in "
            f"napari's console: viewer.layers[{layer.name!r}].units = 'mm'"
        )
    return np.array([float((1 * unit).to("mm").magnitude) for unit in units])


def _axes(layer: Layer) -> list[int]:
    """The axes of the layer that are those of its volume (z, y, x), or of its slice (y, x), in order.

    Further axes must have length 1: those that are no lengths (time) are left out first, then the leading ones.
    Raises InputError for others.
    """
    shape = getattr(_finest(layer), "shape", ())  # points and other layers have no such array
    ndim = layer.ndim
    single = [axis for axis in range(ndim) if len(shape) == ndim and shape[axis] == 1]
    single.sort(key=lambda axis: layer.units[axis].is_compatible_with("mm"))
    left_out = single[: max(0, ndim - 3)]
    if len(shape) != ndim or not 2 <= ndim - len(left_out) <= 3:
        raise InputError(
            f"layer {layer.name!r} must be a volume (z, y, x); it has {ndim} dimensions: right-click it in the "
            f"list of layers, and choose Split Stack if it is an image"
        )
    return [axis for axis in range(ndim) if axis not in left_out]


def _index(layer: Layer, axes: Sequence[int], other: int | None) -> tuple[slice | int | None, ...]:
    """An index with a whole slice for the axes of the volume, and `other` for those of length 1."""
    return tuple(slice(None) if axis in axes else other for axis in range(layer.ndim))


def _finest(layer: Layer) -> Any:
    """The layer's array, of several levels the finest, of colours the first."""
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    return data[..., 0] if getattr(layer, "rgb", False) else data


def _stacked(arrays: list[Any]) -> Any:
    """(C, Z, Y, X) without a copy: a view of one array, a lazy stack of several."""
    if len(arrays) == 1:
        return with_transpose(arrays[0])[None]
    import dask.array as da

    return da.stack([lazy_view(array) for array in arrays])


def _paintable(data: LazyArray, place: Placement) -> Any:
    if isinstance(data, np.ndarray):
        return data if data.flags.writeable else data.copy()
    is_open = getattr(data, "read_only", True) is False  # a zarr array opened for writing
    size = math.prod(data.shape) * np.dtype(data.dtype).itemsize
    return data if (is_open and place.is_direct) or size > _LOADED_AT_MOST else np.asarray(data)


def _colours(segmentation: Segmentation) -> dict[str, Any]:
    """The colormap of a segmentation that has colours."""
    if not segmentation.colours:
        return {}
    from napari.utils.colormaps import DirectLabelColormap

    table = dict(_OF_NO_LABEL)
    for label, rgb in segmentation.colours.items():
        if label:
            table[label] = (*(value / 255 for value in rgb), 1.0)
    return {"colormap": DirectLabelColormap(color_dict=table)}


def _rgb(colour: npt.ArrayLike) -> Colour:
    red, green, blue = (round(255 * float(value)) for value in np.asarray(colour)[:3])
    return red, green, blue


def _contrast(data: Any) -> dict[str, Any]:
    """Contrast limits from a sparse sample of an array in memory; napari looks at lazy ones itself.

    CT (values far below zero) opens in the usual window of soft tissue, other images from dark to nearly brightest.
    """
    if not isinstance(data, np.ndarray):
        return {}
    step = max(1, round((data.size / 200_000) ** (1 / 3)))
    sample = data[::step, ::step, ::step].astype(float)
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        return {}
    low, high = np.percentile(finite, [0.5, 99.8])
    if low < CT_BELOW_HU:
        low, high = _SOFT_TISSUE_HU
    return {"contrast_limits": (low, high)} if high > low else {}
