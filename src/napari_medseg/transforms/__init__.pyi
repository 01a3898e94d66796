from .annotated import Painted, only_annotated, painted_slices

__all__ = ["Painted", "only_annotated", "painted_slices"]
