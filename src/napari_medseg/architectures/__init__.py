"""One module per architecture: wiring of blocks, tensors in, logits out; listed in `napari_medseg.registry`.

The public names are listed in `__init__.pyi`, and loaded on first use: importing the package loads no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
