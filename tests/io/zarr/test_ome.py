"""The OME metadata alone: what is understood, and the message for what is not."""

from __future__ import annotations

from typing import Any

import pytest

from napari_medseg.errors import FileError
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
