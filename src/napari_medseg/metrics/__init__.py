"""How good a segmentation is: counts of voxels, distances of surfaces, instances, agreement, and studies of many cases.

The public names are listed in `__init__.pyi`, and loaded on first use.

The modules say `scipy.stats` and not `from scipy import stats`: SciPy loads its parts when they are first used, in the
worker of a panel, and not while a window waits for the panel to open.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
