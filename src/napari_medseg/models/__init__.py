"""Model files: what a model says of itself (`spec`), and how it is written, read and checked (`file`, `header`).

The public names are listed in `__init__.pyi`, and loaded on first use: importing the package loads no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
