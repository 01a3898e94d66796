"""How good a segmentation is: counts of voxels, distances of surfaces, and a report of both per label."""

from napari_medseg.metrics.report import Row, Scores, combine, evaluate

__all__ = ["Row", "Scores", "combine", "evaluate"]
