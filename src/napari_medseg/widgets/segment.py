"""The Segment panel: an image layer and a model become a Labels layer that fills while the user watches."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.widgets import CheckBox
from napari.layers import Image, Labels
from napari.utils.notifications import show_info
from qtpy.QtWidgets import QApplication, QTabWidget, QVBoxLayout, QWidget
from superqt.utils import qthrottled

import napari_medseg as ms
from napari_medseg.arrays.boxes import Box, union
from napari_medseg.config import SegmentConfig
from napari_medseg.errors import MedsegError, MedsegWarning
from napari_medseg.events import Event, Filled, Finished, Regions, Started, finishing
from napari_medseg.io.formats import is_flat
from napari_medseg.models.file import Model
from napari_medseg.models.several import Ensemble, ModelSet, models_of
from napari_medseg.volume import Segmentation, Volume
from napari_medseg.widgets.canvas.filling import begin_filling, end_filling, show_filled
from napari_medseg.widgets.canvas.layers import labels_layer, path_of, to_volume
from napari_medseg.widgets.fields.channel_rows import ChannelRows
from napari_medseg.widgets.fields.config_form import ConfigForm, Words
from napari_medseg.widgets.fields.docked_panel import Panel
from napari_medseg.widgets.fields.folder_field import FolderField
from napari_medseg.widgets.fields.forms import button, caption, form, reporting, row, tell
from napari_medseg.widgets.fields.layer_box import WAITS_FOR_IMAGE, LayerBox
from napari_medseg.widgets.fields.model_box import ModelBox
from napari_medseg.widgets.fields.remembered import remember
from napari_medseg.widgets.work.background import Background
from napari_medseg.widgets.work.estimate import Estimate, devices_seen
from napari_medseg.widgets.work.progress_row import ProgressRow
from napari_medseg.widgets.work.runner import Runner

if TYPE_CHECKING:
    from napari import Viewer

    from napari_medseg.inference.plan import InferencePlan

_WORDS = {
    "device": Words("Device", {"auto": "automatic", "cpu": "CPU", "cuda": "GPU (CUDA)", "mps": "GPU (Apple)"}),
    "preset": Words(
        "Preset",
        {"auto": "automatic", "exact": "exact", "balanced": "balanced, faster", "fast": "fast, coarser"},
    ),
    "overlap": Words("Overlap"),
    "tta": Words("Mirror images"),
    "precision": Words("Precision", {"auto": "automatic", "fp32": "fp32, exact", "bf16": "bf16, faster"}),
    "backend": Words("Run by", {"torch": "torch", "openvino": "OpenVINO, on a CPU"}),
    "batch_size": Words("Windows at once"),
    "instances": Words(
        "Objects",
        {
            "auto": "as the model was trained",
            "none": "labels only",
            "components": "connected parts",
            "distance": "parts, cut where narrow",
        },
    ),
}
_DEFAULTS = SegmentConfig()
_SHOWN = ("preset", "device")
_HIDDEN = ("missing",)
"""A channel is missing whose row is left empty."""
_REMEMBERED = ("preset", "device", "precision", "backend")
_SCRIPTED = ("preset", "device", "overlap", "tta", "precision", "backend", "batch_size", "missing")
"""What a script says where it is not the default."""
_REFRESH_MS = 500
"""The layer that fills is drawn at this interval at most: a 3D view uploads all of it each time."""


@dataclass
class Run:
    """What runs: what it was asked, and the layer that it fills."""

    model: Model | ModelSet
    images: tuple[Image, ...]
    """The layer of the result is shown where these are."""
    began: float = 0.0
    """By the clock of the process, when the first window began."""
    plan: InferencePlan | None = None
    layer: Labels | None = None
    filled: dict[Labels, str] = field(default_factory=dict)
    """{layer: its name once it is complete}; until then, and where the run ends early, the name says "(partial)"."""
    is_complete: bool = False
    changed: Box | None = None
    """The box of the layer that was filled and not drawn yet."""


class SegmentPanel(Panel):
    """Runs a model over an image layer, or over several as its channels."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._run: Run | None = None
        self._results: list[tuple[tuple[Image, ...], tuple[Labels, ...]]] = []
        self.models = ModelBox(Background(self).ask, sets=True)
        self.options = ConfigForm(SegmentConfig, _SHOWN, _WORDS, _HIDDEN)
        self.replace = CheckBox(
            text="Replace the last result",
            tooltip="Remove the layer of the last run on this image once the new is done.",
        )
        self.regions = CheckBox(
            text="Regions as layers",
            tooltip="Also add a layer for each region of the model; where they overlap, the labels show one of them.",
        )
        self.folder = FolderField("Every image in this folder is segmented; NAME_0000 and NAME_0001 are one image.")
        self.out = FolderField("The label files go here, as NAME.nii.gz; files of that name are replaced.")
        self.tabs = QTabWidget()
        self.waits = caption()
        self.runner = Runner(self)
        self.progress = ProgressRow(self.runner)
        self.segment_button = button("Segment", self.segment, "Segment this image, or this folder, with this model.")
        self.python_button = button("Copy as Python", self.copy_as_python, "Copy the script that does the same.")
        self.train_button = button(
            "Train on it",
            self.train_on_it,
            "Correct the result first: Train opens with it as a case, and starts from this model.",
        )
        self.estimate = Estimate()
        self._refresh_soon = qthrottled(self._refresh, timeout=_REFRESH_MS, parent=self)
        self._lay_out()
        remember(
            "segment", model=self.models, replace=self.replace, **{name: self.options[name] for name in _REMEMBERED}
        )
        self._connect()
        self._follow_model(self.models.chosen)

    def _lay_out(self) -> None:
        self._form = form()
        self._channels = ChannelRows(self._viewer, self._form, "The image to segment.", self._update)
        layers, folder = QWidget(), QWidget()
        page = QVBoxLayout(layers)
        page.addLayout(self._form)
        page.addWidget(self.regions.native)
        page.addWidget(self.replace.native)
        page.addWidget(self.estimate)
        folder.setLayout(form(Images=self.folder, Labels=self.out))
        folder.layout().setContentsMargins(*[page.contentsMargins().left()] * 4)
        self.tabs.addTab(layers, "Layers")
        self.tabs.addTab(folder, "Folder")
        layout = QVBoxLayout(self)
        layout.addLayout(form(Model=self.models, **self.options.rows()))
        layout.addWidget(self.options.advanced)
        layout.addWidget(self.tabs)
        layout.addWidget(self.waits)
        layout.addLayout(row(self.segment_button, self.train_button, self.python_button))
        layout.addWidget(self.progress)
        layout.addStretch(1)
        self.use_keys(self.segment_button, self.runner.cancel)

    def _connect(self) -> None:
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._on_busy)
        self.models.model_changed.connect(self._follow_model)
        self.options.changed.connect(self._update)
        self.tabs.currentChanged.connect(self._update)
        self.folder.changed.connect(self._update)
        self.out.changed.connect(self._update)
        Background(self).ask_when_settled(devices_seen, partial(self.options.offer, "device"))

    def _follow_model(self, model: Model | ModelSet | None) -> None:
        """As many image rows as the model has channels; without a model the rows stay, and there is one at first."""
        channels = models_of(model)[0].spec.channels if model else ()
        names = [channel.name for channel in channels] or [""] * max(1, len(self.images))
        self._channels.follow(names)
        for box in self.images:
            box.offer_none(len(names) > 1)
        self.regions.native.setVisible(isinstance(model, Model) and bool(model.spec.output.regions))
        self.order_tabs()
        self._update()

    @property
    def images(self) -> list[LayerBox]:
        """One for each channel of the model."""
        return self._channels.boxes

    @property
    def config(self) -> SegmentConfig:
        """The options as the panel shows them."""
        model, missing = self.models.model, list[str]()
        if model is not None and self.tabs.currentIndex() == 0:
            pairs = zip(model.spec.channels, self.images, strict=True)
            missing = [channel.name for channel, box in pairs if box.left_out]
        return self.options.build(missing=tuple(missing))

    @property
    def _chosen(self) -> list[Image]:
        """The layers that are the channels of the image."""
        return [box.layer for box in self.images if not box.left_out]

    def segment(self) -> None:
        """Start the run: a layer that appears at once and fills, or the files of a folder."""
        model = self.models.chosen
        assert model is not None, "the button is off without a model"
        self.estimate.pause()
        with reporting():
            config = self.config
            if self.tabs.currentIndex() == 1:
                self._segment_folder(model, config)
                return
            volume = self._volume()
            self._run = Run(model, tuple(self._chosen))
            run = _with_regions if self._wants_regions else partial(_layers, self._path())
            self.runner.start(partial(run, volume, model, config), f"Segment {volume.name}")

    @property
    def _wants_regions(self) -> bool:
        """Whether the user can ask for a layer of each region, and does."""
        return self.regions.native.isVisibleTo(self) and bool(self.regions.value)

    def _segment_folder(self, model: Model | ModelSet, config: SegmentConfig) -> None:
        images, out = self.folder.path, self.out.path
        assert images is not None, "the button is off without a folder of images"
        assert out is not None, "the button is off without a folder for the labels"
        self._run = None
        self.runner.start(lambda: _folder(images, out, model, config), f"Segment {images.name}")

    def copy_as_python(self) -> None:
        """The call that the button makes, as a script, to the clipboard."""
        assert self.models.chosen is not None, "the button is off without a model"
        paths = [path_of(layer) or f"{layer.name}{_suffix(layer)}" for layer in self._chosen]
        script = as_python(paths, self.models.chosen, self.config, regions=self._wants_regions)
        QApplication.clipboard().setText(script)

    def train_on_it(self) -> None:
        """Open Train with the last result as a case, and its model as the one to start from."""
        run = self._run
        assert run is not None, "the button is off without a result"
        assert isinstance(run.model, Model), "the button is off for a set of models"
        panel = self._viewer.window.add_plugin_dock_widget("napari-medseg", "Train")[1]
        panel.start_from(run.model.path, run.images, run.layer)

    @property
    def _can_train(self) -> bool:
        """Whether the last result is there, and comes from one model, on all channels of its images."""
        run = self._run
        if run is None or not run.is_complete or not isinstance(run.model, Model) or isinstance(run.model, Ensemble):
            return False
        return all(layer in self._viewer.layers for layer in (run.layer, *run.images))

    def _path(self) -> Path | None:
        """The file of the first image."""
        path = self._chosen[0].source.path
        return Path(path) if path else None

    def _volume(self) -> Volume:
        return to_volume(self._chosen, self._viewer.layers)

    def _update(self, _: object = None) -> None:
        """Buttons, estimate and what is waited for follow the choices."""
        missing = self._missing()
        tell(self.waits, missing)
        self.progress.follow(self.models.chosen, self.tabs.currentIndex(), *self._chosen)
        in_layers = self.tabs.currentIndex() == 0
        self.segment_button.setEnabled(not missing and not self.runner.is_busy)
        self.python_button.setEnabled(not missing and in_layers)
        self.train_button.setEnabled(self._can_train and not self.runner.is_busy)
        if missing or self.models.chosen is None or not in_layers:
            self.estimate.clear()
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MedsegWarning)  # the run itself warns, once
            try:
                self.estimate.ask(self._volume(), self.models.chosen, self.config)
            except MedsegError as error:
                self.estimate.clear(str(error))

    def _missing(self) -> str:
        """What the panel waits for, in one line; empty where it can run."""
        if self.tabs.currentIndex() == 0 and (not self._chosen or None in self._chosen):
            return WAITS_FOR_IMAGE
        if self.models.chosen is None:
            return "Waits for a model: choose one, or train one."
        if self.tabs.currentIndex() == 1 and (self.folder.path is None or self.out.path is None):
            return "Waits for a folder of images and a folder for the labels."
        return ""

    def _on_event(self, event: Event) -> None:
        run = self._run
        if run is None:
            if isinstance(event, Finished):
                show_info(f"{len(event.result)} label files are in {event.result[0].parent}")
        elif isinstance(event, Started):
            run.began, run.plan = time.monotonic(), event.plan
            run.layer = self._add_layer(run, event.result)
        elif isinstance(event, Regions):
            for region in event.regions.values():
                self._add_layer(run, region)
        elif isinstance(event, Filled):
            run.changed = event.box if run.changed is None else union(run.changed, event.box)
            self._refresh_soon()
        elif isinstance(event, Finished):
            run.is_complete = True
            if run.plan is not None and isinstance(run.model, Model):
                self.estimate.learn(run.model, run.plan, time.monotonic() - run.began)

    def _add_layer(self, run: Run, result: Segmentation) -> Labels:
        data, arguments, _ = labels_layer(result, [*run.images, *self._viewer.layers])
        name = arguments["name"]
        layer: Labels = self._viewer.add_labels(data, **{**arguments, "name": f"{name} (partial)"})
        run.filled[layer] = name
        begin_filling(layer)
        return layer

    def _refresh(self) -> None:
        """Draw what has changed."""
        run = self._run
        if run is not None and run.layer is not None and run.changed is not None:
            show_filled(run.layer, run.changed, self._viewer.dims)
            run.changed = None

    def _on_busy(self, busy: bool) -> None:
        run = self._run
        if not busy and run is not None and run.filled:
            if run.is_complete:
                self._forget_last(run.images)
                self._results.append((run.images, tuple(run.filled)))
            for layer, name in run.filled.items():
                self._settle(run, layer, name)
        self._update()

    def _settle(self, run: Run, layer: Labels, name: str) -> None:
        """Rename a complete layer; add it again if the user removed it while it was filled."""
        end_filling(layer)
        if run.is_complete:
            layer.name = name
        if layer in self._viewer.layers:
            layer.refresh(extent=False)
        elif run.is_complete:
            self._viewer.add_layer(layer)
            show_info(f"layer {layer.name!r} was removed while it was being filled; it is complete now, and back")

    def _forget_last(self, images: tuple[Image, ...]) -> None:
        """Remove the result of the last run on these images, where the user wants that.

        Layers are compared, not names: another scan may bear the name of one that was closed.
        """
        here = self._viewer.layers
        self._results = [(of, made) for of, made in self._results if all(one in here for one in (made[0], *of))]
        last = [made for of, made in self._results if of == images][-1:]
        for layer in last[0] if self.replace.value and last else ():
            if layer in here:
                here.remove(layer)


def _layers(image: Path | None, volume: Volume, model: Model | ModelSet, config: SegmentConfig) -> Iterator[Event]:
    """In the worker: the labels of an image; those of a large one also go into a store, where a run can be resumed."""
    from napari_medseg.inference.runs.live import is_large, iter_segment_into, store_for

    if is_large(volume):
        yield from iter_segment_into(volume, model, store_for(image, volume.name, model), config)
    else:
        yield from ms.iter_segment(volume, model, config=config)


def _with_regions(volume: Volume, model: Model | ModelSet, config: SegmentConfig) -> Iterator[Event]:
    """In the worker: the labels of an image, and each region of the model by itself."""
    from napari_medseg.inference.engine import segmenting
    from napari_medseg.inference.results.wanted import Wanted

    yield from finishing(segmenting(volume, model, config, wanted=Wanted(regions={})))


def _folder(images: Path, out: Path, model: Model | ModelSet, config: SegmentConfig) -> Iterator[Event]:
    """In the worker: the files of a folder, as the command segments them."""
    from napari_medseg.inference.runs.files import segmenting_folder

    yield from finishing(segmenting_folder(images, out, model, config))


def as_python(paths: Sequence[str], model: Model | ModelSet, config: SegmentConfig, *, regions: bool = False) -> str:
    """The script that segments these images (one per channel) as the panel does. regions: each by itself too."""
    if len(paths) == 1:
        read = f"volume = ms.read({paths[0]!r})\n"
        imports = "import napari_medseg as ms\n"
    else:
        read = (
            f"channels = [ms.read(path) for path in {list(paths)!r}]\n"
            "volume = ms.Volume(np.concatenate([c.data for c in channels]), channels[0].grid)\n"
        )
        imports = "import numpy as np\n\nimport napari_medseg as ms\n"
    chosen = {name: getattr(config, name) for name in _SCRIPTED}
    options = "".join(f", {name}={value!r}" for name, value in chosen.items() if value != getattr(_DEFAULTS, name))
    if regions:
        imports += "from napari_medseg.inference import segment_regions\n"
    suffix = ".png" if is_flat(Path(paths[0])) else ".nii.gz"
    each = (
        f"for name, region in segment_regions(volume, {str(model.path)!r}{options}).items():\n"
        f'    ms.write(f"{{name}}{suffix}", region)\n'
    )
    return (
        f"{imports}\n{read}"
        f"labels = ms.segment(volume, {str(model.path)!r}{options})\n"
        f'ms.write("labels{suffix}", labels)\n'
        f"{each if regions else ''}"
    )


def _suffix(layer: Image) -> str:
    """Of the file that a layer without one is saved in."""
    return ".nii.gz" if layer.ndim > 2 else ".tif"
