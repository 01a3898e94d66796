"""napari-medseg: segment, train and measure 3D medical volumes in napari, in scripts and on the command line.

The public names are listed in `__init__.pyi`, and loaded on first use: importing the package loads no torch, no napari
and no Qt.
"""

import lazy_loader

from napari_medseg._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
