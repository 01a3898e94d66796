"""Data sets are recognised in the layouts that they are published in, and say what their ids mean."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from napari_medseg import Grid, Segmentation, Volume, write
from napari_medseg.datasets import DataSet, open_dataset
from napari_medseg.datasets.dataset import own_cases
from napari_medseg.datasets.label_sources import MaskForEach
from napari_medseg.datasets.outlines import outlines_in
from napari_medseg.errors import FileError, InputError

GRID = Grid.from_spacing((2, 4, 4), (1.0, 1.0, 1.0))


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, Volume(np.arange(32, dtype=np.int16).reshape(1, 2, 4, 4), GRID))


def labels(path: Path, *ids: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.zeros((2, 4, 4), np.uint8)
    data.flat[: len(ids)] = ids
    write(path, Segmentation(data, GRID))


def picture(path: Path, values: npt.NDArray[np.uint8] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3) if values is None else values).save(path)


def mask(*inside: int, value: int = 255) -> npt.NDArray[np.uint8]:
    """(8, 8) with some pixels set, counted by rows."""
    found = np.zeros(64, np.uint8)
    found[list(inside)] = value
    return found.reshape(8, 8)


def nnunet(root: Path) -> None:
    for case in ("a", "b"):
        for channel in ("0000", "0001"):
            image(root / "imagesTr" / f"{case}_{channel}.nii.gz")
        labels(root / "labelsTr" / f"{case}.nii.gz", 1, 2, 3)
    names = {"background": 0, "core": 1, "rim": 2, "ignore": 3}
    document = {"channel_names": {"0": "T1", "1": "T2"}, "labels": names, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(document))


def regions(root: Path) -> None:
    nnunet(root)
    names = {"background": 0, "whole": [1, 2, 3], "rim": [2, 3]}
    document = {"channel_names": {"0": "T1", "1": "T2"}, "labels": names}
    (root / "dataset.json").write_text(json.dumps(document))


def apart(root: Path) -> None:
    nnunet(root)
    document = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "left": [1, 2], "right": 3}}
    (root / "dataset.json").write_text(json.dumps(document))


def msd(root: Path) -> None:
    image(root / "imagesTr" / "hippocampus_001.nii.gz")
    labels(root / "labelsTr" / "hippocampus_001.nii.gz", 1, 2)
    document = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}
    (root / "dataset.json").write_text(json.dumps(document))


def bids(root: Path) -> None:
    image(root / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    image(root / "sub-01" / "anat" / "sub-01_FLAIR.nii.gz")
    labels(root / "derivatives" / "manual" / "sub-01" / "anat" / "sub-01_dseg.nii.gz", 7)
    (root / "derivatives" / "manual" / "desc-manual_dseg.tsv").write_text("index\tname\n0\tbackground\n7\tlesion\n")


def acdc(root: Path) -> None:
    for frame in ("01", "12"):
        image(root / "training" / "patient001" / f"patient001_frame{frame}.nii.gz")
        labels(root / "training" / "patient001" / f"patient001_frame{frame}_gt.nii.gz", 1, 3)
    image(root / "training" / "patient001" / "patient001_4d.nii.gz")


def lits(root: Path) -> None:
    for number in (2, 10):
        image(root / f"volume-{number}.nii")
        labels(root / f"segmentation-{number}.nii", 1, 2)


def brats(root: Path) -> None:
    for channel in ("flair", "t1", "t1ce", "t2"):
        image(root / "BraTS_1" / f"BraTS_1_{channel}.nii.gz")
    labels(root / "BraTS_1" / "BraTS_1_seg.nii.gz", 4)


def btcv(root: Path) -> None:
    image(root / "Training" / "img" / "img0001.nii.gz")
    labels(root / "Training" / "label" / "label0001.nii.gz", 6)


def kits(root: Path) -> None:
    image(root / "case_00000" / "imaging.nii.gz")
    labels(root / "case_00000" / "segmentation.nii.gz", 2)


def folders(root: Path) -> None:
    for patient in ("p7", "p10"):
        for name in ("FLAIR", "T1"):
            image(root / patient / f"{name}.nii.gz")
        labels(root / patient / "lesions.nii.gz", 1)


def dsb(root: Path) -> None:
    for name in ("1b", "0f9"):  # sorted as text: natural order would count 0f9 after 1b
        picture(root / "stage1_train" / name / "images" / f"{name}.png")
        picture(root / "stage1_train" / name / "masks" / "x.png", mask(0, 1))
        picture(root / "stage1_train" / name / "masks" / "y.png", mask(1, 9))


def kvasir(root: Path) -> None:
    for name in ("a", "b"):
        picture(root / "Kvasir-SEG" / "images" / f"{name}.jpg")
        picture(root / "Kvasir-SEG" / "masks" / f"{name}.jpg", np.repeat(mask(*range(32))[..., None], 3, axis=2))


def glas(root: Path) -> None:
    picture(root / "train_1.bmp")
    picture(root / "train_1_anno.bmp", mask(0, 1, value=2) | mask(9, value=1))
    picture(root / "testA_1.bmp")
    picture(root / "testA_1_anno.bmp", mask(0))


def monuseg(root: Path) -> None:
    picture(root / "Tissue Images" / "TCGA-1.tif")
    corners = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ((2, 1), (5, 1), (5, 3), (2, 3)))
    (root / "Annotations").mkdir()
    (root / "Annotations" / "TCGA-1.xml").write_text(
        f"<Annotations><Annotation><Regions><Region><Vertices>{corners}</Vertices></Region></Regions></Annotation>"
        f"</Annotations>"
    )


def numbered(root: Path) -> None:
    """Masks whose values count objects, three in one and two in the other."""
    for name, count in (("a", 3), ("b", 2)):
        picture(root / "images" / f"{name}.png")
        found = np.zeros((8, 8), np.uint8)
        for k in range(count):
            found[2 * k, :3] = k + 1
        picture(root / "masks" / f"{name}.png", found)


def classes(root: Path) -> None:
    picture(root / "images" / "a.png")
    picture(root / "labels" / "a.png", mask(0, 20, value=2) | mask(40, value=5))


def six_numbered_and(last: npt.NDArray[np.uint8]) -> Made:
    """Six masks whose values count objects, and a seventh."""

    def make(root: Path) -> None:
        for k in range(6):
            picture(root / "images" / f"{k}.png")
            picture(root / "masks" / f"{k}.png", mask(0, value=1) | mask(9, value=2) | mask(18, value=3 * (k % 2)))
        picture(root / "images" / "6.png")
        picture(root / "masks" / "6.png", last)

    return make


Made = Callable[[Path], None]
SETS: dict[str, tuple[Made, str, list[str], tuple[str, ...], dict[int, str], dict[int, int]]] = {
    # what makes it, layout, names of cases, channels, names of ids, {id: voxels} of the first case
    "nnunet": (nnunet, "nnU-Net raw", ["a", "b"], ("T1", "T2"), {1: "core", 2: "rim"}, {1: 1, 2: 1, 3: 1}),
    "regions": (
        regions,
        "nnU-Net raw",
        ["a", "b"],
        ("T1", "T2"),
        {1: "whole, part 1", 2: "rim, part 2", 3: "rim, part 3"},
        {1: 1, 2: 1, 3: 1},
    ),
    "apart": (apart, "nnU-Net raw", ["a", "b"], ("T1", "T2"), {3: "right"}, {1: 1, 2: 1, 3: 1}),
    "msd": (
        msd,
        "Medical Segmentation Decathlon",
        ["hippocampus_001"],
        ("MRI",),
        {1: "Anterior", 2: "Posterior"},
        {1: 1, 2: 1},
    ),
    "bids": (bids, "BIDS derivatives", ["sub-01"], ("FLAIR", "T1w"), {7: "lesion"}, {7: 1}),
    "acdc": (
        acdc,
        "ACDC",
        ["patient001_frame01", "patient001_frame12"],
        (),
        {1: "right ventricle", 2: "myocardium", 3: "left ventricle"},
        {1: 1, 3: 1},
    ),
    "lits": (lits, "LiTS", ["volume-2", "volume-10"], (), {1: "liver", 2: "liver tumour"}, {1: 1, 2: 1}),
    "kits": (kits, "KiTS", ["case_00000"], (), {1: "kidney", 2: "tumour", 3: "cyst"}, {2: 1}),
    "folders": (
        folders,
        "a folder for each case, labels in lesions.nii.gz",
        ["p7", "p10"],
        ("FLAIR", "T1"),
        {},
        {1: 1},
    ),
    "dsb": (dsb, "Data Science Bowl 2018", ["0f9", "1b"], (), {1: "nucleus"}, {1: 3}),
    "kvasir": (kvasir, "2D images and masks", ["a", "b"], (), {1: "polyp"}, {1: 32}),
    "glas": (glas, "GlaS", ["train_1"], (), {1: "gland"}, {1: 3}),
    "monuseg": (monuseg, "MoNuSeg", ["TCGA-1"], (), {1: "nucleus"}, {1: 12}),
    "numbered": (numbered, "2D images and masks", ["a", "b"], (), {1: "foreground"}, {1: 9}),
    "classes": (classes, "2D images and labels", ["a"], (), {}, {2: 2, 5: 1}),
}


@pytest.mark.parametrize("name", SETS)
def test_a_layout_is_recognised_and_its_ids_have_names(name: str, tmp_path: Path) -> None:
    make, layout, cases, channels, names, voxels = SETS[name]
    make(tmp_path)
    data = open_dataset(tmp_path)
    assert (data.layout, [case.name for case in data.cases]) == (layout, cases)
    assert (data.cases[0].channels, dict(data.labels)) == (channels, names)
    volume, found = pickle.loads(pickle.dumps(data.cases[0])).load()
    assert found.grid.same_as(volume.grid)
    assert volume.data.shape[0] == (3 if volume.grid.shape[0] == 1 else max(1, len(channels)))
    ids, counts = np.unique(np.asarray(found.data), return_counts=True)
    assert {int(i): int(n) for i, n in zip(ids, counts, strict=True) if i} == voxels
    assert all(found.labels[i] == name for i, name in names.items())
    assert data.describe()[0].startswith(f"{data.folder}: {layout}, {len(cases)} cases")


def test_a_mask_for_each_object_keeps_them_apart(tmp_path: Path) -> None:
    dsb(tmp_path)
    labels = open_dataset(tmp_path).cases[0].labels
    assert isinstance(labels, MaskForEach)
    numbers = np.asarray(labels.objects(None).data)
    assert np.array_equal(np.unique(numbers), [0, 1, 2])
    assert np.array_equal(numbers > 0, np.asarray(labels.read(None).data) > 0)


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (mask(0, value=1) | mask(9, value=3), "taken for ids of classes; 6.png holds 1, 3"),
        (mask(0, 40, value=1), "taken for ids of classes; in 6.png an id is in several pieces"),
        (
            mask(0, value=1),
            "number objects, not classes; all 7 count from 1 on, up to 3, in one piece each: label 1 is",
        ),
    ],
    ids=["skipped id", "pieces", "objects"],
)
def test_what_values_mean_is_judged_from_all_masks(last: npt.NDArray[np.uint8], says: str, tmp_path: Path) -> None:
    six_numbered_and(last)(tmp_path)
    assert says in open_dataset(tmp_path).describe()[1]


def test_black_and_white_in_all_masks_but_the_last_is_not_one_structure(tmp_path: Path) -> None:
    for k in range(7):
        picture(tmp_path / "images" / f"{k}.png")
        picture(tmp_path / "masks" / f"{k}.png", mask(0, 1))
    assert "one structure (0, and 1 or 255); all 7 do: label 1 is foreground" in open_dataset(tmp_path).describe()[1]
    picture(tmp_path / "masks" / "6.png", mask(0, value=255) | mask(9, value=200))
    assert "classes; 0.png holds 255" in open_dataset(tmp_path).describe()[1]


def test_masks_of_one_name_in_several_cases_may_be_of_classes(tmp_path: Path) -> None:
    dsb(tmp_path)
    assert "masks called x, y are in several cases: where each is of a class" in open_dataset(tmp_path).describe()[1]
    for path in tmp_path.rglob("masks/*.png"):
        path.rename(path.with_name(f"{path.stem}{path.parts[-3]}.png"))
    assert "several cases" not in open_dataset(tmp_path).describe()[1]


@pytest.mark.parametrize(
    ("make", "names", "channels"),
    [
        (brats, {1: "necrotic core", 2: "oedema", 3: "enhancing tumour", 4: "enhancing tumour"}, "flair, t1, t1ce, t2"),
        (btcv, {6: "liver", 13: "left adrenal gland"}, ""),
    ],
    ids=["brats", "btcv"],
)
def test_published_ids_are_named(make: Made, names: dict[int, str], channels: str, tmp_path: Path) -> None:
    make(tmp_path)
    data = open_dataset(tmp_path)
    assert names.items() <= data.labels.items()
    assert channels in data.describe()[0]
    assert data.cases[0].segmentation().labels[max(names)] == names[max(names)]


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("BraTS-GLI-00005-100", {3: "enhancing tumour", 4: "resection cavity"}),
        ("BraTS-MET-00005-000", {3: "enhancing tumour"}),
        ("BraTS-PED-00005-000", {}),
    ],
)
def test_ids_of_newer_brats_sets_have_their_own_names(case: str, names: dict[int, str], tmp_path: Path) -> None:
    for channel in ("t1c", "t1n", "t2f", "t2w"):
        image(tmp_path / case / f"{case}-{channel}.nii.gz")
    labels(tmp_path / case / f"{case}-seg.nii.gz", 3, 4)
    data = open_dataset(tmp_path)
    for found in (data.labels, data.cases[0].segmentation().labels):
        assert {i: name for i, name in found.items() if i > 2} == names


def test_cases_of_a_patient_are_a_group(tmp_path: Path) -> None:
    assert [case.group for case in opened(acdc, tmp_path / "acdc").cases] == ["patient001", "patient001"]
    for case in ("BraTS-GLI-00005-100", "BraTS-GLI-00005-101", "BraTS-GLI-00006-100"):
        for channel in ("t1c", "t1n", "t2f", "t2w"):
            image(tmp_path / "brats" / case / f"{case}-{channel}.nii.gz")
        labels(tmp_path / "brats" / case / f"{case}-seg.nii.gz", 3)
    data = open_dataset(tmp_path / "brats")
    assert [case.group for case in data.cases] == ["BraTS-GLI-00005", "BraTS-GLI-00005", "BraTS-GLI-00006"]
    for make in (nnunet, msd, kits, brats, lits, btcv):
        assert {case.group for case in opened(make, tmp_path / make.__name__ / "set").cases} == {""}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"0": "background", "1": "lesion", "2": "lesion"}', {1: "lesion", 2: "lesion 2"}),
        ('{"background": 0, "a b": 1, "a  b": 2}', {1: "a b", 2: "a b 2"}),
    ],
    ids=["ids", "names"],
)
def test_equal_names_are_numbered(text: str, names: dict[int, str], tmp_path: Path) -> None:
    msd(tmp_path)
    (tmp_path / "dataset.json").write_text(f'{{"channel_names": {{"0": "CT"}}, "labels": {text}}}')
    assert dict(open_dataset(tmp_path).labels) == names


def opened(make: Made, root: Path) -> DataSet:
    make(root)
    return open_dataset(root)


def test_regions_of_nnunet_are_merged_where_they_share_no_label(tmp_path: Path) -> None:
    assert opened(apart, tmp_path / "apart").merge == (("left", (1, 2)),)
    inside = opened(regions, tmp_path / "inside")
    assert inside.merge == ()
    assert "lie inside each other" in inside.describe()[1]
    assert opened(nnunet, tmp_path / "plain").ignore_label == 3


def test_what_holds_for_a_set_alone_is_put_into_its_labels(tmp_path: Path) -> None:
    """So that its cases can stand beside others, whose ids mean something else."""
    for make, unknown, ids in ((apart, None, [1, 1, 3]), (nnunet, 3, [1, 2, 3]), (nnunet, 99, [1, 2, 99])):
        data = opened(make, tmp_path / f"{make.__name__} {unknown}")
        cases = pickle.loads(pickle.dumps(own_cases(data, unknown)))
        volume, found = cases[1].load()
        assert np.asarray(found.data).flat[:4].tolist() == [*ids, 0]
        assert (cases[1].name, volume.channels) == ("b", ("T1", "T2"))
        assert found.labels[1] == ("left" if make is apart else "core")
    assert "not annotated: id 3" in data.describe()[0]


def test_each_mask_of_bids_has_the_image_of_its_session_and_run(tmp_path: Path) -> None:
    mine, raw = tmp_path / "derivatives" / "manual" / "sub-01", tmp_path / "sub-01"
    for stem in ("anat/sub-01_run-1", "anat/sub-01_run-2", "ses-a/anat/sub-01_ses-a"):
        image(raw / f"{stem}_T1w.nii.gz")
        labels(mine / f"{stem}_desc-lesion_dseg.nii.gz", 1)
    image(raw / "anat" / "sub-01_run-2_T2w.nii.gz")
    labels(mine / "anat" / "sub-01_run-3_dseg.nii.gz", 1)
    labels(mine / "anat" / "sub-01_dseg.nii.gz", 1)  # run 1 or run 2
    data = open_dataset(tmp_path)
    assert {case.name: [path.name for path in case.images if isinstance(path, Path)] for case in data.cases} == {
        "sub-01_run-1_desc-lesion": ["sub-01_run-1_T1w.nii.gz"],
        "sub-01_run-2_desc-lesion": ["sub-01_run-2_T1w.nii.gz"],
        "sub-01_ses-a_desc-lesion": ["sub-01_ses-a_T1w.nii.gz"],
    }
    assert {case.group for case in data.cases} == {"sub-01"}
    assert data.notes == (
        "2 label files have no image of their own: they are left out",
        "images T2w are not there for all labels: they are left out",
    )
    labels(tmp_path / "derivatives" / "other" / "sub-01" / "anat" / "sub-01_run-1_dseg.nii.gz", 3)
    with pytest.raises(InputError, match=r"several derivatives hold labels \(.*manual, .*other\)"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("make", "spoil", "note"),
    [
        (brats, "BraTS_2/BraTS_2_t1.nii.gz", "left out, for lack of an image or of labels: BraTS_2"),
        (kits, "case_00007/imaging.nii.gz", "left out, for lack of an image or of labels: case_00007"),
        (lits, "volume-11.nii", "left out, for lack of an image or of labels: 11"),
        (folders, "p7/T2.nii.gz", "files that are not in every folder are left out: T2.nii.gz"),
    ],
    ids=["brats", "kits", "lits", "folders"],
)
def test_what_is_left_out_is_told(make: Made, spoil: str, note: str, tmp_path: Path) -> None:
    make(tmp_path)
    image(tmp_path / spoil)
    assert note in open_dataset(tmp_path).describe()


def test_an_unknown_layout_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(
        InputError, match=r"no known layout of a data set; looked for nnU-Net raw and MSD: dataset\.json"
    ):
        open_dataset(tmp_path)
    with pytest.raises(FileError, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    for name in ("one", "two"):
        kits(tmp_path / name)
    with pytest.raises(InputError, match=r"several data sets are in it \(one, two\): name one of them"):
        open_dataset(tmp_path)


BOMB = '<!DOCTYPE a [<!ENTITY x "boom"><!ENTITY y "&x;&x;&x;">]><Annotations>&y;</Annotations>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "it declares a document type"),
        ("<Annotations><Region>", "no element|unclosed|not well-formed"),
        ("<A><Region><Vertex X='1'/></Region></A>", "'Y'"),
        ("<A><Region><Vertex X='nan' Y='1'/></Region></A>", "a vertex at nan"),
        ("<A><Region><Vertex X='one' Y='1'/></Region></A>", "could not convert"),
    ],
    ids=["entities", "cut short", "no Y", "NaN", "no number"],
)
def test_hostile_outlines_are_refused_in_one_line(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(FileError, match=reason) as refused:
        outlines_in(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "a JSON object is expected"),
        ('{"labels": {"a": 1, "a": 2}}', "is there twice"),
        ('{"labels": {"a": -1}}', "label ids are whole numbers from 0"),
        ('{"labels": {"a": 99999999999}}', "label ids are whole numbers from 0"),
        ('{"labels": {"a": NaN}}', "NaN is no JSON number"),
        ('{"labels": [1]}', "labels must be an object"),
        ('{"channel_names": 3}', "channel_names must be an object"),
        ("[" * 200_000, "not JSON"),
    ],
    ids=["list", "twice", "negative", "huge", "NaN", "labels", "channels", "deep"],
)
def test_a_hostile_dataset_json_is_refused_in_one_line(text: str, reason: str, tmp_path: Path) -> None:
    msd(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(FileError, match=reason) as refused:
        open_dataset(tmp_path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_mask_with_ids_among_masks_of_one_structure_is_refused(tmp_path: Path) -> None:
    """One that is changed after the set was looked at would be empty, all its ids being dark."""
    for number in range(7):
        picture(tmp_path / "images" / f"s{number}.png")
        picture(tmp_path / "masks" / f"s{number}.png", mask(*range(9), value=1))
    cases = open_dataset(tmp_path).cases
    picture(tmp_path / "masks" / "s6.png", mask(*range(9), value=1) | mask(40, value=2))
    assert (np.asarray(cases[0].segmentation().data) == 1).sum() == 9
    with pytest.raises(FileError, match="holds ids up to 2: give the folders as --images and --labels"):
        cases[6].segmentation()
