"""The Train panel: image and label layers, and folders, become a model, while its curves and its labels are watched."""

from __future__ import annotations

import importlib
import itertools
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QLineEdit, QSpinBox, QVBoxLayout, QWidget

from napari_medseg import registry
from napari_medseg.config import SchemeConfig, TrainConfig, field_docs, knobs_of
from napari_medseg.events import Event, Finished, Started, TrainProgress, Validated
from napari_medseg.io.disk.files import make_folder
from napari_medseg.models.file import Model, models_folder
from napari_medseg.models.naming import SUFFIX, first_free, is_model_path
from napari_medseg.training.saving.earlier import is_unfinished
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.volume import Segmentation, Volume
from napari_medseg.widgets.canvas.layers import onto, to_segmentation, to_volume
from napari_medseg.widgets.canvas.use_as_labels import LabelsButton
from napari_medseg.widgets.fields.case_rows import CaseRows
from napari_medseg.widgets.fields.config_form import ConfigForm, Words
from napari_medseg.widgets.fields.docked_panel import Panel, other_panel
from napari_medseg.widgets.fields.forms import LEAST_FIELD_WIDTH, button, caption, choice, form, reporting, row, tell
from napari_medseg.widgets.fields.label_names import LabelNames
from napari_medseg.widgets.fields.network_box import NetworkBox
from napari_medseg.widgets.fields.remembered import remember
from napari_medseg.widgets.fields.scheme_box import SchemeBox
from napari_medseg.widgets.learning.annotation import Annotation, AnnotationWatch
from napari_medseg.widgets.learning.lasting import training_in
from napari_medseg.widgets.segment import SegmentPanel
from napari_medseg.widgets.work.background import Background
from napari_medseg.widgets.work.estimate import devices_seen
from napari_medseg.widgets.work.progress_row import ProgressRow

if TYPE_CHECKING:
    from napari import Viewer

    from napari_medseg.cases import Case
    from napari_medseg.datasets import DataSet
    from napari_medseg.widgets.views.curves import Curves

_WORDS = {
    "mode": Words(
        "Dimensions",
        {
            "auto": "as network and images allow",
            "3d": "3D",
            "2d": "2D, slice by slice",
            "2.5d": "2.5D, adjacent slices",
            "triplanar": "2D in three planes",
        },
    ),
    "cascade": Words(
        "Stages",
        {
            "none": "one network",
            "coarse-to-fine": "coarse to fine: two networks",
            "detect": "find, then segment: two networks",
        },
    ),
    "unlabelled_slices": Words("Empty slices", {"background": "background", "ignore": "not annotated (ignored)"}),
    "val": Words("Validation fraction"),
    "device": Words("Device", {"auto": "automatic", "cpu": "CPU", "cuda": "GPU (CUDA)", "mps": "GPU (Apple)"}),
    "batch_size": Words("Patches in a step"),
    "patch_zyx": Words("Patch (z, y, x)"),
    "spacing_zyx_mm": Words("Spacing in mm (z, y, x)"),
    "slices": Words("Slices of 2.5D"),
    "foreground": Words("Patches on labels"),
    "augment": Words("Augmentation"),
    "mirror": Words("Mirroring"),
    "unlabelled_weight": Words("Weight without labels"),
    "confidence": Words("Least confidence"),
    "doubt_passes": Words("Teacher passes"),
    "critic_width": Words("Discriminator width"),
    "descent": Words("Descent", {"auto": "automatic", "adamw": "AdamW", "sgd": "SGD, as published"}),
    "fusion": Words(
        "Channels meet",
        {
            "input": "in the first convolution",
            "layer": "at every skip: an encoder each",
            "decision": "in the labels: a network each",
        },
    ),
    "modality_dropout": Words("Missing channels"),
    "translator": Words("Translator", {"auto": "automatic", "light": "light", "paper": "as published, for a GPU"}),
    "precision": Words("Precision", {"auto": "automatic", "fp32": "fp32, exact", "bf16": "bf16, faster"}),
}
_SHOWN = ("mode", "cascade", "unlabelled_slices")
_HIDDEN = ("epochs", "minutes", "arguments", "scheme")
"""The budget is one number with its unit, the scheme has its own box; the arguments of a network have no widget."""
_UNITS = {"minutes": "minutes", "epochs": "epochs"}


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
        docs = field_docs(TrainConfig)
        self.cases = CaseRows(napari_viewer)
        self.labels = LabelNames()
        self.network = NetworkBox()
        self.scheme = SchemeBox(napari_viewer, lambda: [x for case in self.cases.rows for x in case.images])
        self.options = ConfigForm(TrainConfig, _SHOWN, _WORDS, _HIDDEN)
        self.budget = QSpinBox()
        self.budget.setRange(1, 100_000)
        self.budget.setValue(10)
        self.unit = choice(_UNITS)
        for field in (self.budget, self.unit):
            field.setMinimumWidth(LEAST_FIELD_WIDTH // 4 * 3)  # two in a row
            field.setToolTip(f"minutes: {docs['minutes']}\nepochs: {docs['epochs']}")
        self.name = QLineEdit("my model")
        self.name.setToolTip(f"The model's file in {models_folder()}. A name that is there already gets a number.")
        self.training = training_in(napari_viewer, self)
        self.runner, self.preview = self.training.runner, self.training.preview
        self._background = Background(self)
        self._annotation = AnnotationWatch(self, napari_viewer, self.cases, self._show_annotation)
        self.progress = ProgressRow(self.runner, "Stop", "Stopping…")
        self.train_button = button("Train", self.train, "Train a network on these cases, in the background.")
        self.resume_button = button("Resume", self.resume, "Go on with the training of this name, on the same cases.")
        self.use_button = button("Use in Segment", self.use_in_segment, "Open the Segment panel with this model.")
        self.plan, self.waits = caption(), caption()
        self._plot = QVBoxLayout()
        self._curves: Curves | None = None
        self._lay_out()
        remember("train", network=self.network.box, unit=self.unit)
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._update)
        self.cases.changed.connect(self._update)
        self.cases.changed.connect(self._annotation.look)
        self.cases.folder_chosen.connect(self.add_folder)
        self.labels.renamed.connect(self._annotation.rename)
        self.name.textChanged.connect(self._update)
        self.network.changed.connect(self._offer_modes)
        self.scheme.changed.connect(self._offer_knobs)
        if self.options.advanced is not None:  # only there is the device, and only torch knows the devices
            self.options.advanced.unfolded.connect(self._offer_devices)
        self._offer_modes()
        self._offer_knobs()
        self._annotation.look()
        self._catch_up()

    def _lay_out(self) -> None:
        budget = QWidget()
        budget.setLayout(row(self.budget, self.unit))
        budget.setToolTip(self.budget.toolTip())
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel("Cases: image and its labels"))
        layout.addWidget(self.cases)
        layout.addWidget(LabelsButton(self._viewer, 1))
        layout.addWidget(self.labels)
        layout.addLayout(
            form(
                Network=self.network,
                Scheme=self.scheme,
                Budget=budget,
                **self.options.rows(),
                Model_name=self.name,
            )
        )
        layout.addWidget(self.options.advanced)
        layout.addWidget(self.waits)
        layout.addLayout(row(self.train_button, self.resume_button, self.use_button))
        layout.addWidget(self.progress)
        layout.addWidget(self.plan)
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
        cases, config = self._cases(), self.config
        make_folder(out.parent)
        self.model = None
        if self._curves is not None:
            self._curves.clear()
        self.plan.setText("")
        self.training.begin(
            cases,
            out,
            self.cases.complete[0].images if self.cases.pairs else [],
            network=self._network(config),
            config=config,
            unlabelled=self._unlabelled(),
            merge=tuple(region for folder in self.cases.folders for region in folder.data.merge),
            resume=resume,
        )

    def _network(self, config: TrainConfig) -> str:
        """The network that is chosen, or that of a scheme which finds objects and trains no other."""
        scheme = scheme_named(config.scheme)
        return scheme.network if scheme.learns == "objects" else self.network.name

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

    def use_in_segment(self) -> None:
        """Show the Segment panel with the new model chosen."""
        assert self.model is not None, "the button is off without a model"
        panel = other_panel(self, SegmentPanel)
        if panel is None:
            _, panel = self._viewer.window.add_plugin_dock_widget("napari-medseg", "Segment")
        panel.models.select(self.model.path)

    def add_folder(self, folder: str) -> None:
        """Add the cases of a data set; the folder is looked through in the background."""
        self._background.ask(partial(_opened, Path(folder)), self._take_folder)

    def _take_folder(self, data: DataSet) -> None:
        self.cases.add_folder(data)
        if data.ignore_label is not None:
            self.options["ignore_label"].value = str(data.ignore_label)

    def _cases(self) -> list[Case | tuple[Volume, Segmentation]]:
        layers = list(self._viewer.layers)
        cases: list[Case | tuple[Volume, Segmentation]] = []
        for shown in self.cases.complete:
            volume = to_volume(shown.images, layers)
            cases.append((volume, onto(to_segmentation(shown.labels.layer, layers), volume.grid)))
        return [*cases, *(case for folder in self.cases.folders for case in folder.data.cases)]

    def _unlabelled(self) -> list[Volume | Path]:
        """The images without labels; a folder is looked through where the training runs."""
        layers = list(self._viewer.layers)
        return [source if isinstance(source, Path) else to_volume([source], layers) for source in self.scheme.sources]

    def _show_annotation(self, found: Annotation) -> None:
        """Show what is painted. Empty slices between painted ones are most often not annotated, so that is preset."""
        self.cases.show_annotated(found.texts)
        of_folders = {i: name for folder in self.cases.folders for i, name in folder.data.labels.items()}
        self.labels.show_names({**of_folders, **found.names})
        if found.is_sparse and not self._was_sparse:
            self.options["unlabelled_slices"].value = "ignore"
        self._was_sparse = found.is_sparse

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Started):
            self.plan.setText(event.message)
            self.curves.clear()  # the second network of a cascade counts its steps from 0 again
        elif isinstance(event, TrainProgress):
            self._steps = event.step
            self.curves.add_loss(event.step, event.loss)
        elif isinstance(event, Validated):
            self.curves.add_dice(event.step, event.mean_dice)
        elif isinstance(event, Finished):
            self.model = event.result
            name = event.result.path.stem
            if self.runner.should_stop():
                self.progress.text.setText(f"Stopped after {self._steps} steps; model {name!r} is written.")

    def _offer_modes(self) -> None:
        """Offer the modes that the network has; where the chosen mode is not one of them, "auto" takes its place."""
        dims = registry.network(self.network.name).dims
        mode = self.options["mode"]
        for index, value in enumerate(mode.choices):
            fits = value == "auto" or (3 if value == "3d" else 2) in dims
            mode.native.model().item(index).setEnabled(fits)
            if not fits and value == mode.value:
                mode.value = "auto"

    def _offer_knobs(self) -> None:
        """Offer the knobs that the scheme uses; the others are left alone, for it would refuse them."""
        for name, knob in knobs_of(SchemeConfig).items():
            widget = self.options[name]
            widget.enabled = name in self.scheme.spec.knobs
            if not widget.enabled:
                widget.value = "" if knob.default is None else knob.default
        self._update()

    def _offer_devices(self) -> None:
        self._background.ask(devices_seen, partial(self.options.offer, "device"))

    def _update(self, _: object = None) -> None:
        no_case = self.cases.is_empty
        lacks = "Waits for images without labels: a folder, or a layer." if self.scheme.waits else ""
        tell(self.waits, "Waits for an image layer and its Labels layer, or a folder." if no_case else lacks)
        no_case = no_case or self.scheme.waits
        ready = not self.runner.is_busy
        named = bool(_safe(self.name.text()))
        self.train_button.setEnabled(ready and not no_case and named)
        self.resume_button.setEnabled(ready and not no_case)
        self.resume_button.setVisible(ready and named and is_unfinished(self._named()))
        self.use_button.setEnabled(ready and self.model is not None)


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
