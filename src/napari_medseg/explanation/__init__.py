"""Why a model said what it said: maps of the image over a label, a component or a voxel: `explain`, `iter_explain`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
