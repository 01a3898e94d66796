"""Segmentation of volumes larger than memory: `iter_segment` and `segment`."""

from napari_medseg.inference.engine import estimate, iter_segment, provenance, require_fit, segment

__all__ = ["estimate", "iter_segment", "provenance", "require_fit", "segment"]
