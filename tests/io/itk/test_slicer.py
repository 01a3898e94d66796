"""Segmentations of 3D Slicer: one layer and several, where values mean other segments in other layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from napari_medseg import io
from napari_medseg.cli.describe import describe
from napari_medseg.errors import InputError
from napari_medseg.io.choice import ChoiceError
from napari_medseg.io.itk import slicer
from napari_medseg.volume import Segmentation

Rows = Sequence[tuple[str, int, int]]
"""(name, value, layer) of each segment."""
LAYERED = [("liver", 1, 0), ("vein", 2, 0), ("tumour", 1, 1)]


def seg_nrrd(path: Path, rows: Rows = LAYERED, layers: int = 2) -> Path:
    """Layer 0: 27 voxels of 1, one of 2. Layer 1: 24 voxels of 1, of which 8 lie on the first."""
    voxels = np.zeros((5, 6, 7, layers), np.uint8)
    voxels[1:4, 1:4, 1:4, 0] = 1
    voxels[4, 5, 6, 0] = 2
    if layers > 1:
        voxels[2:4, 2:5, 2:6, 1] = 1
    segments = "".join(
        f"Segment{n}_ID:=Segment_{n}\nSegment{n}_Name:={name}\nSegment{n}_LabelValue:={value}\n"
        f"Segment{n}_Layer:={layer}\nSegment{n}_Color:=0.{n} 0.2 1\n"
        for n, (name, value, layer) in enumerate(rows)
    )
    lists = ("2 ", "none ", "list ", 4) if layers > 1 else ("", "", "", 3)
    path.write_bytes(
        f"NRRD0004\ntype: unsigned char\ndimension: {lists[3]}\nspace: left-posterior-superior\n"
        f"sizes: {lists[0]}7 6 5\n"
        f"space directions: {lists[1]}(1,0,0) (0,1,0) (0,0,2)\nkinds: {lists[2]}domain domain domain\nencoding: raw\n"
        f"space origin: (10,20,30)\n{segments}\n".encode()
        + voxels.tobytes()
    )
    return path


def counts(labels: Segmentation) -> dict[str, int]:
    data = np.asarray(labels.data)
    return {name: int((data == label).sum()) for label, name in labels.labels.items()}


def test_a_value_means_another_segment_in_another_layer(tmp_path: Path) -> None:
    path = seg_nrrd(tmp_path / "a.seg.nrrd")
    choices = (f"{path}#0", f"{path}#1")
    says = r"a\.seg\.nrrd: a segmentation of 2 layers.*#0 holds liver \(1\), vein \(2\); .*#1 holds tumour \(1\)"
    for read in (io.load, io.read, io.read_segmentation, io.peek, describe):
        with pytest.raises(ChoiceError, match=says) as caught:
            read(path)
        assert caught.value.choices == choices
    first, second = (io.load(choice) for choice in choices)
    assert isinstance(first, Segmentation)
    assert isinstance(second, Segmentation)
    assert counts(first) == {"liver": 27, "vein": 1}
    assert counts(second) == {"tumour": 24}
    assert int(((np.asarray(first.data) == 1) & (np.asarray(second.data) == 1)).sum()) == 8
    assert first.colours == {1: (0, 51, 255), 2: (26, 51, 255)}
    assert second.colours == {1: (51, 51, 255)}
    assert first.grid.spacing == second.grid.spacing == (2.0, 1.0, 1.0)
    assert first.name == "a#0"
    assert io.peek(f"{path}#1").labels == {1: "tumour"}


def test_a_layer_that_is_none_is_refused(tmp_path: Path) -> None:
    path = seg_nrrd(tmp_path / "a.seg.nrrd")
    for part in ("2", "tumour", "-1"):
        with pytest.raises(InputError, match=f"#{re.escape(part)} is none of them: .*#0 holds liver"):
            io.read_segmentation(f"{path}#{part}")
    with pytest.raises(InputError, match="#0 chooses nothing"):
        io.read_segmentation(f"{seg_nrrd(tmp_path / 'b.seg.nrrd', layers=1)}#0")


def test_a_segment_of_a_layer_that_is_absent_names_nothing(tmp_path: Path) -> None:
    path = seg_nrrd(tmp_path / "a.seg.nrrd", [("tumour", 1, 1), ("liver", 2, 0)], layers=1)
    assert io.read_segmentation(path).labels == {2: "liver"}


def test_one_layer_is_said_to_be_a_segmentation(tmp_path: Path) -> None:
    path = seg_nrrd(tmp_path / "a.seg.nrrd", LAYERED[:2], layers=1)
    assert "note: a segmentation (1 liver, 2 vein): --labels lists its labels" in describe(path)
    assert "  1  liver  27 voxels" in describe(path, labels=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [("LabelValue", "-1"), ("LabelValue", "9" * 30), ("LabelValue", "x"), ("Layer", "x"), ("Layer", "")],
)
def test_a_segment_that_cannot_be_is_passed_over(key: str, value: str) -> None:
    text = {"Segment0_Name": "liver", "Segment0_LabelValue": "1", "Segment0_Layer": "0", f"Segment0_{key}": value}
    assert slicer.segments(text) == ()
