"""Segmentation of volumes larger than memory: `iter_segment` and `segment`."""

from napari_medseg.inference.engine import iter_segment, require_fit, segment

__all__ = ["iter_segment", "require_fit", "segment"]
