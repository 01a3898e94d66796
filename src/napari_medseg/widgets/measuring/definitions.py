"""By which definitions the scores are computed."""

from __future__ import annotations

from qtpy.QtWidgets import QDoubleSpinBox

from napari_medseg.config import MetricsConfig, field_docs
from napari_medseg.widgets.fields.forms import choice
from napari_medseg.widgets.fields.remembered import remember

_PRESETS = {"survey": "survey (default)", "lits": "LiTS challenge", "chaos": "CHAOS challenge"}


class Definitions:
    """Two fields for the panel's form, remembered from session to session once they were recalled."""

    def __init__(self) -> None:
        docs = field_docs(MetricsConfig)
        self.preset = choice(_PRESETS, docs["preset"])
        self.tolerance = QDoubleSpinBox()
        self.tolerance.setRange(0, 1000)
        self.tolerance.setSuffix(" mm")
        self.tolerance.setValue(MetricsConfig().nsd_tolerance_mm)
        self.tolerance.setToolTip(docs["nsd_tolerance_mm"])

    def recall(self) -> None:
        """Take what was chosen in the session before; napari looks for it for a moment."""
        remember("metrics", preset=self.preset, nsd_tolerance_mm=self.tolerance)

    @property
    def config(self) -> MetricsConfig:
        """What the user chose."""
        return MetricsConfig(preset=self.preset.currentData(), nsd_tolerance_mm=self.tolerance.value())
