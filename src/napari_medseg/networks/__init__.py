"""One module per architecture: wiring of MONAI's blocks, tensors in, logits out; listed in `napari_medseg.registry`.

Python puts this package in the place of the public function ``napari_medseg.networks`` as soon as a network is built;
so that the name goes on listing the networks, the package can be called.
"""

from __future__ import annotations

import sys
from types import ModuleType

from napari_medseg import registry


class _Networks(ModuleType):
    def __call__(self) -> dict[str, registry.NetworkSpec]:
        return registry.networks()


sys.modules[__name__].__class__ = _Networks
