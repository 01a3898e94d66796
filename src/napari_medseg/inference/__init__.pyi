from .engine import estimate, iter_segment, provenance, require_fit, segment
from .objects.instances import instances, iter_instances
from .source.regions import segment_regions

__all__ = [
    "estimate",
    "instances",
    "iter_instances",
    "iter_segment",
    "provenance",
    "require_fit",
    "segment",
    "segment_regions",
]
