"""What messages offer in place of a name that is none."""

from __future__ import annotations

import pytest

from napari_medseg.errors import did_you_mean


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("unet4d", "did you mean unet3d or unet2d? "),
        ("liver_ct", "did you mean Liver_CT or Liver? "),
        ("qqqq", ""),
    ],
    ids=["nearest_first", "other_case", "nothing_like_it"],
)
def test_the_nearest_names_are_offered_as_they_are_written(name: str, hint: str) -> None:
    assert did_you_mean(name, ["unet2d", "unet3d", "Liver", "Liver_CT"]) == hint
