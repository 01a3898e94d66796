"""How good a segmentation is: counts of voxels, distances of surfaces, and a report of both per label.

The modules say `scipy.stats` and not `from scipy import stats`: SciPy loads its parts when they are first used, in the
worker of a panel, and not while a window waits for the panel to open.
"""

from napari_medseg.metrics.pairwise.comparison import Comparison, evaluate
from napari_medseg.metrics.pairwise.scores import Row, Scores, combine

__all__ = ["Comparison", "Row", "Scores", "combine", "evaluate"]
