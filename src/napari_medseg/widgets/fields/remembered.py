"""Settings that outlive the session, through napari's plugin settings (`configurations` in the manifest)."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QComboBox, QDoubleSpinBox

from napari_medseg.widgets.fields.forms import choose

_PLUGIN = "napari-medseg"


def remember(section: str, **fields: QComboBox | QDoubleSpinBox) -> None:
    """Give each field its remembered value, and remember what the user changes.

    Without effect where there is nothing to remember with: napari before 0.9, or a panel built by a script that has not
    installed the plugin.
    """
    settings = _settings(section)
    if settings is None:
        return
    for name, field in fields.items():
        if isinstance(field, QComboBox):
            choose(field, getattr(settings, name))
            field.currentIndexChanged.connect(lambda _, f=field, n=name: setattr(settings, n, f.currentData()))
        else:
            field.setValue(getattr(settings, name))
            field.valueChanged.connect(lambda value, n=name: setattr(settings, n, value))


def _settings(section: str) -> Any:
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    try:
        return getattr(get_plugin_settings(_PLUGIN), section)
    except KeyError:
        return None
