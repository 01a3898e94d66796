"""The Explain panel: why a model labels voxels so, as an image layer over the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtWidgets import QApplication, QLabel, QVBoxLayout

import napari_medseg as ms
from napari_medseg.config import ExplainConfig, knobs_of
from napari_medseg.events import Event, Finished, Notice
from napari_medseg.explanation.methods import METHODS
from napari_medseg.models.file import Model
from napari_medseg.volume import Volume
from napari_medseg.widgets.canvas.layers import path_of, to_volume, volume_layer
from napari_medseg.widgets.explaining.voxel_picker import VoxelPicker
from napari_medseg.widgets.fields.config_form import ConfigForm, Words
from napari_medseg.widgets.fields.docked_panel import Panel
from napari_medseg.widgets.fields.forms import button, caption, choice, form, reporting, row, tell
from napari_medseg.widgets.fields.layer_box import LayerBox
from napari_medseg.widgets.fields.model_box import ModelBox
from napari_medseg.widgets.work.background import Background
from napari_medseg.widgets.work.estimate import devices_seen
from napari_medseg.widgets.work.progress_row import ProgressRow
from napari_medseg.widgets.work.runner import Runner

if TYPE_CHECKING:
    from napari import Viewer

_WORDS = {
    "device": Words("Device", {"auto": "automatic", "cpu": "CPU", "cuda": "GPU (CUDA)", "mps": "GPU (Apple)"}),
    "check": Words("Check with random weights"),
    "layer": Words("Features", {"fine": "fine, the last ones", "middle": "middle", "deep": "deep, coarse"}),
    "steps": Words("Steps from grey"),
    "occluder": Words("Cube that covers"),
    "weighted": Words("Weigh attention"),
    "overlap": Words("Overlap"),
    "seed": Words("Random weights"),
}
_TARGETS = {"label": "the whole label", "component": "the component at the voxel", "voxel": "the voxel alone"}


@dataclass(frozen=True, eq=False)
class Shown:
    """A map, and the values between which its colours lie."""

    heat: Volume
    limits: tuple[float, float]


class ExplainPanel(Panel):
    """Explains a label of a model on an image layer, or on several as its channels."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.images: list[LayerBox] = []
        self.models = ModelBox(Background(self).ask)
        self.label = choice({}, "The label of the model that is explained.")
        self.target = choice(_TARGETS, "All voxels that the model labels so, those of one component, or one voxel.")
        self.method = choice({m.name: m.title for m in METHODS.values() if m.takes == "image"}, "How it is explained.")
        self.sentence, self.waits, self.report = caption(), caption(), caption()
        self.picker = VoxelPicker(napari_viewer)
        self.options = ConfigForm(ExplainConfig, ("check", "device"), _WORDS)
        self.runner = Runner(self)
        self.progress = ProgressRow(self.runner)
        self.run_button = button("Explain", self.explain, "Make an image layer of the map.")
        self.python_button = button("Copy as Python", self.copy_as_python, "Copy the script that does the same.")
        self._lay_out()
        self._connect()
        self._follow_model(self.models.model)

    def _lay_out(self) -> None:
        self._form = form(Label=self.label, Explain=self.target, Voxel=self.picker, Method=self.method)
        layout = QVBoxLayout(self)
        layout.addLayout(form(Model=self.models))
        layout.addLayout(self._form)
        layout.addWidget(self.sentence)
        layout.addLayout(form(**self.options.rows()))
        layout.addWidget(self.options.advanced)
        layout.addWidget(self.waits)
        layout.addLayout(row(self.run_button, self.python_button))
        layout.addWidget(self.progress)
        layout.addWidget(self.report)
        layout.addStretch(1)
        self.use_keys(self.run_button, self.runner.cancel)

    def _connect(self) -> None:
        self.runner.happened.connect(self._on_event)
        self.runner.busy.connect(self._update)
        self.models.model_changed.connect(self._follow_model)
        self.picker.changed.connect(self._update)
        for box in (self.target, self.method):
            box.currentIndexChanged.connect(self._update)
        Background(self).ask_when_settled(devices_seen, partial(self.options.offer, "device"))

    def _follow_model(self, model: Model | None) -> None:
        """As many image rows as the model has channels, and its labels; without a model the rows stay."""
        names = [channel.name for channel in model.spec.channels] if model else [""] * max(1, len(self.images))
        while len(self.images) > len(names):
            self._form.removeRow(len(self.images) - 1)
            self.images.pop()
        while len(self.images) < len(names):
            box = LayerBox(self._viewer, Image, "The image that the model sees.")
            box.layer_changed.connect(self._update)
            self._form.insertRow(len(self.images), QLabel(), box)
            self.images.append(box)
        for box, name in zip(self.images, names, strict=True):
            box.follows_opened = len(names) == 1
            self._form.labelForField(box).setText(name if name and len(names) > 1 else "Image")
        self.label.clear()
        for label, name in model.spec.labels.items() if model else ():
            self.label.addItem(f"{label} {name}".strip(), label)
        self.order_tabs()
        self._update()

    @property
    def asked(self) -> dict[str, Any]:
        """What is explained and how, as `explain` takes it."""
        asked = {"label": self.label.currentData(), "method": self.method.currentData()}
        target = self.target.currentData()
        return asked if target == "label" else {**asked, target: self.picker.voxel}

    def explain(self) -> None:
        """Start the run; its layer is added at the end."""
        model = self.models.model
        assert model is not None, "the button is off without a model"
        tell(self.report, "")
        with reporting():
            volume = to_volume([box.layer for box in self.images], self._viewer.layers)
            work = partial(_explained, volume, model, self.asked, self.options.config)
            self.runner.start(work, f"Explain {volume.name}")

    def copy_as_python(self) -> None:
        """The call that the button makes, as a script, to the clipboard."""
        assert self.models.model is not None, "the button is off without a model"
        paths = [path_of(box.layer) or f"{box.layer.name}.nii.gz" for box in self.images]
        QApplication.clipboard().setText(as_python(paths, self.models.model, self.asked, self.options.config))

    def _update(self, _: object = None) -> None:
        """Buttons, sentence and what is waited for follow the choices."""
        method = METHODS[self.method.currentData()]
        self.sentence.setText(method.sentence)
        layer = self.images[0].layer if self.images else None
        self.picker.follow(layer)
        self.picker.setEnabled(self.target.currentData() != "label" and layer is not None)
        missing = self._missing()
        tell(self.waits, missing)
        self.progress.follow(self.models.model, *(box.layer for box in self.images))
        self.run_button.setEnabled(not missing and not self.runner.is_busy)
        self.python_button.setEnabled(not missing)

    def _missing(self) -> str:
        """What the panel waits for, in one line; empty where it can run."""
        if any(box.layer is None for box in self.images):
            return "Waits for an image: open a file, or File > Open Sample > Medical segmentation."
        if self.models.model is None:
            return "Waits for a model: choose one, or train one."
        if self.target.currentData() != "label" and self.picker.voxel is None:
            return "Waits for a voxel: press Pick, and click on the image."
        return ""

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Notice):
            tell(self.report, event.message)
        elif isinstance(event, Finished):
            self._show(event.result)

    def _show(self, shown: Shown) -> None:
        """Add the map over the image, and say what the check found."""
        from napari_medseg.explanation.check import Check

        data, arguments, _ = volume_layer(shown.heat, list(self._viewer.layers))[0]
        method = METHODS[str(shown.heat.provenance["method"])]
        blending = "translucent" if method.signed else "additive"
        colours = {"colormap": method.colormap, "contrast_limits": shown.limits, "blending": blending, "opacity": 0.7}
        self._viewer.add_image(data, **{**arguments, **colours})
        made = Check.of(shown.heat)
        if made is not None:
            tell(self.report, made.sentence)


def _explained(volume: Volume, model: Model, asked: dict[str, Any], config: ExplainConfig) -> Iterator[Event]:
    """In the worker: the events of `iter_explain`; the last one has the map and the limits of its colours."""
    from napari_medseg.explanation.shown import limits_of, store_for

    out = store_for(volume, asked["method"])
    if out is not None:
        yield Notice(f"the map of a large image goes into {out}")
    for event in ms.iter_explain(volume, model, out=out, config=config, **asked):
        if isinstance(event, Finished):
            yield Finished(Shown(event.result, limits_of(event.result)))
        else:
            yield event


def as_python(paths: list[str], model: Model, asked: dict[str, Any], config: ExplainConfig) -> str:
    """The script that explains these images (one per channel) as the panel does."""
    defaults = {name: knob.default for name, knob in knobs_of(ExplainConfig).items()}
    changed = {name: getattr(config, name) for name, default in defaults.items() if getattr(config, name) != default}
    options = "".join(f", {name}={value!r}" for name, value in {**asked, **changed}.items())
    imports, read = "import napari_medseg as ms\n", f"volume = ms.read({paths[0]!r})\n"
    if len(paths) > 1:
        imports = f"import numpy as np\n\n{imports}"
        read = (
            f"channels = [ms.read(path) for path in {paths!r}]\n"
            "volume = ms.Volume(np.concatenate([c.data for c in channels]), channels[0].grid)\n"
        )
    return f'{imports}\n{read}heat = ms.explain(volume, {str(model.path)!r}{options})\nms.write("heat.nii.gz", heat)\n'
