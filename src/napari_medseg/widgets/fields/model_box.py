"""Choosing a model: those of the models folder, or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QComboBox, QFileDialog, QVBoxLayout, QWidget

from napari_medseg.errors import FileError, MedsegError
from napari_medseg.models.file import Model, about, list_models, load_model, models_folder
from napari_medseg.models.naming import SUFFIX, is_model_path
from napari_medseg.models.several import ModelSet, as_models, list_sets
from napari_medseg.sample import sample_files
from napari_medseg.widgets.fields.forms import button, caption, choice, row
from napari_medseg.widgets.fields.import_model import ImportModel, accept_one_path, dropped_path

_FILTER = f"Models (*{SUFFIX} *{SUFFIX.upper()} *.json)"
"""Qt tells capitals from small letters."""
_WHENCE = "Train one, browse for one, or import one."
"""What is said where there is no model."""


class ModelBox(QWidget):
    """A drop-down of models, a button for others, and the facts of the chosen one.

    with_sample: whether the model of the sample is listed. sets: whether sets of models can be chosen too. none: what
    the first entry says, which is no model. ask: `ask(compute, then)` runs `compute()` in another thread and
    `then(result)` in this one, because a model is read to its end for its SHA-256. `model_changed` carries the Model or
    ModelSet, or None while it is read and where the file is neither (the facts then say why).
    """

    model_changed = Signal(object)
    changed = Signal(str)
    """The path that was chosen, for what outlives the session."""

    def __init__(
        self,
        ask: Callable[[Callable[[], Any], Callable[[Any], None]], None],
        *,
        with_sample: bool = True,
        sets: bool = False,
        none: str = "",
    ) -> None:
        super().__init__()
        self._ask = ask
        self._read = as_models if sets else load_model
        self.chosen: Model | ModelSet | None = None
        self.setToolTip(f"The network and its weights. The models in {models_folder()} are listed.")
        self.box: QComboBox = choice({})
        self.box.setPlaceholderText("no model yet")
        self.browse_button = button(
            "Browse…", self.browse, "Choose a model (.safetensors) or a set of models (.json) anywhere."
        )
        self.import_button = button(
            "Import…", self._open_import, "Take a model of MONAI, nnU-Net, TotalSegmentator or torch into the folder."
        )
        self.setAcceptDrops(True)
        self.facts = caption()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        if none:
            line = row(self.box, self.browse_button)
            line.setStretch(0, 1)
            layout.addLayout(line)
            self.box.addItem(none)
            self.import_button.setParent(self)
            self.import_button.hide()
        else:
            layout.addWidget(self.box)
            layout.addLayout(row(self.browse_button, self.import_button))
        layout.addWidget(self.facts)
        for name, path in known_models(with_sample=with_sample, sets=sets).items():
            self._add(name, path)
        self.box.setCurrentIndex(min(0, self.box.count() - 1))
        self.box.currentIndexChanged.connect(self._load)
        self._load()

    @property
    def model(self) -> Model | None:
        """The chosen model, where one model was chosen and is read."""
        return self.chosen if isinstance(self.chosen, Model) else None

    @property
    def value(self) -> str:
        """The chosen file; empty without one."""
        return str(self.box.currentData() or "")

    @value.setter
    def value(self, path: str) -> None:
        if path and path != self.value and Path(path).is_file():
            self.select(Path(path))

    def browse(self) -> None:
        """Ask for a file and choose it."""
        path, _ = QFileDialog.getOpenFileName(self, "Choose a model", str(models_folder()), _FILTER)
        if path:
            self.select(Path(path))

    def _open_import(self) -> None:
        self.import_model()

    def import_model(self, source: Path | None = None) -> ImportModel:
        """Open the dialog that takes a model of another program; source: what was dropped."""
        dialog = ImportModel(self._ask, self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.imported.connect(self.select)
        dialog.open()
        if source is not None:
            dialog.choose(source)
        return dialog

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802  # Qt's name
        accept_one_path(event)

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802  # Qt's name
        """A model or a set of models is chosen; anything else is looked at by the dialog."""
        path = dropped_path(event)
        if is_model_path(path) or path.suffix.lower() == ".json":
            self.select(path)
        else:
            self.import_model(path)

    def select(self, path: Path) -> None:
        """Choose a model file; it is read again even where it is the chosen one."""
        self.box.setCurrentIndex(self.offer(path))
        self._load()

    def offer(self, path: Path) -> int:
        """List a model file, and return its place in the list."""
        listed = [self.box.itemData(i) for i in range(self.box.count())]  # Qt's findData knows no equal paths
        if path in listed:
            return listed.index(path)
        name = _shown(path)
        self._add(name if self.box.findText(name) < 0 else f"{name} in {path.parent}", path)
        return len(listed)

    def _add(self, name: str, path: Path) -> None:
        self.box.addItem(name, path)
        self.box.setItemData(self.box.count() - 1, str(path), Qt.ItemDataRole.ToolTipRole)

    def _load(self, _index: int = 0) -> None:
        path = self.box.currentData()
        self.box.setToolTip(str(path or ""))
        self.changed.emit(self.value)
        self.facts.setVisible(path is not None or not self.box.count())
        self.facts.setText("" if self.box.count() else _WHENCE)
        self._set_model(None)
        if path is not None:
            self.facts.setText("Reading…")
            self._ask(partial(_model_or_fault, path, self._read), partial(self._show, path))

    def _show(self, path: Path, read: Model | ModelSet | str) -> None:
        if path != self.box.currentData():
            return  # the user chose another one meanwhile
        if isinstance(read, str):
            self.facts.setText(read)
            return
        facts = facts_of(read) if isinstance(read, Model) else facts_of_set(read)
        details = details_of(read) if isinstance(read, Model) else ""
        self.facts.setToolTip(f"{facts}\n{details}".strip())
        self.facts.setText(facts)
        self._set_model(read)

    def _set_model(self, model: Model | ModelSet | None) -> None:
        self.chosen = model
        self.model_changed.emit(model)


def _model_or_fault(path: Path, read: Callable[[Path], Model | ModelSet]) -> Model | ModelSet | str:
    """In the worker: the model or set, or why the file is neither."""
    try:
        return read(path)
    except MedsegError as error:
        return str(error)


def known_models(*, with_sample: bool = True, sets: bool = False) -> dict[str, Path]:
    """{what the user reads: file} of the models folder, of its sets if wanted, and last the sample's model."""
    models = {_shown(path): path for path in (*list_models(), *(list_sets() if sets else ()))}
    if not with_sample:
        return models
    with suppress(FileError):  # a package without its sample files segments as well
        models["sample (CT phantom)"] = sample_files()["model"]
    return models


def _shown(path: Path) -> str:
    return path.stem if is_model_path(path) else f"{path.stem} (set)"


def facts_of(model: Model) -> str:
    """What the user should know about a model before a run: its labels, and which images it is for."""
    return f"{_names_in(model.spec.labels)}\n{about(model)}"


def details_of(model: Model) -> str:
    """How a model works, in a few short lines."""
    spec = model.spec
    patch = " × ".join(map(str, spec.patch_zyx))
    millimetres = " × ".join(f"{s:.3g}" for s in spec.spacing_zyx_mm or ())
    score = spec.training.validation.get("dice mean")
    validated = "" if score is None else f", Dice {score:.3f} in validation"
    before = f", after {spec.first.model.network}" if spec.first else ""
    mode = "" if spec.mode == "3d" else f", {spec.mode}"
    refiner = "" if spec.refines is None else f"refiner ({spec.refines.method}): "
    return (
        f"{refiner}{spec.network}{mode}{before}{validated}\n"
        f"{f'spacing {millimetres} mm' if millimetres else 'any spacing'}, patch {patch}\n"
        f"SHA-256 {model.sha256[:12]}"
    )


def facts_of_set(models: ModelSet) -> str:
    """What the user should know about a set before a run: its labels, and what is in it."""
    members = [member.model for member in models.members]
    crop = ""
    if models.crop is not None:
        crop = f"{models.crop.model.path.stem} looks first, the others in the box that it finds\n"
    return (
        f"{len(members)} model{'s' * (len(members) != 1)}, one after the other; the first that labels a voxel decides\n"
        f"{_names_in(models.labels)}\n"
        f"{', '.join(model.path.stem for model in members)}\n"
        f"{crop}{about(members[0])}"
    )


def _names_in(labels: Mapping[int, str]) -> str:
    names = [name or f"label {label}" for label, name in labels.items()]
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"{len(names)} label{'s' * (len(names) != 1)}: {shown}"
