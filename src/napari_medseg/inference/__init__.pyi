from .engine import estimate, iter_segment, provenance, require_fit, segment

__all__ = ["estimate", "iter_segment", "provenance", "require_fit", "segment"]
