"""The surface of a mask by counts of marching cubes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation
from skimage.measure import marching_cubes, mesh_surface_area

from napari_medseg.metrics.pairwise.marching_cubes import area_and_volume, cube_kinds, polygons, triangulations

Mask = np.ndarray[Any, np.dtype[np.bool_]]
MM = np.eye(3)
ANISOTROPIC = np.diag([3.0, 1.5, 0.5])
masks = hnp.arrays(bool, (3, 4, 5))


def ball(radius: float) -> Mask:
    z, y, x = np.ogrid[-20:21, -20:21, -20:21]
    return np.asarray(z**2 + y**2 + x**2 <= radius**2)


def test_one_voxel_is_an_octahedron() -> None:
    one = np.ones((1, 1, 1), bool)
    assert area_and_volume(one, MM) == pytest.approx((math.sqrt(3), 1 / 6))
    # Four pairs of triangles with the corners (1.5, 0, 0), (0, 0.75, 0) and (0, 0, 0.25).
    triangle = math.hypot(1.5 * 0.75, 1.5 * 0.25, 0.75 * 0.25) / 2
    assert area_and_volume(one, ANISOTROPIC) == pytest.approx((8 * triangle, 1.5 * 0.75 * 0.25 * 8 / 6))


@pytest.mark.parametrize(("a", "b", "c"), [(3, 4, 6), (1, 4, 6)], ids=["block", "one slice"])
def test_a_block_is_a_box_with_bevelled_edges(a: int, b: int, c: int) -> None:
    """By hand, for a x b x c voxels: faces of (a - 1)(b - 1), strips of width sqrt(1/2) along edges, 8 corners."""
    faces = 2 * ((a - 1) * (b - 1) + (a - 1) * (c - 1) + (b - 1) * (c - 1))
    edges = 4 * (a - 1 + b - 1 + c - 1)
    area, volume = area_and_volume(np.ones((a, b, c), bool), MM)
    assert area == pytest.approx(faces + edges * math.sqrt(0.5) + math.sqrt(3))
    assert volume == pytest.approx((a - 1) * (b - 1) * (c - 1) + faces / 2 + edges / 8 + 1 / 6)


def test_an_empty_mask_has_no_surface() -> None:
    assert area_and_volume(np.zeros((2, 3, 4), bool), MM) == (0.0, 0.0)


@pytest.mark.parametrize("step_mm", [MM, ANISOTROPIC], ids=["isotropic", "anisotropic"])
def test_a_ball_is_measured_as_by_a_mesh(step_mm: np.ndarray[Any, Any]) -> None:
    """A ball has no face that could be cut in two ways: both have the same polygons, and ours the least area."""
    mask = ball(14)
    vertices, faces, _, _ = marching_cubes(mask.astype(float), 0.5, spacing=tuple(np.diag(step_mm)), method="lorensen")
    meshed = mesh_surface_area(vertices, faces)
    area, volume = area_and_volume(mask, step_mm)
    assert area <= meshed * (1 + 1e-9)
    assert area == pytest.approx(meshed, rel=1e-2)
    corners = vertices[faces]
    enclosed = abs(np.linalg.det(corners).sum()) / 6
    assert volume == pytest.approx(enclosed, rel=1e-3)


def test_every_cut_edge_of_every_kind_of_cube_is_a_corner_of_one_polygon() -> None:
    corners = np.array([(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)])
    edges = [(i, j) for i in range(8) for j in range(i) if np.abs(corners[i] - corners[j]).sum() == 1]
    for kind in range(256):
        cut = [(corners[i] + corners[j]) / 2 for i, j in edges if (kind >> i & 1) != (kind >> j & 1)]
        found = [tuple(point) for polygon in polygons(kind) for point in polygon.tolist()]
        assert sorted(found) == sorted(tuple(p.tolist()) for p in cut), f"kind {kind}"


def test_the_ways_to_cut_a_polygon_are_catalan_numbers() -> None:
    assert [triangulations(n).shape for n in (3, 4, 5, 6, 7)] == [
        (1, 1, 3),
        (2, 2, 3),
        (5, 3, 3),
        (14, 4, 3),
        (42, 5, 3),
    ]


def test_the_kinds_of_a_single_voxel_are_its_eight_corners() -> None:
    kinds = cube_kinds(np.ones((1, 1, 1), bool))
    assert kinds.ravel().tolist() == [128, 64, 32, 16, 8, 4, 2, 1]


@settings(max_examples=25, deadline=None)
@given(mask=masks, axes=st.permutations(range(3)), flips=st.lists(st.booleans(), min_size=3, max_size=3))
def test_flips_permutations_and_rotations_keep_area_and_volume(mask: Mask, axes: list[int], flips: list[bool]) -> None:
    expected = area_and_volume(mask, ANISOTROPIC)
    moved = mask.transpose(axes)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    assert area_and_volume(moved, ANISOTROPIC[:, axes]) == pytest.approx(expected)
    turned = Rotation.from_euler("xyz", [20, -35, 70], degrees=True).as_matrix() @ ANISOTROPIC
    assert area_and_volume(mask, turned) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(mask=masks)
def test_the_surface_is_closed(mask: Mask) -> None:
    """Only then does the volume not depend on where the origin lies."""
    far = np.pad(mask, ((50, 0), (30, 0), (0, 40)))
    assert area_and_volume(far, ANISOTROPIC) == pytest.approx(area_and_volume(mask, ANISOTROPIC), abs=1e-6)
