"""Label names and colours in the header of a NIfTI file, as XML of others: read, written, and bounded."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from grids import grid
from napari_medseg import io
from napari_medseg.errors import MedsegWarning
from napari_medseg.io import caret
from napari_medseg.volume import Segmentation, Volume

TABLE = (
    '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <Date><![CDATA[2013-07-14T05:45:09]]></Date>   '
    '<VolumeInformation Index="0">   <LabelTable>\n'
    '<Label Key="0" Red="0" Green="0" Blue="0" Alpha="0"><![CDATA[background]]></Label>\n'
    '<Label Key="1" Red="1.0" Green="0.5019607843" Blue="0" Alpha="1"><![CDATA[spleen & more]]></Label>\n'
    '<Label Key="117" Red="0.2" Green="0.4" Blue="0.6" Alpha="1">Größe</Label>\n'
    "</LabelTable>  <VolumeType><![CDATA[Label]]></VolumeType>   </VolumeInformation></CaretExtension>\n   "
)


def with_table(path: Path, table: bytes, code: int = 0, shape: tuple[int, ...] = (5, 4, 3)) -> Path:
    image = nib.Nifti1Image(np.ones(shape, np.uint8), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(code, table))
    nib.save(image, path)
    return path


@pytest.mark.parametrize("code", caret.CODES)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_names_and_colours_are_read(tmp_path: Path, code: int, suffix: str) -> None:
    read = io.load(with_table(tmp_path / f"a{suffix}", TABLE.encode(), code))
    assert isinstance(read, Segmentation)
    assert read.labels == {1: "spleen & more", 117: "Größe"}
    assert read.colours == {1: (255, 128, 0), 117: (51, 102, 153)}


def test_a_time_point_has_its_own_table(tmp_path: Path) -> None:
    other = (
        '<CaretExtension><VolumeInformation Index="0"><LabelTable><Label Key="1">first</Label></LabelTable>'
        '</VolumeInformation><VolumeInformation Index="1"><LabelTable><Label Key="1">second</Label></LabelTable>'
        "</VolumeInformation></CaretExtension>"
    )
    path = with_table(tmp_path / "a.nii", other.encode(), shape=(5, 4, 3, 2))
    for number, name in enumerate(("first", "second")):
        assert io.read_segmentation(f"{path}#{number}").labels == {1: name}


def test_our_own_names_come_first(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((5, 4, 3), np.uint8), np.eye(4))
    ours = b'{"napari_medseg": {"labels": {"1": "liver"}}}'
    for code, content in ((0, TABLE.encode()), (6, ours)):
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, content))
    nib.save(image, tmp_path / "a.nii")
    assert io.read_segmentation(tmp_path / "a.nii").labels == {1: "liver"}


def laughs() -> str:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return TABLE.replace("<CaretExtension>", f'<!DOCTYPE x [<!ENTITY l0 "ha">{entities}]><CaretExtension>').replace(
        "Größe", "&l9;"
    )


REFUSED = {
    "billion laughs": (laughs(), "declares a document type"),
    "a file of the system": (
        TABLE.replace("<CaretExtension>", '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><CaretExtension>'),
        "declares a document type",
    ),
    "cut short": (TABLE[: len(TABLE) // 2], "(no element|unclosed)"),
    "an unknown entity": (TABLE.replace("Größe", "&f;"), "undefined entity"),
    "a key that is no number": (TABLE.replace('Key="117"', 'Key="one"'), "invalid literal"),
    "an encoding that is none": (TABLE.replace("UTF-8", "utf-99"), "unknown encoding"),
    "too large": (TABLE.replace("Größe", "x" * (5 << 20)), "too large"),
    "too many labels": (TABLE.replace("</LabelTable>", '<Label Key="2"/>' * 100_001 + "</LabelTable>"), "more than"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_table_is_left_out_and_told(tmp_path: Path, name: str) -> None:
    table, match = REFUSED[name]
    with pytest.warns(MedsegWarning, match=f"label names in its header cannot be read and are left out: .*{match}"):
        read = io.load(with_table(tmp_path / "a.nii", table.encode()))
    assert isinstance(read, Volume)
    assert np.asarray(read.data).sum() == 60


@pytest.mark.parametrize(
    "label",
    ['Key="-3"', 'Key="99999999999999999999"', 'Red="1" Green="1" Blue="1"'],
)
def test_labels_that_cannot_be_are_passed_over(label: str) -> None:
    table = TABLE.replace('Key="117"', label) if "Key" in label else TABLE.replace('<Label Key="117"', "<Label")
    found = caret.from_extension(table.encode(), 0, "a.nii")
    assert found is not None
    assert found.labels == {1: "spleen & more"}


def test_a_colour_that_is_none_is_passed_over() -> None:
    found = caret.from_extension(TABLE.replace('Red="0.2"', 'Red="nan"').encode(), 0, "a.nii")
    assert found is not None
    assert found.colours == {1: (255, 128, 0)}


def test_other_extensions_are_no_table() -> None:
    assert caret.from_extension(b"<xml/>", 0, "a.nii") is None


def test_names_are_written_for_others(tmp_path: Path) -> None:
    names = {1: "spleen & <more>", 7: "Größe\0\x0b", 2**31 - 1: "the last"}
    labels = Segmentation(np.ones((3, 4, 5), np.uint8), grid("SPL"), names, colours={1: (255, 128, 0)})
    io.write(tmp_path / "a.nii.gz", labels)
    first = nib.load(tmp_path / "a.nii.gz").header.extensions[0]
    rows = ElementTree.fromstring(bytes(first.content).rstrip(b"\0")).findall("VolumeInformation/LabelTable/Label")
    assert [(int(row.attrib["Key"]), (row.text or "").strip()) for row in rows] == [
        (1, "spleen & <more>"),
        (7, "Größe"),
        (2**31 - 1, "the last"),
    ]
    found = caret.from_extension(bytes(first.content), 0, "a.nii.gz")
    assert found is not None
    assert found.colours[1] == (255, 128, 0)
    assert len(set(found.colours.values())) == 3
    assert io.read_segmentation(tmp_path / "a.nii.gz").labels == names
