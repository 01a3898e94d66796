"""The Train panel: image and label layers, and folders, become a model, while its curves and its labels are watched."""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QLabel, QLineEdit, QSpinBox, QVBoxLayout, QWidget

from napari_medseg import registry
from napari_medseg.config import TrainConfig, configured, field_docs, knobs_of
from napari_medseg.datasets.dataset import own_cases
from napari_medseg.events import Event, Finished, Started, TrainProgress, Validated
from napari_medseg.io.disk.files import make_folder
from napari_medseg.models.file import Model, models_folder
from napari_medseg.models.naming import SUFFIX, first_free, is_model_path
from napari_medseg.training.saving.earlier import is_unfinished
from napari_medseg.training.schemes.offers import decides_network, idle_beside, idle_knobs, lacking
from napari_medseg.transforms.annotated import with_ignore_label
from napari_medseg.volume import MAX_LABEL, Segmentation, Volume
from napari_medseg.widgets.canvas.layers import ignored_in, to_segmentation, to_volume
from napari_medseg.widgets.canvas.use_as_labels import LabelsButton
from napari_medseg.widgets.fields.case_rows import CaseRows
from napari_medseg.widgets.fields.config_form import ConfigForm
from napari_medseg.widgets.fields.docked_panel import Panel, other_panel
from napari_medseg.widgets.fields.forms import (
    LEAST_FIELD_WIDTH,
    button,
    caption,
    choice,
    choose,
    form,
    reporting,
    row,
    show_row,
    tell,
)
from napari_medseg.widgets.fields.label_names import LabelNames
from napari_medseg.widgets.fields.model_box import ModelBox
from napari_medseg.widgets.fields.network_box import NetworkBox
from napari_medseg.widgets.fields.remembered import remember
from napari_medseg.widgets.fields.scheme_box import SchemeBox
from napari_medseg.widgets.learning.annotation import Annotation, AnnotationWatch
from napari_medseg.widgets.learning.lasting import training_in
from napari_medseg.widgets.learning.words import WORDS
from napari_medseg.widgets.refining import RefinePanel
from napari_medseg.widgets.segment import SegmentPanel
from napari_medseg.widgets.work.background import Background
from napari_medseg.widgets.work.estimate import devices_seen
from napari_medseg.widgets.work.progress_row import ProgressRow

if TYPE_CHECKING:
    from napari import Viewer

    from napari_medseg.cases import Case
    from napari_medseg.datasets import DataSet
    from napari_medseg.widgets.views.curves import Curves

_SHOWN = ("adapt", "mode", "cascade", "unlabelled_slices")
_HIDDEN = ("epochs", "minutes", "arguments", "scheme")
"""The budget is one number with its unit, the scheme has its own box; the arguments of a network have no widget."""
_DECIDING = ("mode", "cascade", "adapt", "loss", "weak", "search")
"""Knobs on whose values it depends which others have a use."""
_USERS: Mapping[str, type[Panel]] = MappingProxyType({"Segment": SegmentPanel, "Refine": RefinePanel})
"""{name: panel} of those that choose a model."""
_UNITS = {"minutes": "minutes", "epochs": "epochs"}
_UNIT_WIDTH = 108
"""Pixels in which the longest of them is not cut."""


class TrainPanel(Panel):
    """Trains a network on open layers; the model goes to the models folder.

    A panel that is opened while the training of its window runs shows that one.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.model: Model | None = None
        self._steps = 0
        self._was_sparse = False
        self._scheme, self._network_before = "", ""
        docs = field_docs(TrainConfig)
        self.cases = CaseRows(napari_viewer)
        self.labels = LabelNames()
        self.start = ModelBox(Background(self).ask, sets=True, none="scratch")
        self.network = NetworkBox()
        self.scheme = SchemeBox(napari_viewer, lambda: [x for case in self.cases.rows for x in case.images])
        self.options = ConfigForm(TrainConfig, _SHOWN, WORDS, _HIDDEN)
        self.budget = QSpinBox()
        self.budget.setRange(1, 100_000)
        self.budget.setValue(10)
        self.unit = choice(_UNITS)
        self.budget.setMinimumWidth(LEAST_FIELD_WIDTH // 4 * 3)  # two in a row
        self.unit.setMinimumWidth(_UNIT_WIDTH)
        for field in (self.budget, self.unit):
            field.setToolTip(f"minutes: {docs['minutes']}\nepochs: {docs['epochs']}")
        self.name = QLineEdit("my model")
        self.name.setToolTip(f"The model's file in {models_folder()}. A name that is there already gets a number.")
        self.training = training_in(napari_viewer, self)
        self.runner, self.preview = self.training.runner, self.training.preview
        self._background = Background(self)
        self._annotation = AnnotationWatch(self, napari_viewer, self.cases, self._show_annotation)
        self.progress = ProgressRow(self.runner, "Stop", "Stopping…")
        self.progress.end_button.setToolTip("End the training now; what was learned so far becomes the model.")
        self.train_button = button("Train", self.train, "Train a network on these cases, in the background.")
        self.resume_button = button("Resume", self.resume, "Go on with the training of this name, on the same cases.")
        self.use_button = button("Use in Segment", self.use, "Open the panel that works with this model.")
        self.waits = caption()
        self._plot = QVBoxLayout()
        self._curves: Curves | None = None
        self._lay_out()
        remember("train", network=self.network.box, unit=self.unit)
        self._connect()
        self._offer()
        self._annotation.look()
        self._catch_up()

    def _connect(self) -> None:
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._update)
        self.cases.changed.connect(self._offer)
        self.cases.changed.connect(self._annotation.look)
        self.cases.folder_chosen.connect(self.add_folder)
        self.labels.renamed.connect(self._annotation.rename)
        self.name.textChanged.connect(self._update)
        self.network.changed.connect(self._offer_modes)
        self.scheme.changed.connect(self._offer)
        self.start.model_changed.connect(self._offer)
        for name in _DECIDING:
            self.options[name].changed.connect(self._offer)
        if self.options.advanced is not None:  # only there is the device, and only torch knows the devices
            self.options.advanced.unfolded.connect(self._offer_devices)

    def _lay_out(self) -> None:
        budget = QWidget()
        budget.setLayout(row(self.budget, self.unit))
        budget.setToolTip(self.budget.toolTip())
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel("Cases: an image, and below it its labels"))
        layout.addWidget(self.cases)
        layout.addWidget(LabelsButton(self._viewer, 1))
        layout.addWidget(self.labels)
        layout.addLayout(
            form(
                Start_from=self.start,
                **self.options.rows(_SHOWN[:1]),
                Network=self.network,
                Scheme=self.scheme,
                Budget=budget,
                **self.options.rows(_SHOWN[1:]),
                Model_name=self.name,
            )
        )
        layout.addWidget(self.options.advanced)
        layout.addWidget(self.waits)
        layout.addLayout(row(self.train_button, self.resume_button, self.use_button))
        layout.addWidget(self.progress)
        layout.addLayout(self._plot)
        layout.addStretch(1)
        self.use_keys(self.train_button, self.runner.cancel)

    @property
    def config(self) -> TrainConfig:
        """The options as the panel shows them."""
        amount = self.budget.value()
        in_minutes = self.unit.currentData() == "minutes"
        return self.options.build(
            minutes=amount if in_minutes else None,
            epochs=None if in_minutes else amount,
            scheme=self.scheme.spec.name,
        )

    @property
    def curves(self) -> Curves:
        """The plot; made with the first training, whose worker has loaded matplotlib before."""
        if self._curves is None:
            from napari_medseg.widgets.views.curves import Curves

            self._curves = Curves()
            self._plot.addWidget(self._curves)
        return self._curves

    def train(self) -> None:
        """Start the training; the name in the panel becomes the one that the model gets."""
        with reporting():
            out = free_path(models_folder(), self.name.text())
            self._begin(out, resume=False)
            self.name.setText(out.stem)

    def resume(self) -> None:
        """Go on with the training of this name that was stopped, killed or left by closing napari."""
        with reporting():
            self._begin(self._named(), resume=True)

    def _begin(self, out: Path, *, resume: bool) -> None:
        ignore_label = self._ignore_label
        cases = self._cases(ignore_label)
        config = configured(TrainConfig, self.config, {"ignore_label": ignore_label})
        make_folder(out.parent)
        self.model = None
        if self._curves is not None:
            self._curves.clear()
        self.training.begin(
            cases,
            out,
            self.cases.complete[0].images if self.cases.complete else [],
            network=None if self._is_decided else self.network.name,
            init=self.start.value or None,
            config=config,
            unlabelled=self._volumes(self.scheme.sources),
            target=self._volumes(self.scheme.targets),
            resume=resume,
        )

    @property
    def _is_decided(self) -> bool:
        """Whether the scheme or the model to start from decides the network."""
        return decides_network(self.scheme.spec, starts=bool(self.start.value))

    def _named(self) -> Path:
        """The model of the name in the panel."""
        return models_folder() / f"{_safe(self.name.text())}{SUFFIX}"

    def _catch_up(self) -> None:
        """Show the training that another panel of this window began."""
        if self.training.out.name:
            self.name.setText(self.training.out.stem)
        for event in self.training.events:
            self._on_event(event)
        if self.runner.is_busy and self.training.events:
            self.progress.show_event(self.training.events[-1])

    @property
    def _user(self) -> str:
        """The panel that works with the new model."""
        spec = None if self.model is None else self.model.spec
        if spec is None or registry.network(spec.network).takes in ("image", "graph", "instances"):
            return "Segment" if spec is None or spec.refines is None else "Refine"
        return "Interact"

    def use(self) -> None:
        """Show the panel that works with the new model, with the model chosen."""
        assert self.model is not None, "the button is off without a model"
        kind = _USERS.get(self._user)
        panel: Any = other_panel(self, kind) if kind is not None else None
        if panel is None:
            _, panel = self._viewer.window.add_plugin_dock_widget("napari-medseg", self._user)
        if self._user in _USERS:
            panel.models.select(self.model.path)

    def start_from(self, model: Path, images: Sequence[Any], labels: Any) -> None:
        """Make an image (a layer for each channel) with its labels a case, and start from a model."""
        self.cases.take(images, labels)
        self.start.select(model)

    def add_folder(self, folder: str) -> None:
        """Add the cases of a data set; the folder is looked through in the background."""
        self._background.ask(partial(_opened, Path(folder)), self.cases.add_folder)

    @property
    def _ignore_label(self) -> int | None:
        """The id of what nobody annotated: the one given, else that of the folders and layers.

        Where some have none or another one, it is an id that no label has, which theirs become.
        """
        given = self.config.loss.ignore_label
        ids = {folder.data.ignore_label for folder in self.cases.folders}
        ids |= {ignored_in(shown.labels.layer) for shown in self.cases.complete}
        if given is not None or ids <= {None}:
            return given
        return ids.pop() if len(ids) == 1 else MAX_LABEL

    def _cases(self, ignore_label: int | None) -> list[Case | tuple[Volume, Segmentation] | Segmentation]:
        """ignore_label: the id that what nobody annotated in a folder, or in a layer, gets."""
        layers = list(self._viewer.layers)
        cases: list[Case | tuple[Volume, Segmentation] | Segmentation] = []
        for shown in self.cases.complete:
            given = to_segmentation(shown.labels.layer, layers)
            labels = with_ignore_label(given, ignored_in(shown.labels.layer), ignore_label)
            if shown.images:
                volume = to_volume(shown.images, layers)
                cases.append((volume, labels))
            else:
                cases.append(labels)
        return [*cases, *(case for folder in self.cases.folders for case in own_cases(folder.data, ignore_label))]

    def _volumes(self, sources: list[Any]) -> list[Volume | Path]:
        """Images that have no labels; a folder is looked through where the training runs."""
        layers = list(self._viewer.layers)
        return [source if isinstance(source, Path) else to_volume([source], layers) for source in sources]

    def _show_annotation(self, found: Annotation) -> None:
        """Show what is painted. Empty slices between painted ones are most often not annotated, so that is preset.

        Once no empty ones are between them, those around whole labels are background again.
        """
        self.cases.show_annotated(found.texts)
        of_folders = {i: name for folder in self.cases.folders for i, name in folder.data.labels.items()}
        self.labels.show_names({**of_folders, **found.names})
        if found.is_sparse != self._was_sparse:
            self.options["unlabelled_slices"].value = "ignore" if found.is_sparse else "background"
        self._was_sparse = found.is_sparse

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Started):
            self.progress.text.setToolTip(event.message)
            self.progress.show_event(Started("Taking the first steps…"))
            self.curves.clear()  # the second network of a cascade counts its steps from 0 again
        elif isinstance(event, TrainProgress):
            self._steps = event.step
            self.curves.add_loss(event.step, event.loss)
        elif isinstance(event, Validated):
            self.curves.add_dice(event.step, event.mean_dice)
        elif isinstance(event, Finished):
            self.model = event.result
            self.start.offer(event.result.path)
            name = event.result.path.stem
            if self.runner.should_stop():
                self.progress.text.setText(f"Stopped after {self._steps} steps; model {name!r} is written.")

    def _offer(self, _: object = None) -> None:
        """Show the rows that scheme, model to start from and cases leave open; the others get their defaults."""
        scheme, starts = self.scheme.spec, bool(self.start.value)
        if scheme.name != self._scheme:
            self._scheme = scheme.name
            self._follow_scheme()
        self.cases.need_images(not scheme.from_labels)
        show_row(self.network, not self._is_decided)
        idle = idle_knobs(scheme, starts=starts, several_channels=self.cases.may_have_channels)
        idle |= idle_beside({name: self.options[name].value for name in _DECIDING})
        for name in set(knobs_of(TrainConfig)) - set(_HIDDEN):
            self.options.show(name, name not in idle)
        self._offer_modes()
        self._update()

    def _follow_scheme(self) -> None:
        """Choose the network that a scheme was published with; the next scheme finds the one that was there before."""
        scheme = self.scheme.spec
        own = scheme.network if scheme.takes == "image" else ""
        before = self._network_before or self.network.name
        choose(self.network.box, own or before)
        self._network_before = before if own else ""

    def _offer_modes(self) -> None:
        """Offer the modes that the network has; where the chosen mode is not one of them, "auto" takes its place."""
        scheme = self.scheme.spec
        dims = registry.network(self.network.name if scheme.takes == "image" else scheme.network).dims
        mode = self.options["mode"]
        for index, value in enumerate(mode.choices):
            fits = value == "auto" or (3 if value == "3d" else 2) in dims
            mode.native.model().item(index).setEnabled(fits)
            if not fits and value == mode.value:
                mode.value = "auto"

    def _offer_devices(self) -> None:
        self._background.ask(devices_seen, partial(self.options.offer, "device"))

    def _update(self, _: object = None) -> None:
        lacks = "Waits for an image layer and its Labels layer, or a folder." if self.cases.is_empty else ""
        if self.cases.has_image_twice:
            lacks = "Two cases have the same image: remove one, or choose another image."
        lacks = lacks or lacking(
            self.scheme.spec,
            starts=bool(self.start.value),
            start=self.start.chosen,
            unlabelled=self.scheme.sources,
            target=self.scheme.targets,
        )
        tell(self.waits, lacks)
        sources = (*self.cases.folders, *self.scheme.sources, *self.scheme.targets)
        self.progress.follow(self.start.value, self.scheme.spec.name, *self.cases.pairs, *sources)
        ready = not self.runner.is_busy
        named = bool(_safe(self.name.text()))
        self.train_button.setEnabled(ready and not lacks and named)
        self.resume_button.setEnabled(ready and not lacks)
        self.resume_button.setVisible(ready and named and is_unfinished(self._named()))
        self.use_button.setEnabled(ready and self.model is not None)
        self.use_button.setText(f"Use in {self._user}")


def _opened(folder: Path) -> DataSet:
    """In the worker, which looks through the folder."""
    found: DataSet = importlib.import_module("napari_medseg.datasets").open_dataset(folder)
    return found


def free_path(folder: Path, name: str) -> Path:
    """A model file of that name in the folder, with a number where the name is taken."""
    stem = _safe(name)
    root, number = re.fullmatch(r"(.*?)(?: (\d+))?", stem).groups("1")  # type: ignore[union-attr]  # matches any line
    numbered = (f"{root} {following}" for following in itertools.count(int(number) + 1))
    return first_free(folder / f"{name}{SUFFIX}" for name in itertools.chain([stem], numbered))


def _safe(name: str) -> str:
    """The name as a file may have it on every system."""
    stem = name[: -len(SUFFIX)] if is_model_path(name) else name
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", stem).strip(" .")
