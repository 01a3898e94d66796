"""`instances` on files, and `segment --instances`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_medseg as ms
from napari_medseg.cli import main
from objects_phantoms import balls


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    ms.write(tmp_path / "labels.nii.gz", balls())
    return tmp_path / "labels.nii.gz"


@pytest.mark.parametrize("name", ["objects.nii.gz", "objects.zarr"])
def test_objects_are_numbered(labels: Path, tmp_path: Path, name: str) -> None:
    assert main(["instances", str(labels), "-o", str(tmp_path / name)]) == 0
    found = ms.read_segmentation(tmp_path / name)
    expected = ms.instances(ms.read_segmentation(labels))
    assert np.array_equal(np.asarray(found.data), np.asarray(expected.data))
    assert found.grid.same_as(expected.grid)


def test_the_flags_are_heeded(labels: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts.nii.gz"
    flags = ["--method", "components", "--least-ml", "0.01", "--connectivity", "6"]
    assert main(["instances", str(labels), "-o", str(out), *flags]) == 0
    assert np.asarray(ms.read_segmentation(out).data).max() == 2, "two parts, without the speck"


def test_a_wrong_number_is_refused_in_one_line(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["instances", str(labels), "-o", str(tmp_path / "o.nii.gz"), "--neck", "2"]) == 2
    assert capsys.readouterr().err == "error: neck must be above 0 and at most 1; got 2.0\n"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [labels.name]
