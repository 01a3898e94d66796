"""The dock widgets: thin over the functions of the core. Qt, napari and magicgui live here and nowhere else.

The public names are listed in `__init__.pyi`, and loaded on first use: scripts in napari's console use them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
