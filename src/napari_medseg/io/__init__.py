"""Volumes and labels from files and back: `read`, `read_segmentation`, `write`."""

from napari_medseg.io.formats import (
    FORMATS,
    Format,
    format_of,
    load,
    loader,
    peek,
    read,
    read_segmentation,
    strip_suffix,
    write,
)

__all__ = [
    "FORMATS",
    "Format",
    "format_of",
    "load",
    "loader",
    "peek",
    "read",
    "read_segmentation",
    "strip_suffix",
    "write",
]
