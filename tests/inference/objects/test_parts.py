"""Parts across blocks against the same on the whole array."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_medseg.config import Connectivity
from napari_medseg.inference.objects.parts import Finder, UnionFind, Walk
from objects_phantoms import BLOCKS, of_blobs


def test_parts_are_those_of_the_whole() -> None:
    labels = of_blobs(3)
    steps: dict[Connectivity, int] = {6: 1, 26: 3}
    for connectivity, order in steps.items():
        expected, count = ndimage.label(labels == 2, ndimage.generate_binary_structure(3, order))
        wanted = {
            (int(np.flatnonzero(expected == n)[0]), int((expected == n).sum()), place)
            for n, place in enumerate(map(str, ndimage.find_objects(expected)), start=1)
        }
        for voxels in BLOCKS:
            walk = Walk.over(labels, lambda found: np.where(found == 2, 1, 0), connectivity, voxels)
            finder = Finder(walk)
            for block in walk:
                finder.add(*block)
            _, parts = finder.result()
            assert {(p.first, p.voxels, str(p.box)) for p in parts.values()} == wanted
            assert len(parts) == count


def test_the_smallest_stands_for_all() -> None:
    joined = UnionFind()
    joined.join([(7, 9), (3, 4), (9, 4)])
    assert [joined.find(one) for one in (3, 4, 7, 9, 5)] == [3, 3, 3, 3, 5]
