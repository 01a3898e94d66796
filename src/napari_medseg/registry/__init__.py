"""The table of networks, and what an entry of it is."""

from napari_medseg.registry.spec import (
    COMMON,
    FAMILIES,
    Argument,
    NetworkSpec,
    Parameter,
    PresetName,
    Supervision,
    Takes,
    shown,
)
from napari_medseg.registry.table import network, networks

__all__ = [
    "COMMON",
    "FAMILIES",
    "Argument",
    "NetworkSpec",
    "Parameter",
    "PresetName",
    "Supervision",
    "Takes",
    "network",
    "networks",
    "shown",
]
