"""What a run of a model on an image takes, worked out before a voxel is read or a weight is loaded. Pure.

`resolve` is the one place that turns image, model, wishes and machine into grids, windows, device and number format.
The engine, its estimate, the planes that it reads and training all ask here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from napari_medseg import registry
from napari_medseg.errors import InputError
from napari_medseg.geometry import AxisMap, AxisOrder, Shape3, triple_of
from napari_medseg.inference.windows import Placing, WindowGrid, Windows
from napari_medseg.models.presets import SETTINGS, Mirroring, preset_for
from napari_medseg.transforms.resampling import model_grid
from napari_medseg.transforms.splines import nnunet_maps
from napari_medseg.volume import Grid

if TYPE_CHECKING:
    from napari_medseg.architectures.layout import Layout
    from napari_medseg.config import Backend, Precision, SegmentConfig
    from napari_medseg.inference.device import Machine
    from napari_medseg.models.spec import ModelSpec

Maps = tuple[AxisMap, AxisMap, AxisMap]
"""Per axis the linear map from the samples of one grid to those of another over the same box."""

Blending = Literal["gaussian", "core"]

_SAME_SPACING = 0.01
"""Relative difference up to which two spacings are the same: resampling would change nothing that matters."""
_FLOAT32_BYTES = 4


class OnGrid(Protocol):
    """What has a grid and named channels: a Volume, or what training knows of a case."""

    @property
    def grid(self) -> Grid: ...
    @property
    def channels(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """What a plan needs to know of an image; its voxels are not among it."""

    grid: Grid
    channels: tuple[str, ...]

    @classmethod
    def of(cls, image: OnGrid) -> ImageFacts:
        """The facts of a Volume, or of anything else that has a grid and channels."""
        return cls(image.grid, image.channels)


@dataclass(frozen=True, eq=False)
class InferencePlan:
    """How a model runs on an image. `resolve` makes it; it can be pickled, so that workers can get it."""

    spec: ModelSpec
    order: AxisOrder
    """From the stored axes of the image to the axes of the model."""
    image_grid: Grid
    """The image's grid in the model's axis order."""
    grid: Grid
    """The grid on which the network runs: over the same box, at the model's spacing."""
    inputs: int
    """Channels that the network sees: those of the image, then those of the first stage."""
    overlap: float
    """Fraction of a window that it shares with its neighbour."""
    batch_size: int
    """Windows that run through the network at once."""
    device: str
    """In torch's words: "cpu", "cuda", "cuda:1" or "mps"."""
    precision: Precision
    """fp32 or bf16."""
    backend: Backend = "torch"
    """What runs the network."""
    layout: Layout = "contiguous"
    """Of the network's weights, see `finding_layout`."""
    blending: Blending = "gaussian"
    """gaussian: overlapping windows are averaged; core: each voxel is that of the window it lies deepest in."""
    first: InferencePlan | None = None
    """The plan of the first stage, in a cascade."""
    preset: str = "exact"
    """exact, balanced or fast."""
    mirror_axes: tuple[int, ...] = ()
    """Axes (0 z, 1 y, 2 x) along which windows are mirrored."""
    mirroring: Mirroring = "all"
    """How windows are mirrored."""
    mirrors_told: bool = False
    """Whether the variance of the probabilities over a window's mirror images is measured too."""

    def telling_mirrors(self) -> InferencePlan:
        """The plan, with that variance measured where every window is averaged over its mirror images."""
        return replace(self, mirrors_told=self.mirroring == "all" and bool(self.averaged_axes))

    @property
    def windows(self) -> WindowGrid:
        """The windows over the whole grid. A first stage that gives boxes leaves some of them out, or moves them."""
        return self.windows_on(self.grid.shape)

    def windows_on(self, shape: Shape3) -> WindowGrid:
        """The windows over an image of another shape, such as a crop of the grid."""
        placing: Placing = "monai" if self.preset == "exact" else "even"
        if self.spec.recipe.resampling == "nnunet" or self.spec.sliding.positions == "even":
            placing = "nnunet"
        return WindowGrid(shape, window_of(self.spec), self.overlap, placing)

    @property
    def at_once(self) -> int:
        """Windows that the network sees at once.

        On a CPU it is one: several are no faster, and their logits differ in the last bit.
        """
        return 1 if self.device == "cpu" else self.batch_size

    @property
    def spread_axes(self) -> tuple[int, ...]:
        """The axes along which neighbouring windows are mirrored in turn: those with several windows."""
        if self.mirroring != "spread":
            return ()
        return tuple(axis for axis in self.mirror_axes if len(self.windows.starts_zyx[axis]) > 1)

    @property
    def averaged_axes(self) -> tuple[int, ...]:
        """The axes along which a window is averaged over its mirror images."""
        return tuple(axis for axis in self.mirror_axes if axis not in self.spread_axes)

    @property
    def halo(self) -> int:
        """Slices beyond either end of a window that the network sees too."""
        return self.spec.patch_zyx[0] // 2 if self.spec.mode == "2.5d" else 0

    @property
    def to_model(self) -> Maps:
        """From the image's samples, in the model's axis order, to those of the model's grid."""
        return self._maps(self.image_grid, self.grid, "image")

    @property
    def to_image(self) -> Maps:
        """From the samples of the model's grid to the image's, in the model's axis order."""
        return self._maps(self.grid, self.image_grid, "logits")

    def _maps(self, old: Grid, new: Grid, what: Literal["image", "logits"]) -> Maps:
        if self.spec.recipe.resampling == "linear":
            return axis_maps(old.shape, new.shape)
        # The spacing that the plans state, which the grid rounds to whole samples, decides what is coarse.
        stated = self.spec.spacing_zyx_mm or self.grid.spacing
        spacings = (self.image_grid.spacing, stated) if what == "image" else (stated, self.image_grid.spacing)
        return nnunet_maps(old.shape, new.shape, spacings, what)

    @property
    def slab_bytes(self) -> int:
        """The memory of the input that a row of windows sees, while the next is put together: twice a slab.

        A model with steps has the whole image prepared.
        """
        if self.spec.has_pipeline:
            voxels = max(math.prod(self.grid.shape), math.prod(self.image_grid.shape))
            return 2 * self.inputs * voxels * _FLOAT32_BYTES
        z, (_, height, width) = self.windows.window[0] + 2 * self.halo, self.windows.padded
        return 2 * self.inputs * z * height * width * _FLOAT32_BYTES

    @property
    def accumulator_bytes(self) -> int:
        """The memory in which the logits of overlapping windows are summed: it does not grow with the planes."""
        windows = self.windows
        if self.blending == "core":
            return 2 * self.spec.outputs * math.prod(windows.window) * _FLOAT32_BYTES
        _, height, width = windows.padded
        return ring_depth(windows, self.to_image) * self.spec.outputs * height * width * _FLOAT32_BYTES

    def describe(self) -> str:
        """The plan in one line: device, number format, windows and memory."""
        windows = self.windows
        at_most = "" if self.first is None else "at most "
        chosen = "" if self.preset == "exact" else f", {self.preset}"
        by = "" if self.backend == "torch" else f" by {self.backend}"
        sizes = f"{_by(windows.window)} on {_by(windows.shape)} voxels"
        return (
            f"{self.device} {self.precision}{by}{chosen}: {at_most}{len(windows)} windows of {sizes}"
            f"{self._mirrored}; about {self.accumulator_bytes / 2**20:.0f} MiB beside the network"
        )

    @property
    def _mirrored(self) -> str:
        if not self.mirror_axes:
            return ""
        if not self.averaged_axes:
            return ", mirrored in turn"
        return f", {'' if self.mirroring == 'all' else 'up to '}{2 ** len(self.averaged_axes)} times mirrored"


def resolve(facts: ImageFacts, spec: ModelSpec, config: SegmentConfig, machine: Machine) -> InferencePlan:
    """The plan of a run. config.device is not looked at: `machine` is what was found for it.

    Raises InputError where the backend does not run on the device.
    """
    if config.backend == "openvino" and machine.device != "cpu":
        raise InputError(
            f"backend openvino runs on the CPU, and the device is {machine.device}: choose device cpu, or backend torch"
        )
    precision = precision_for(config.precision, spec, machine)
    return _resolve(facts, spec, config, machine.device, precision)


def _resolve(
    facts: ImageFacts, spec: ModelSpec, config: SegmentConfig, device: str, precision: Precision
) -> InferencePlan:
    order = axis_order(facts.grid, spec)
    preset, overlap = preset_of(config, spec)
    setting = SETTINGS[preset]
    mirrored = config.tta or (spec.recipe.mirrored and setting.mirrors_by_default)
    image_grid = facts.grid.reordered(order)
    first, guides = None, 0
    if spec.first is not None:
        # Training validates the second stage with a first one in fp32: bf16 only where the first is as good in it.
        ready = spec.first.model.bf16_ok and registry.network(spec.first.model.network).fast_in_bf16(device)
        stage_precision = precision if ready else "fp32"
        first = _resolve(facts, spec.first.model, config, device, stage_precision)
        guides = spec.first.channels
    return InferencePlan(
        spec=spec,
        order=order,
        image_grid=image_grid,
        grid=_model_grid(image_grid, spec),
        inputs=len(facts.channels) + len(config.missing) + guides,
        overlap=overlap,
        batch_size=config.batch_size,
        device=device,
        precision=precision,
        backend=config.backend,
        blending="gaussian" if spec.has_pipeline else setting.blending,
        first=first,
        preset=preset,
        mirror_axes=spec.recipe.mirror_axes if mirrored else (),
        mirroring="all" if spec.has_pipeline else setting.mirroring,
    )


def preset_of(config: SegmentConfig, spec: ModelSpec) -> tuple[str, float]:
    """The preset of a run, and the overlap of its windows. An overlap that is given alone is blended as exact does.

    With exact, the overlap is that of the model's makers where it states one.
    """
    if config.overlap is None:
        preset, stated = preset_for(config.preset, spec), spec.sliding.overlap
        return preset, SETTINGS[preset].overlap if preset != "exact" or stated is None else stated
    return "exact" if config.preset == "auto" else config.preset, config.overlap


def precision_for(asked: Precision, spec: ModelSpec, machine: Machine) -> Precision:
    """fp32 or bf16: "auto" is bf16 where the model says that it is as good, and machine and network are fast in it."""
    if asked == "auto":
        fast = machine.fast_bf16 and registry.network(spec.network).fast_in_bf16(machine.device)
        return "bf16" if spec.bf16_ok and fast else "fp32"
    return asked


def axis_order(grid: Grid, spec: ModelSpec) -> AxisOrder:
    """The reordering from the image's axes to the model's; the identity where the model states no orientation."""
    return AxisOrder.between(grid.orientation, spec.orientation or grid.orientation)


def _model_grid(image_grid: Grid, spec: ModelSpec) -> Grid:
    """The grid at the model's spacing; the image's own where the model states none, or the same one."""
    if spec.steps:
        return model_grid(image_grid, spec)
    if spec.spacing_zyx_mm is None:
        return image_grid
    pairs = zip(image_grid.spacing, spec.spacing_zyx_mm, strict=True)
    close = spec.recipe.resampling == "linear" and all(abs(a - b) <= _SAME_SPACING * b for a, b in pairs)
    return image_grid if close else image_grid.with_spacing(spec.spacing_zyx_mm)


def axis_maps(old: Shape3, new: Shape3) -> Maps:
    """The maps from the samples of a grid of shape `old` to those of one of shape `new` over the same box."""
    return triple_of(AxisMap.between(a, b) for a, b in zip(old, new, strict=True))


def window_of(spec: ModelSpec) -> Shape3:
    """The voxels that a window's logits are for: its patch, or one slice where the patch holds its neighbours too."""
    return (1, *spec.patch_zyx[1:]) if spec.mode == "2.5d" else spec.patch_zyx


def ring_depth(windows: Windows, maps: Maps) -> int:
    """Planes that the accumulator holds: a window, and those that an output plane is still interpolated from."""
    return windows.window[0] + maps[0].taps - 1


def _by(shape: Shape3) -> str:
    return "x".join(map(str, shape))
