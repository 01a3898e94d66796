"""Which outputs would replace an input."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_medseg.errors import InputError
from napari_medseg.io.outputs import check_keeps_inputs, output_paths


def test_a_series_of_a_folder_gives_its_output_a_name(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    series = tmp_path / "study#1.2.3"
    beside = str(tmp_path / "{name}_seg.nii.gz")
    assert output_paths([series], beside) == [tmp_path / "study#1.2.3_seg.nii.gz"]
    check_keeps_inputs([tmp_path / "study" / "a.nii.gz"], [tmp_path / "study#2.nii.gz"])


@pytest.mark.parametrize("name", ["t.nii.gz#0", "t.nii.gz"])
def test_a_part_of_a_file_is_kept_with_the_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "t.nii.gz").touch()
    with pytest.raises(InputError, match=r"t\.nii\.gz: the output would replace its input"):
        check_keeps_inputs([tmp_path / name], [tmp_path / "t.nii.gz"])


def test_a_store_that_holds_an_input_is_kept(tmp_path: Path) -> None:
    (tmp_path / "s.zarr" / "labels").mkdir(parents=True)
    with pytest.raises(InputError, match=r"s\.zarr: the output would replace its input"):
        check_keeps_inputs([tmp_path / "s.zarr" / "labels"], [tmp_path / "s.zarr"])
