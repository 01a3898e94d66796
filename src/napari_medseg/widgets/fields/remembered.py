"""Settings that outlive the session, through napari's plugin settings (`configurations` in the manifest)."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QComboBox

from napari_medseg.widgets.fields.forms import choose

_PLUGIN = "napari-medseg"


def remember(section: str, **fields: Any) -> None:
    """Give each field its remembered value, and remember what the user changes.

    section: of the manifest's `configurations`. fields: Qt drop-downs or magicgui widgets, each by its setting's name.
    Without effect where napari has no settings of plugins (before 0.9), or where a script builds a panel and the plugin
    is not installed.
    """
    settings = _settings(section)
    if settings is None:
        return
    for name, field in fields.items():
        if isinstance(field, QComboBox):
            choose(field, getattr(settings, name))
            field.currentIndexChanged.connect(lambda _, f=field, n=name: setattr(settings, n, f.currentData()))
        else:
            field.value = getattr(settings, name)
            field.changed.connect(lambda value, n=name: setattr(settings, n, value))


def _settings(section: str) -> Any:
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    try:
        return getattr(get_plugin_settings(_PLUGIN), section)
    except KeyError:
        return None
