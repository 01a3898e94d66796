"""`ms.networks()` lists the networks before and after one was built."""

from __future__ import annotations

import napari_medseg as ms
from napari_medseg import registry


def test_networks_are_listed_also_after_one_was_built() -> None:
    registry.network("unet3d").build(channels=(4, 8))
    assert ms.networks() == registry.networks()
