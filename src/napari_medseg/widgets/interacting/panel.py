"""The Interact panel: an object from a click, and corrections with napari's own tools."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QFileDialog,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_medseg.errors import InputError
from napari_medseg.interactive.desk import View
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.interactive.slices import (
    SliceQuality,
    correct_by_network,
    next_slice,
    painted_slices,
    slice_quality,
)
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.canvas.jump import show_voxel
from napari_medseg.widgets.canvas.layers import (
    bare,
    path_of,
    set_label_names,
    to_segmentation,
    to_volume,
)
from napari_medseg.widgets.canvas.linked.three_views import linked_models, toggle_three_views
from napari_medseg.widgets.fields.docked_panel import Panel
from napari_medseg.widgets.fields.forms import button, caption, form, reporting, row
from napari_medseg.widgets.fields.layer_box import WAITS_FOR_IMAGE, Connections, LayerBox
from napari_medseg.widgets.interacting.as_python import session_script
from napari_medseg.widgets.interacting.earlier_box import EarlierBox
from napari_medseg.widgets.interacting.filling import Filling
from napari_medseg.widgets.interacting.guided_box import GuidedBox
from napari_medseg.widgets.interacting.object_list import ObjectList, ObjectRow
from napari_medseg.widgets.interacting.slices_box import SlicesBox
from napari_medseg.widgets.interacting.tool_keys import ToolKeys
from napari_medseg.widgets.interacting.training_rows import DoneWork
from napari_medseg.widgets.interacting.work_on_image import WorkOnImage
from napari_medseg.widgets.labelling.layer_labels import full_colours, hidden_labels, show_colours, with_hidden
from napari_medseg.widgets.work.background import Background

if TYPE_CHECKING:
    from napari import Viewer

_TOOLS = {
    "P": ("Point", "points", "add", "Click on the object, in slices (2D)."),
    "S": ("Scribble", "strokes", "add_path", "Draw over the object."),
    "B": ("Box", "strokes", "add_rectangle", "Draw a box around the object: it lies nowhere else."),
    "L": ("Lasso", "strokes", "add_polygon_lasso", "Draw around the object in this slice."),
    "M": (
        "Paint",
        "labels",
        "paint",
        "Paint or erase the object in a slice: there it is exactly what you then see. What was found there counts too: "
        "erase first what is wrong.",
    ),
}
"""{key: name, layer, napari's mode, tooltip}"""
_BEGIN = "Take a tool to begin: each click or stroke becomes a mask."
_FIRST = {
    "P": "Click on the object in the image.",
    "S": "Draw a line over the object.",
    "B": "Draw a box around the object.",
    "L": "Draw around the object in this slice.",
    "M": "Paint two or more slices, then Fill. In a slice that you paint, what is shown there already counts too.",
}
"""{key: what to do with its tool before the object has a mask}"""
_GO_ON = "Correct where it is wrong (T: not here), or press A to accept it, N for another object. Save writes a file."
_CORRECT = "Take a tool to correct it where it is wrong, or press A to accept it, N for another object. Save writes it."
_FILL = "Fill between slices or the volume, or paint more. In a slice that you paint, what is shown there counts too."
_CHANGES = ("data", "scale", "translate", "rotate", "shear", "affine", "units")
"""The events of an image layer after which it may show something else, or show it elsewhere."""
_LARGEST_LABEL = 65535
"""What the layer of the work can hold: 16 bits a voxel."""
_SUFFIX = ".nii.gz"
"""Of a file of labels that is saved under a name without one."""


class InteractPanel(Panel):
    """Opens a session on an image layer with the first tool that is taken."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.work: WorkOnImage | None = None
        self._done = DoneWork(napari_viewer)
        self._rated: tuple[View, int] | None = None
        """What the bar of slices was last asked for."""
        self._colouring = Background(self)
        self.image = LayerBox(napari_viewer, Image, "The image to segment.")
        self.start = LayerBox(
            napari_viewer,
            Labels,
            "A result to correct, as of Segment.",
            without=lambda: () if self.work is None else self.work.canvas.layers,
        )
        self.guided = GuidedBox(Background(self).ask)
        self.tools = {key: self._tool(key) for key in _TOOLS}
        self.sign = QPushButton()
        self.sign.setCheckable(True)
        self.sign.setToolTip("T: whether what you draw is the object, or is not.")
        calls: dict[str, Callable[[], None]] = {key: partial(self.take, key) for key in _TOOLS}
        calls |= {"T": self.sign.toggle, "N": self.next_object, "A": self.accept, "Escape": self.leave}
        self._keys = ToolKeys(calls | {"Control-Z": self.undo, "Control-Shift-Z": self.redo})
        self.on_demand = QCheckBox("Run on demand")
        self.on_demand.setToolTip("Draw several strokes first; Run takes them as one change.")
        self.preview = QCheckBox("Preview")
        self.preview.setChecked(True)
        self.preview.setToolTip(
            "Show what a click would change while the mouse rests: points in slices, from the second on."
        )
        self.only_said = QCheckBox("Without guesses")
        self.only_said.setToolTip(
            "Train on this: of objects that you did not accept only painted slices, strokes and clicks count; what you "
            "said nothing about is not annotated."
        )
        self.objects = ObjectList()
        self.filling = Filling(self, lambda: self.work)
        self.slices = SlicesBox(self.filling.runner)
        self._make_buttons()
        self.earlier = EarlierBox(lambda: to_volume(self.image.layer, napari_viewer.layers))
        self.status = caption()
        self._lay_out()
        self._connect()
        self._on_sign(False)
        self._follow_image(self.image.layer)

    def _make_buttons(self) -> None:
        self.run_button = button("Run", lambda: self._with(WorkOnImage.run), "Segment with what was drawn since.")
        self.undo_button = button("Undo", self.undo, "Ctrl+Z: prompts, masks and paint.")
        self.redo_button = button("Redo", self.redo, "Ctrl+Shift+Z")
        self.next_button = button("Next (N)", self.next_object, "N: draw for a new object.")
        self.accept_button = button("Accept (A)", self.accept, "A: lock the object, and go on to the next.")
        self.delete_button = button(
            "Delete", self.delete, "Delete the object with its prompts and its name; Undo brings it back."
        )
        self.correct_button = button("Correct", self.correct, "Start from these labels instead of nothing.")
        self.train_button = button(
            "Train on this",
            self.hand_over,
            "Open Train with this image, and with others on which you accepted objects.",
        )
        self.views_button = button("Three views", self.show_views, "Axial, coronal and sagittal, linked; or one again.")
        self.save_button = button("Save…", self.save, "Write the labels with their names to a file.")
        self.python_button = button("Copy as Python", self.copy_as_python, "Copy the script that does the same.")

    def _tool(self, key: str) -> QPushButton:
        name, _, _, tooltip = _TOOLS[key]
        made = button(f"{name} ({key})", partial(self.take, key), tooltip)
        made.setCheckable(True)
        return made

    def _lay_out(self) -> None:
        start = QWidget()
        start.setLayout(row(self.start, self.correct_button))
        layout = QVBoxLayout(self)
        layout.addWidget(self.status)
        layout.addLayout(form(Image=self.image, Start_from=start))
        layout.addWidget(self.guided)
        layout.addWidget(self.earlier)
        for keys in ("PSB", "LM"):
            extra = [self.sign] if keys == "LM" else []
            layout.addLayout(row(*(self.tools[key] for key in keys), *extra))
        layout.addLayout(row(self.preview, self.on_demand, self.run_button))
        layout.addLayout(row(self.undo_button, self.redo_button))
        layout.addWidget(self.objects, 1)
        layout.addLayout(row(self.next_button, self.accept_button, self.delete_button))
        layout.addWidget(self.slices)
        layout.addLayout(row(self.save_button, self.train_button, self.only_said))
        layout.addLayout(row(self.views_button, self.python_button))

    def _connect(self) -> None:
        self.sign.toggled.connect(self._on_sign)
        self.on_demand.toggled.connect(self._on_demand)
        self.preview.toggled.connect(self._on_preview)
        self.image.layer_changed.connect(self._follow_image)
        self.start.layer_changed.connect(self._update)
        self._follows = Connections((self._viewer.layers.selection.events.active,), self._update)
        self.destroyed.connect(self._follows.disconnect)
        self.guided.asked.connect(self.correct_with_model)
        self.earlier.wanted.connect(self.resume)
        self.earlier.changed.connect(self._update)
        self.slices.fill.connect(self.fill)
        self.slices.next.connect(self.look_at_next_slice)
        self.slices.bar.wanted.connect(self._look_at_slice)
        self.objects.chosen.connect(lambda label: self._with(lambda work: work.choose(label)))
        self.objects.shown.connect(self._on_shown)
        self.objects.locked.connect(self._on_lock)
        self.objects.renamed.connect(self._on_rename)
        self.objects.deleted.connect(self._delete)
        self.objects.wanted.connect(self._jump)

    @property
    def has_begun_nothing(self) -> bool:
        """Whether earlier work is offered: nothing was done yet that is not in a log of its own."""
        if self.work is None:
            return True
        view = self.work.view
        return not (self.work.queue.left or view.can_undo or view.can_redo)

    def take(self, key: str) -> None:
        """Take the tool of a key; the first one opens the session."""
        taken = False
        with reporting():
            work = self._open()
            _, layer, mode, _ = _TOOLS[key]
            chosen = getattr(work.canvas, layer)
            self._viewer.layers.selection.active = chosen
            in_3d = key == "P" and self._viewer.dims.ndisplay == 3
            chosen.mode = "pan_zoom" if in_3d else mode
            taken = True
        self._show_tool(key if taken else "")

    def leave(self) -> None:
        """Put the tool down."""
        self._with(WorkOnImage.leave_tools)
        self._show_tool("")

    def undo(self) -> None:
        self._with(lambda work: work.do(InteractiveSession.undo))

    def redo(self) -> None:
        self._with(lambda work: work.do(InteractiveSession.redo))

    def next_object(self) -> None:
        self._with(lambda work: work.choose(work.next_label()))
        self.sign.setChecked(False)

    def accept(self) -> None:
        """Lock the object, and go on to the next."""
        self._with(WorkOnImage.accept)
        self.sign.setChecked(False)

    def delete(self) -> None:
        """Delete the object that is drawn."""
        self._with(lambda work: self._delete(work.label))

    def resume(self, log: Path) -> None:
        """Go on with earlier work on this image."""
        with reporting():
            self._open().resume(log)

    def correct(self) -> None:
        """Start from the labels of a layer."""
        with reporting():
            given: Segmentation = to_segmentation(self.start.layer, self._viewer.layers)
            work = self._open()
            work.do(partial(_start_from, given=given))

    def correct_with_model(self) -> None:
        """Correct the labels by what was drawn and the chosen R-Net; what comes is a change like any other."""
        model = self.guided.model
        assert model is not None, "the button is hidden without a model"
        self._with(lambda work: work.do(partial(correct_by_network, model=model)))

    def fill(self, between: bool) -> None:
        """Fill the object from its painted slices; what comes is a change like any other."""
        config, model = self.slices.config, self.guided.fills
        self._with(lambda work: self.filling.start(work, config, model, between=between))

    def look_at_next_slice(self) -> None:
        """Show the slice that is worth painting next."""

        def show(found: tuple[int, int] | None) -> None:
            if found is None:
                show_info("every slice of this object is painted")
            elif self.work is not None:
                self._show_slice(*found)

        self._with(
            lambda work: work.compute(partial(next_slice, label=work.label, axis=work.canvas.slice_shown()[0]), show)
        )

    def hand_over(self) -> None:
        """Open Train with this image and its labels as a row, and those on which objects were accepted before."""
        assert self.work is not None, "the button is off without a session"
        if self.only_said.isChecked():
            take = partial(self._done.hand_over_said, self.work.image)
            self._with(lambda work: work.queue.ask(work.said, take))
        else:
            self._done.hand_over(self.work.image, self.work.canvas.labels)

    def save(self) -> None:
        """Ask for a file, and write the labels into it."""
        assert self.work is not None, "the button is off without a session"
        opened = path_of(self.work.image)
        name = re.sub(r"[/\\]", "_", self.work.image.name) + f"_labels{_SUFFIX}"
        given = str(Path(opened).with_name(name)) if opened else name
        kinds = f"NIfTI (*{_SUFFIX} *.nii);;NRRD (*.nrrd);;All files (*)"
        chosen, kind = QFileDialog.getSaveFileName(self, "Save the labels", given, kinds)
        if not chosen:
            return
        path = Path(chosen)
        if not path.suffix:
            path = path.with_name(path.name + (".nrrd" if kind.startswith("NRRD") else _SUFFIX))
            if path.exists() and not self._may_replace(path):  # the dialog asked about the name without the suffix
                return
        self._with(lambda work: work.save(path))

    def _may_replace(self, path: Path) -> bool:
        buttons = QMessageBox.StandardButton
        asked = f"{path.name} exists already. Replace it?"
        answer = QMessageBox.question(self, "Save the labels", asked, buttons.Yes | buttons.No, buttons.No)
        return bool(answer == buttons.Yes)

    def show_views(self) -> None:
        """Show three linked views, or one again."""
        with reporting():
            toggle_three_views(self._viewer)
            self._link_views()

    def copy_as_python(self) -> None:
        """The script that does the session again, to the clipboard."""
        assert self.work is not None, "the button is off without a session"
        path = path_of(self.work.image) or f"{self.work.image.name}.nii.gz"
        view = self.work.view
        QApplication.clipboard().setText(session_script(path, str(view.log or "work.json"), view.prompts))

    def event(self, event: QEvent) -> bool:
        """The cross of the dock closes no panel: napari takes it out of the window, and keeps it."""
        if event.type() == QEvent.Type.Close or (event.type() == QEvent.Type.ParentChange and self.parent() is None):
            self._close()
        return super().event(event)

    def _open(self) -> WorkOnImage:
        if self.work is not None and self.work.canvas.labels not in self._viewer.layers:
            goes_on = "" if self.has_begun_nothing else "; Resume goes on with the earlier work"
            show_info(f"the labels of the work were removed: it begins anew{goes_on}")
            self._close()
        elif self.work is not None and self.work.canvas.put_back():
            show_info("a layer of the work was removed: it is back; Undo takes prompts back")
        if self.work is None:
            self.work = WorkOnImage(self._viewer, self.image.layer, self)
            self.work.on_demand = self.on_demand.isChecked()
            self.work.hover.is_on = self.preview.isChecked()
            self.work.choose(self.work.label, positive=not self.sign.isChecked())
            self.work.changed.connect(self._update)
            self.destroyed.connect(self.work.canvas.close)
            self._follows_image = Connections(
                [self.work.image.events[name] for name in _CHANGES], self._on_change_of_image
            )
            self.destroyed.connect(self._follows_image.disconnect)
            self._keys.bind(self.work.canvas.layers)
            self._link_views()
            self.start.refresh()  # without the labels of the work itself
            self._update()
        return self.work

    def _close(self) -> None:
        if self.work is not None:
            closed, self.work = self.work, None
            self._follows_image.disconnect()
            self._keys.unbind()
            closed.ended.connect(partial(self._on_end, closed))
            closed.close()
            self.start.refresh()
            self.filling.runner.cancel()

    def _on_change_of_image(self, _event: object) -> None:
        """What was done belongs to the image as it was: its work ends, and is kept."""
        change = self.work.change_of_image if self.work is not None else ""
        if self.work is None or not change:
            return
        kept = "" if self.has_begun_nothing else ", and its work is kept: Resume offers it where that image is"
        show_info(f"layer {self.work.image.name!r} {change}{kept}; take a tool to begin anew")
        self._done.forget(self.work.image)
        self._close()
        self._show_tool("")
        self._follow_image(self.image.layer)

    def _on_end(self, closed: WorkOnImage) -> None:
        """What a closed session holds is known, and its log is one of earlier work, for a later panel, too."""
        if closed.view.locked and not closed.change_of_image:
            self._done.add(closed.image, closed.canvas.labels)
        window = getattr(self._viewer, "window", None)
        docked = window.dock_widgets.values() if window is not None else ()
        for panel in (self, *docked):
            if isinstance(panel, InteractPanel) and panel.has_begun_nothing and panel.image.layer == closed.image:
                panel.earlier.look()

    def _link_views(self) -> None:
        """Paint and keys count in each of the linked views."""
        models = linked_models(self._viewer)
        if self.work is None or not models:
            return
        for model in models:
            copies = tuple(model.layers[layer.name] for layer in self.work.canvas.layers if layer.name in model.layers)
            self._keys.bind(copies)
            for copy in copies:
                if isinstance(copy, Labels):
                    self.work.canvas.follow_copy(copy)
        self.work.choose(self.work.label)  # copying set back what a new click says

    def _with(self, act: Callable[[WorkOnImage], object]) -> None:
        if self.work is not None:
            with reporting():
                act(self.work)

    def _follow_image(self, layer: Image | None) -> None:
        """Another image: its own session, and the offer of what was done on it before."""
        if self.work is not None and self.work.image != layer:  # napari hands plugins proxies
            self._close()
        self.earlier.clear()
        self._update()
        if layer is not None and self.work is None:
            self.earlier.look()

    def _on_sign(self, negative: bool) -> None:
        self.sign.setText("− not here (T)" if negative else "+ here (T)")
        self._with(lambda work: work.choose(work.label, positive=not negative))

    def _on_demand(self, waits: bool) -> None:
        self._with(lambda work: setattr(work, "on_demand", waits))
        if not waits:
            self._with(WorkOnImage.run)
        self._update()

    def _on_preview(self, shown: bool) -> None:
        self._with(lambda work: setattr(work.hover, "is_on", shown))
        if not shown:
            self._with(lambda work: work.hover.clear())

    def _on_lock(self, label: int, lock: bool) -> None:
        self._with(lambda work: work.do(lambda s: s.lock(label) if lock else s.unlock(label)))

    def _on_rename(self, label: int, name: str) -> None:
        self._with(lambda work: work.do(lambda s: s.rename(label, name)))

    def _delete(self, label: int) -> None:
        self._with(lambda work: work.do(partial(_deleted, label=label)))

    def _on_shown(self, label: int, shown: bool) -> None:
        """Hide an object, or show it again; what is hidden stays in the session."""
        assert self.work is not None, "the list is empty without a session"
        layer = bare(self.work.canvas.labels)
        hidden = hidden_labels(layer) - {label} if shown else hidden_labels(layer) | {label}
        full, labels = full_colours(layer), [*self.work.view.millilitres]

        def take(colours: Any) -> None:
            show_colours(layer, full, colours)
            self._update()

        self._colouring.ask(partial(with_hidden, full, labels, hidden, layer.dtype), take)

    def _jump(self, label: int) -> None:
        def middle(session: InteractiveSession) -> tuple[int, int, int] | None:
            mask = session.mask(label)
            z, y, x = ((side.start + side.stop) // 2 for side in mask.box)
            return (z, y, x) if mask else None

        def show(at: tuple[int, int, int] | None) -> None:
            if at is not None and self.work is not None:
                show_voxel(self._viewer, self.work.image, at, self._viewer.layers)

        self._with(lambda work: work.compute(middle, show))

    def _look_at_slice(self, index: int) -> None:
        quality = self.slices.bar.quality
        if quality is not None:
            self._show_slice(quality.axis, index)

    def _show_slice(self, axis: int, index: int) -> None:
        """Show a slice of the volume as a plane, whichever axis it is along."""
        if self.work is not None:
            self.work.canvas.show_slice(axis, index)

    def _show_tool(self, key: str) -> None:
        for name, tool in self.tools.items():
            tool.setChecked(name == key)
        self._update()

    def _update(self, _: object = None) -> None:
        """Buttons and list follow the session."""
        work, has_image = self.work, self.image.layer is not None
        for tool in self.tools.values():
            tool.setEnabled(has_image)
        for made in (self.next_button, self.sign):
            made.setEnabled(work is not None)
        self._enable_what_has_use()
        self.earlier.setVisible(self.earlier.count > 0 and self.has_begun_nothing)
        self.slices.setVisible(work is None or not _is_one_slice(work))
        self.views_button.setEnabled(has_image or bool(linked_models(self._viewer)))
        self.run_button.setEnabled(work is not None and self.on_demand.isChecked())
        self.correct_button.setEnabled(has_image and self.start.layer is not None)
        self.guided.set_ready(work is not None and bool(work.view.millilitres))
        if work is None:
            self.objects.show_rows([], 0)
            self.slices.set_ready(has_object=False, painted=0)
            self.slices.bar.show_quality(None)
            self.status.setText(_BEGIN if has_image else WAITS_FOR_IMAGE)
            return
        set_label_names(work.canvas.labels, _names(work))
        self.objects.show_rows(self._rows(work), work.label)
        self._update_slices(work)
        left = work.queue.left
        self.status.setText(f"Working: {left} to do." if left else self._next_step(work))

    def _enable_what_has_use(self) -> None:
        """Buttons of what was done, or of an object: on where there is such a thing."""
        view = self.work.view if self.work is not None else View()
        waits = self.work is not None and self.work.queue.left > 0
        for made in (self.save_button, self.train_button):
            made.setEnabled(bool(view.millilitres))
        self.python_button.setEnabled(bool(view.prompts))
        self.undo_button.setEnabled(waits or view.can_undo)
        self.redo_button.setEnabled(view.can_redo)
        label = self.work.label if self.work is not None else 0
        self.accept_button.setEnabled(waits or label in view.millilitres)
        self.delete_button.setEnabled(label in view.millilitres or label in view.names)

    def _next_step(self, work: WorkOnImage) -> str:
        """What the user can do now."""
        if self._viewer.layers.selection.active not in work.canvas.layers:
            return "Another layer is active: take a tool to draw; the keys work then, too."
        key = next((key for key, tool in self.tools.items() if tool.isChecked()), "")
        if key != "M" or _is_one_slice(work):
            go_on = _GO_ON if key else _CORRECT
            first = "Paint the object." if key == "M" else _FIRST.get(key, "Take a tool to draw.")
            return go_on if work.label in work.view.millilitres else first
        painted = painted_slices(work.view.prompts, work.label)
        return _FILL if max(map(len, painted.values()), default=0) > 1 else _FIRST[key]

    def _update_slices(self, work: WorkOnImage) -> None:
        """The bar of slices follows the object; the worker rates them once for each change."""
        painted = max((len(found) for found in painted_slices(work.view.prompts, work.label).values()), default=0)
        self.slices.set_ready(has_object=work.label in work.view.millilitres, painted=painted)
        asked = (work.view, work.label)
        if self._rated is not None and self._rated[0] is asked[0] and self._rated[1] == asked[1]:
            return
        self._rated = asked

        def show(quality: SliceQuality | None) -> None:
            if self._rated is asked:
                indices = range(quality.first, quality.first + len(quality.values)) if quality else ()
                steps = work.canvas.slider_steps(quality.axis, indices) if quality else ()
                self.slices.bar.show_quality(quality, steps)

        if painted:
            work.compute(partial(slice_quality, label=work.label), show)
        else:
            show(None)

    def _rows(self, work: WorkOnImage) -> list[ObjectRow]:
        layer = bare(work.canvas.labels)
        colours, hidden = full_colours(layer), hidden_labels(layer)
        return [
            ObjectRow(
                label,
                name,
                work.view.millilitres.get(label, 0.0),
                label in work.view.locked,
                _colour(colours, label),
                label not in hidden,
            )
            for label, name in _names(work).items()
        ]


def _is_one_slice(work: WorkOnImage) -> bool:
    """Whether the image is 2D: nothing lies between slices, or beyond them."""
    return 1 in work.volume.grid.shape


def _names(work: WorkOnImage) -> dict[int, str]:
    """{label: what it is called} of all objects, and of the one that is drawn."""
    names = work.view.names
    return {k: names.get(k, f"label {k}") for k in sorted({*work.view.millilitres, *names, work.label})}


def _colour(colours: Any, label: int) -> tuple[float, float, float, float]:
    red, green, blue, alpha = (float(v) for v in colours.map(label))
    return red, green, blue, alpha


def _deleted(session: InteractiveSession, label: int) -> str:
    """Delete an object, and tell which; nothing is done where there is none."""
    if label not in {*session.labels, *session.names, *(prompt.label for prompt in session.prompts)}:
        return ""
    name = session.called(label)
    session.delete(label)
    return f"label {name} is deleted: Undo brings it back"


def _start_from(session: InteractiveSession, given: Segmentation) -> str:
    """Start from labels, and tell which objects they replace.

    Raises InputError for ids that the layer of the work cannot hold.
    """
    largest = int(np.max(given.data[...], initial=0))
    if largest > _LARGEST_LABEL:
        raise InputError(f"{given.name} has the label {largest}, and labels up to {_LARGEST_LABEL} can be corrected")
    before = {label: session.mask(label) for label in session.labels}
    called_before = {label: session.called(label) for label in before}
    session.start_from(given)
    replaced = [called_before[label] for label, mask in before.items() if session.mask(label) is not mask]
    return f"{given.name} takes the place of label {', '.join(replaced)}: Undo brings it back" if replaced else ""
