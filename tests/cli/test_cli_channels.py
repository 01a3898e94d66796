"""What train takes of an image of several channels, segment and evaluate take: one case, one name, in all commands."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from balls import segmentation, volume
from napari_medseg import Volume, load_model, read_segmentation, resume_interaction, write
from napari_medseg.cases import Case
from napari_medseg.cli import main
from napari_medseg.inference.runs.files import sha256_of
from napari_medseg.io.folders import by_channel

NAMES = ("a2", "a10")
LAYOUTS = {
    # how the two channels of a case lie: the folders of images
    "folders": ("T1", "T2"),
    "nnunet": ("imagesTr",),
    "one_file": ("both",),
    "fourth_axis": ("time",),
}
CHANNELS = {"folders": ["T1", "T2"], "nnunet": ["channel 0", "channel 1"]}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of two cases of two channels, in every layout, their labels, and a model of each layout."""
    for folder in ("T1", "T2", "imagesTr", "both", "time", "labels"):
        (tmp_path / folder).mkdir()
    for seed, name in enumerate(NAMES):
        one, two = volume(seed=seed), volume(seed=10 + seed)
        write(tmp_path / "T1" / f"{name}.nii.gz", one)
        write(tmp_path / "T2" / f"{name}.nrrd", two)
        for n, channel in enumerate((one, two)):
            write(tmp_path / "imagesTr" / f"{name}_{n:04d}.nii.gz", channel)
        data = np.concatenate([np.asarray(one.data), np.asarray(two.data)])
        write(tmp_path / "both" / f"{name}.nii.gz", Volume(data, one.grid))
        affine = nib.load(tmp_path / "T1" / f"{name}.nii.gz").affine
        series = nib.Nifti1Image(np.moveaxis(data, 0, -1).transpose(2, 1, 0, 3), affine)
        series.header.set_xyzt_units("mm", "sec")
        nib.save(series, tmp_path / "time" / f"{name}.nii.gz")
        write(tmp_path / "labels" / f"{name}.nii.gz", segmentation())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flags(layout: str, flag: str = "--images") -> str:
    return " ".join(f"{flag} {folder}" for folder in LAYOUTS[layout])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_commands_take_a_case_of_several_channels(layout: str, workplace: Path) -> None:
    train = f"train {flags(layout)} --labels labels -o m.safetensors --epochs 1 --val 0 --device cpu"
    assert main(train.split()) == 0
    spec = load_model(workplace / "m.safetensors").spec
    assert [c.name for c in spec.channels] == CHANNELS.get(layout, ["channel 0", "channel 1"])
    assert main(f"segment {flags(layout)} --model m.safetensors -o out --device cpu".split()) == 0
    assert sorted(path.name for path in (workplace / "out").iterdir()) == [f"{n}.nii.gz" for n in sorted(NAMES)]
    made = read_segmentation(workplace / "out" / "a2.nii.gz")
    assert made.grid.same_as(segmentation().grid)
    measure = f"evaluate --prediction out --reference labels {flags(layout, '--image')} --bootstrap 50 -o s.json"
    assert main(measure.split()) == 0
    rows = json.loads((workplace / "s.json").read_text())["tables"]["intensities"]["rows"]
    assert len(rows) == len(NAMES) * 2 * 2


@pytest.mark.parametrize("layout", ["folders", "nnunet", "fourth_axis"])
def test_prompts_and_slices_go_through_the_same_cases(layout: str, workplace: Path) -> None:
    log = {"napari_medseg_interaction": 1, "steps": [{"do": "point", "at": [4, 10, 10], "label": 2}]}
    (workplace / "logs").mkdir()
    for name in NAMES:
        (workplace / "logs" / f"{name}.json").write_text(json.dumps(log))
    assert main(f"interact {flags(layout)} --prompts logs -o clicked".split()) == 0
    assert main(f"propagate {flags(layout)} --labels labels -o filled/{{name}}.nrrd".split()) == 0
    files = {path.name for folder in ("clicked", "filled") for path in (workplace / folder).iterdir()}
    assert files == {f"{name}{suffix}" for name in NAMES for suffix in (".nii.gz", ".nrrd")}
    both = Case(name="a2", images=(Path("T1/a2.nii.gz"), Path("T2/a2.nrrd"))).volume()
    expected = resume_interaction("logs/a2.json", both).segmentation
    made = read_segmentation("clicked/a2.nii.gz")
    np.testing.assert_array_equal(made.data, expected.data[...])
    assert 2 in np.asarray(made.data)
    assert made.provenance["prompts_sha256"] == sha256_of(workplace / "logs" / "a2.json")
    np.testing.assert_array_equal(read_segmentation("filled/a2.nrrd").data, segmentation().data)  # all was annotated


def test_cases_without_a_log_are_left_out_and_none_is_refused(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "logs").mkdir()
    interact = "interact --images T1 --prompts logs -o clicked"
    for argv, words in {
        interact: "logs has no log for a case: a2.json, for example",
        interact.replace("logs", "T1/a2.nii.gz"): "2 cases need a folder with a log NAME.json for each",
        f"{interact} T1/a2.nii.gz": "give an image, or --images for each channel: one of the two",
        interact.replace("-o clicked", "-o one.nii.gz"): "no log for a case",
    }.items():
        assert main(argv.split()) == 2
        said = capsys.readouterr().err
        assert (words in said, said.count("\n")) == (True, 1)
    (workplace / "logs" / "a10.json").write_text('{"napari_medseg_interaction": 1, "steps": []}')
    assert main(interact.split()) == 0
    assert "1 cases have no log NAME.json in logs and are left out, such as a2" in capsys.readouterr().err
    assert [path.name for path in (workplace / "clicked").iterdir()] == ["a10.nii.gz"]


@pytest.mark.parametrize(
    "images",
    [
        "imagesTr/a2_0000.nii.gz imagesTr/a2_0001.nii.gz imagesTr/a10_0001.nii.gz imagesTr/a10_0000.nii.gz",
        "--images T1 --images T2",
        "--images imagesTr",
        "time/a2.nii.gz time/a10.nii.gz",
        "both/a2.nii.gz both/a10.nii.gz",
    ],
    ids=["files_of_nnunet", "folders", "folder_of_nnunet", "fourth_axis", "one_file"],
)
def test_the_labels_are_the_same_however_the_channels_lie(images: str, workplace: Path) -> None:
    train = "train --images imagesTr --labels labels -o m.safetensors --epochs 1 --val 0 --device cpu"
    assert main(train.split()) == 0
    assert main(f"segment {images} --model m.safetensors -o out --device cpu".split()) == 0
    one = "segment --images T1/a2.nii.gz --images T2/a2.nrrd --model m.safetensors -o one.nii.gz --device cpu"
    assert main(one.split()) == 0
    expected = np.asarray(read_segmentation(workplace / "one.nii.gz").data)
    np.testing.assert_array_equal(read_segmentation(workplace / "out" / "a2.nii.gz").data, expected)


def test_channels_in_another_order_are_refused_by_their_names(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = "train --images T1 --images T2 --labels labels -o m.safetensors --epochs 1 --val 0 --device cpu"
    assert main(train.split()) == 0
    assert main(["segment", *["--images", "T2", "--images", "T1", "--model", "m.safetensors", "-o", "out"]]) == 2
    assert "has its channels in the order T2, T1, where T1, T2 are needed" in capsys.readouterr().err
    again = train.replace("T1 --images T2", "T2 --images T1").replace("m.safe", "n.safe")
    assert main([*again.split(), "--init", "m.safetensors"]) == 2
    assert "case a2 has its channels in the order T2, T1, where T1, T2 are needed" in capsys.readouterr().err
    assert not (workplace / "out").exists()


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ("a_0000 a_0001 b_0000 b_0001", {"a": 2, "b": 2}),
        ("a_0000", {"a": 1}),
        ("a_0001", {"a_0001": 1}),
        ("a_0000 a_0002", {"a_0000": 1, "a_0002": 1}),
        ("a_0000 b", {"a_0000": 1, "b": 1}),
        ("a_1 a_2", {"a_1": 1, "a_2": 1}),
    ],
)
def test_channels_are_grouped_only_where_all_are_there(names: str, groups: dict[str, int]) -> None:
    found = by_channel({name: Path(name) for name in names.split()})
    assert {name: len(paths) for name, paths in found.items()} == groups
