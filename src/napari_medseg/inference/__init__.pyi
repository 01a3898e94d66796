from .device import spare_one_core
from .engine import estimate, iter_segment, provenance, require_fit, segment

__all__ = [
    "estimate",
    "iter_segment",
    "provenance",
    "require_fit",
    "segment",
    "spare_one_core",
]
