from .engine import estimate, iter_segment, provenance, require_fit, segment
from .source.regions import segment_regions

__all__ = ["estimate", "iter_segment", "provenance", "require_fit", "segment", "segment_regions"]
