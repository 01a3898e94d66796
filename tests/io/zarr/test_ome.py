"""The OME metadata alone: what is understood, and the message for what is not."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from napari_medseg.errors import FileError, MedsegWarning
from napari_medseg.io.zarr.ome import channel_names, label_colours, label_names, parse_multiscale

AXES = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]


def level(path: str, scale: list[Any], **more: Any) -> dict[str, Any]:
    return {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}], **more}


def image(*levels: Any, axes: Any = AXES, **more: Any) -> dict[str, Any]:
    return {"version": "0.5", "multiscales": [{"axes": axes, "datasets": list(levels), **more}]}


def test_transformations_are_applied_in_their_order() -> None:
    own = [{"type": "scale", "scale": [4, 2, 1]}, {"type": "translation", "translation": [10, 0, 0]}]
    common = [{"type": "identity"}, {"type": "scale", "scale": [1, 1000, 1]}]
    found = parse_multiscale(
        image({"path": "0", "coordinateTransformations": own}, coordinateTransformations=common), "a.zarr"
    )
    assert found.path == "0"
    assert found.axes == ("z", "y", "x")
    assert found.scale_mm == pytest.approx({"z": 0.004, "y": 2.0, "x": 0.001})
    assert found.translation_mm == pytest.approx({"z": 0.01, "y": 0.0, "x": 0.0})


def test_of_the_coarser_levels_those_are_listed_that_are_understood() -> None:
    levels = (level("0", [1, 1, 1]), level("1", [2, 2, 2]), {"path": 7}, {"path": "3"}, level("4", [0, 8, 8]))
    found = parse_multiscale(image(*levels), "a.zarr")
    assert found.levels == (("0", [1, 1, 1]), ("1", [2, 2, 2]), ("3", []), ("4", []))


@pytest.mark.parametrize(
    ("ome", "match"),
    [
        pytest.param({}, "Object missing required field `multiscales`", id="nothing"),
        pytest.param({"multiscales": []}, r"`array` of length >= 1 - at `\$\.multiscales`", id="empty"),
        pytest.param({"multiscales": ["a"]}, r"in multiscales\[0\]: Expected `object`, got `str`", id="text"),
        pytest.param(image("a"), r"in multiscales\[0\]\.datasets\[0\]: Expected `object`, got `str`", id="dataset"),
        pytest.param(image(level("0", [True, 1, 1])), "Expected `float`, got `bool`", id="truth"),
        pytest.param(image(level("0", [10**400, 1, 1])), "Number out of range", id="digits"),
        pytest.param(image(level("0", [1, 1, 1e999])), "its scale must hold finite numbers", id="infinite"),
        pytest.param(image(level("0", ["\ud800", 1, 1])), "surrogates not allowed", id="half a character"),
        pytest.param({**image(axes=["z", "y", "x"]), "version": "0.3"}, "version 0.3 is not known", id="old version"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(ome: dict[str, Any], match: str) -> None:
    with pytest.raises(FileError, match=rf"^a\.zarr: .*{match}"):
        parse_multiscale(ome, "a.zarr")


def test_names_and_colours_of_labels_are_taken_row_by_row() -> None:
    names: list[Any] = [
        {"label-value": 1, "name": "liver"},
        {"label-value": "2", "name": "spleen"},
        None,
        {"name": "x"},
    ]
    colours: list[Any] = [
        {"label-value": 1, "rgba": [255, 0, 0, 255]},
        {"label-value": 2, "rgba": [256, 0, 0, 255]},
        {"label-value": -1, "rgba": [1, 2, 3, 4]},
        {"label-value": 2**31, "rgba": [1, 2, 3, 4]},
    ]
    ome = {"image-label": {"properties": names, "colors": colours}}
    assert label_names(ome) == {1: "liver"}
    assert label_colours(ome) == {1: (255, 0, 0)}
    for nothing in ({}, {"image-label": None}, {"image-label": {"properties": 3, "colors": {}}}):
        assert not label_names(nothing)
        assert not label_colours(nothing)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        pytest.param([{"label": "CT"}, {"label": "PET"}], ("CT", "PET"), id="all"),
        pytest.param([{"label": "CT"}], (), id="too few"),
        pytest.param([{"label": "CT"}, {"label": "PET"}, {"label": 3}], (), id="too many"),
        pytest.param([{"label": "CT"}, {"label": ""}], (), id="an empty one"),
    ],
)
def test_channel_names(channels: list[Any], expected: tuple[str, ...]) -> None:
    assert channel_names({"omero": {"channels": channels}}, 2) == expected


TO = {
    "S": "inferior-to-superior",
    "I": "superior-to-inferior",
    "P": "anterior-to-posterior",
    "A": "posterior-to-anterior",
    "L": "right-to-left",
    "R": "left-to-right",
}
LINES = ("SI", "PA", "LR")


def oriented(*directions: Any, names: str = "zyx") -> dict[str, Any]:
    """An image whose axes state these anatomical orientations; None states nothing."""
    axes = [
        {
            "name": name,
            "type": "space",
            "unit": "millimeter",
            **({} if to is None else {"orientation": {"type": "anatomical", "value": TO.get(to, to)}}),
        }
        for name, to in zip(names, directions, strict=True)
    ]
    own = [
        {"type": "scale", "scale": [3, 2, 1][-len(names) :]},
        {"type": "translation", "translation": [30, 20, 10][-len(names) :]},
    ]
    return image({"path": "0", "coordinateTransformations": own}, axes=axes)


@pytest.mark.parametrize(
    "directions", ["".join(d) for lines in permutations(LINES) for d in product(*lines)], ids=lambda d: str(d)
)
def test_each_of_the_48_orientations_is_honoured(directions: str) -> None:
    affine = parse_multiscale(oriented(*directions), "a.zarr").affine
    expected = np.zeros((4, 4))
    expected[3, 3] = 1
    for column, (to, step, first) in enumerate(zip(directions, (3, 2, 1), (30, 20, 10), strict=True)):
        row = next(number for number, line in enumerate(LINES) if to in line)
        sign = 1 if to in "SPL" else -1
        expected[row, column], expected[row, 3] = sign * step, sign * first
    np.testing.assert_array_equal(affine, expected)


@pytest.mark.parametrize(
    ("directions", "diagonal", "match"),
    [
        pytest.param((None, None, "R"), (3, 2, -1), "axes z, y is missing or not known", id="one axis"),
        pytest.param(("S", "A", None), (3, -2, 1), "axes x is missing or not known", id="two axes"),
        pytest.param(("distal-to-proximal", "A", "R"), (3, -2, -1), "axes z is missing or not known", id="a limb"),
        pytest.param(("x", "y", 3), (3, 2, 1), "the orientation of its axes is not known", id="nonsense"),
    ],
)
def test_an_orientation_that_is_stated_in_part_warns(
    directions: tuple[Any, ...], diagonal: tuple[int, ...], match: str
) -> None:
    with pytest.warns(MedsegWarning, match=match):
        affine = parse_multiscale(oriented(*directions), "a.zarr").affine
    assert tuple(np.diag(affine)[:3]) == diagonal


@pytest.mark.parametrize("directions", [("S", "S", "L"), ("S", "L", "R"), ("L", None, None)], ids=str)
def test_orientations_that_contradict_one_another_are_refused(directions: tuple[Any, ...]) -> None:
    with pytest.raises(FileError, match=r"^a\.zarr: two of its axes run along the same line of the body: z "):
        parse_multiscale(oriented(*directions), "a.zarr")


def test_the_axis_that_a_slice_lacks_runs_where_no_other_does() -> None:
    affine = parse_multiscale(oriented("I", "R", names="yx"), "a.zarr").affine
    np.testing.assert_array_equal(affine[:3, :3], [[0, -2, 0], [1, 0, 0], [0, 0, -1]])


def test_animals_on_four_feet_have_the_same_lines() -> None:
    affine = parse_multiscale(oriented("cranial-to-caudal", "dorsal-to-ventral", "R"), "a.zarr").affine
    assert tuple(np.diag(affine)[:3]) == (-3, -2, -1)
