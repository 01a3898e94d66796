"""How good a segmentation is: counts of voxels, distances of surfaces, and a report of both per label."""

from napari_medseg.metrics.comparison import Comparison, evaluate
from napari_medseg.metrics.report import Row, Scores, combine

__all__ = ["Comparison", "Row", "Scores", "combine", "evaluate"]
