"""Where the prediction is wrong: a layer of the voxels that differ, and its surface coloured by its distance."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Surface
from napari.utils import Colormap, DirectLabelColormap
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_medseg.events import Work
from napari_medseg.geometry import FloatArray
from napari_medseg.metrics.pairwise.error_map import ERRORS, error_map_in_steps
from napari_medseg.metrics.pairwise.places import Place, all_boxes_in_steps, worst_place
from napari_medseg.metrics.pairwise.surface_mesh import SurfaceMesh, surface_distance_mesh_in_steps
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.canvas.error_view import ErrorView
from napari_medseg.widgets.canvas.layers import check_volume, labels_layer, surface_layer
from napari_medseg.widgets.canvas.surface_view import SurfaceView
from napari_medseg.widgets.fields.forms import button, caption, choice, choose, form, reporting, row

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Labels

    from napari_medseg.metrics import Scores
    from napari_medseg.widgets.measuring.compared_layers import ComparedLayers
    from napari_medseg.widgets.work.background import Background

_TOO_FAR, _TOO_SHORT, _OTHER = "#E69F00", "#56B4E9", "#CC79A7"
"""Told apart with any colour vision (Okabe and Ito 2008); on surfaces the first two mean the same as on voxels."""
_COLOURS = {1: _TOO_FAR, 2: _TOO_SHORT, 3: _OTHER}
_SIGNS = {"signed": "signed", "absolute": "absolute"}
_ALL_LABELS = {0: "all labels"}
_MOST_FACES = 25_000
"""A larger surface is thinned: without a graphics card napari would draw it for longer than 0.2 s."""
_COLOURED = 99
"""Percent of a surface's vertices whose distance the colours tell apart."""


class ErrorsTab(QWidget):
    """Adds layers of the errors of the two layers that are compared."""

    def __init__(self, viewer: Viewer, compared: ComparedLayers, background: Background) -> None:
        super().__init__()
        self._viewer = viewer
        self._compared = compared
        self._background = background
        self.errors_button = button(
            "Show errors",
            self._on_errors,
            "A layer of the voxels that differ, the two layers as contours, and a point at the worst voxel; press "
            "again to take them away.",
        )
        self.errors_button.setCheckable(True)
        self.error_view = ErrorView(viewer)
        self.legend = caption(" &nbsp; ".join(_legend(colour, ERRORS[i]) for i, colour in _COLOURS.items()))
        self.label = choice({}, "The label whose surface is shown; a click on a row of the table chooses it too.")
        self.sign = choice(_SIGNS, "Signed: orange where the prediction reaches too far, blue where it falls short.")
        self.surface_button = button(
            "Show surface distance",
            self.show_surface,
            "The prediction's surface in 3D, coloured by its distance to the reference's; the other layers are hidden.",
        )
        self.surface_view = SurfaceView(viewer, self)
        self.slices_button = button(
            "Back to slices", self.surface_view.show_slices, "Show again what the surface hid, in 2D."
        )
        self.slices_button.setEnabled(False)
        self.surface_view.is_on.connect(self.slices_button.setEnabled)
        self.range = caption()
        self._list_labels({})
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addWidget(self.errors_button)
        layout.addWidget(self.legend)
        layout.addSpacing(12)
        layout.addLayout(form(Label=self.label, Distance=self.sign))
        layout.addLayout(row(self.surface_button, self.slices_button))
        layout.addWidget(self.range)
        layout.addStretch(1)

    def show_scores(self, scores: Scores) -> None:
        """Offer the labels that both have."""
        self._list_labels({row.label: row.name for row in scores.rows if np.isfinite(row.msd_mm)})

    def choose_label(self, label: int) -> None:
        """Choose whose surface to show; nothing happens where the label has none in one of the two."""
        choose(self.label, label)

    def set_ready(self, ready: bool) -> None:
        """Whether there are two layers, and nothing runs."""
        for made in (self.errors_button, self.surface_button):
            made.setEnabled(ready)

    def _on_errors(self) -> None:
        if self.errors_button.isChecked():
            self.errors_button.setChecked(False)  # until there is something to see
            self.show_errors()
        else:
            self.error_view.clear()

    def show_errors(self) -> None:
        """Show the voxels that differ, and where the worst of them is."""
        with reporting():
            pair = self._compared.pair()
            work = partial(_coloured_errors, **pair.segmentations)
            self._background.ask_in_steps(work, partial(self._add_errors, pair.layers))

    def show_surface(self) -> None:
        """Add the surface of the chosen label, or of all, and look at it in 3D."""
        with reporting():
            pair = self._compared.pair()
            check_volume(pair.layers[1])
            label = self.label.currentData() or None
            self._background.ask_in_steps(
                partial(_drawable, pair.segmentations, label),
                partial(self._add_surface, pair.layers, self.label.currentText()),
            )

    def _add_errors(
        self, layers: tuple[Labels, Labels], found: tuple[Segmentation, DirectLabelColormap, Place | None]
    ) -> None:
        errors, colours, worst = found
        data, arguments, _ = labels_layer(errors, [layers[0], *self._compared.among])
        # Opaque: its colours, mixed with those of the labels beneath, would mean nothing.
        arguments |= {"name": f"{layers[0].name} errors", "colormap": colours, "opacity": 1.0}
        self.surface_view.show_slices()
        self.error_view.show(layers, self._viewer.add_labels(data, **arguments), worst, self._compared.among)
        self.errors_button.setChecked(True)

    def _add_surface(self, layers: tuple[Labels, Labels], label: str, meshes: tuple[SurfaceMesh, SurfaceMesh]) -> None:
        """meshes: the true one, and the one to draw."""
        measured, drawn = meshes
        (vertices, faces, signed), arguments, _ = surface_layer(drawn, layers[1], self._compared.among)
        is_signed = self.sign.currentData() == "signed"
        end = _end_of_colours(measured.distance_mm)
        layer = Surface(
            (vertices, faces, signed if is_signed else np.abs(signed)),
            **arguments,
            name=f"{label}: distance (mm)",
            colormap=_diverging() if is_signed else "viridis",
            contrast_limits=(-end if is_signed else 0.0, end),
            shading="smooth",
        )
        self._describe(label, layers, measured.distance_mm, end)
        if drawn is not measured:
            self.range.setText(f"{self.range.text()} Drawn with {len(faces):,} of {len(measured.faces):,} triangles.")
        self.surface_view.show(layer)

    def _describe(self, label: str, layers: tuple[Labels, Labels], signed_mm: FloatArray, end_mm: float) -> None:
        prediction, reference = (escape(layer.name) for layer in layers)
        colours = "orange: too far, blue: too short; " if self.sign.currentData() == "signed" else ""
        self.range.setText(
            f"<b>{escape(label)}</b>: the surface of {prediction} lies {signed_mm.min():.2f} to {signed_mm.max():+.2f} "
            f"mm off that of {reference} ({colours}{_COLOURED} % of it lies within {end_mm:.2f} mm, where the colours "
            f"end)."
        )

    def _list_labels(self, names: dict[int, str]) -> None:
        chosen = self.label.currentData()
        self.label.clear()
        for label, name in {**_ALL_LABELS, **names}.items():
            self.label.addItem(name, label)
        choose(self.label, chosen)


def _coloured_errors(
    *, prediction: Segmentation, reference: Segmentation
) -> Work[tuple[Segmentation, DirectLabelColormap, Place | None]]:
    """In the worker: the voxels that differ, their colours, and the worst place; None where neither holds a label.

    napari compiles such colours with numba at their first use, which would hold up the window for a second.
    """
    errors = yield from error_map_in_steps(prediction=prediction, reference=reference)
    nothing: dict[int | None, str] = {0: "transparent", None: "transparent"}
    colours = DirectLabelColormap(color_dict=nothing | _COLOURS)
    colours.map(np.zeros(1, errors.data.dtype))
    has_labels = bool((yield from all_boxes_in_steps(prediction, reference)))
    return errors, colours, worst_place(prediction=prediction, reference=reference) if has_labels else None


def _drawable(pair: dict[str, Segmentation], label: int | None) -> Work[tuple[SurfaceMesh, SurfaceMesh]]:
    """In the worker: the mesh, and a smaller one that is drawn without a pause."""
    mesh = yield from surface_distance_mesh_in_steps(**pair, label=label)
    return mesh, mesh.thinned(_MOST_FACES)


def _legend(colour: str, meaning: str) -> str:
    """A square of the colour and what it means, kept on one line."""
    return f"<span style='color:{colour}'>■</span>&nbsp;{meaning.replace(' ', '&nbsp;')}"


def _end_of_colours(signed_mm: FloatArray) -> float:
    """Distance in mm where the colours end; a few far places do not stretch them."""
    magnitudes = np.abs(signed_mm)
    return float(np.percentile(magnitudes, _COLOURED)) or float(magnitudes.max()) or 1.0


def _diverging() -> Colormap:
    return Colormap([_TOO_SHORT, "#f4f4f4", _TOO_FAR], name="too short - too far")
