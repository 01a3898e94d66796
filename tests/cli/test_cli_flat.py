"""2D images go through all commands: cameras' pictures, masks of 0 and 255, regions, several channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from balls import balls
from napari_medseg import Grid, Segmentation, load_model, read, read_segmentation, write
from napari_medseg.cli import main
from napari_medseg.io.folders import images_by_name

NAMES = ("a2", "a10")
PAIRS = {
    # folder of images: channels; the images state a size of a pixel, or of a print, and the masks do not
    "jpg": 3,
    "tif": 1,
    "two": 2,
}
TOLD = {
    "jpg": "a2 and 1 more: the file does not say how large a pixel is: lengths are in pixels",
    "tif": "a2 and 1 more: a pixel is 0.1 mm wide by the 254 dots per inch that the file states: check",
    "two": "a2 and 1 more: the file does not say how large a pixel is: lengths are in pixels",
}
"""{folder of images: the line, of one for all cases, about the size of a pixel}."""


def same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def slice_of(seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A picture, and the labels 1 and 2 in it."""
    labels = np.tile(balls()[balls().shape[0] // 2], (2, 2))
    noise = np.random.default_rng(seed).integers(0, 40, labels.shape)
    return (labels * 80 + noise).astype(np.uint8), labels


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in (*PAIRS, "png", "masks", "binary"):
        (tmp_path / folder).mkdir()
    for seed, name in enumerate(NAMES):
        grey, labels = slice_of(seed)
        Image.fromarray(grey).save(tmp_path / "png" / f"{name}.png", dpi=(254, 254))
        Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "jpg" / f"{name}.jpg", quality=95, dpi=(300, 300))
        Image.fromarray(grey).save(tmp_path / "tif" / f"{name}.tif", dpi=(254, 254))
        for channel in range(2):
            Image.fromarray(grey).save(tmp_path / "two" / f"{name}_000{channel}.png")
        Image.fromarray(labels).save(tmp_path / "masks" / f"{name}.png")
        Image.fromarray((labels > 0).astype(np.uint8) * 255).save(tmp_path / "binary" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", PAIRS)
def test_2d_images_go_through_train_segment_and_evaluate(
    kind: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = f"train --images {kind} --labels masks -o m.safetensors --epochs 1 --val 0 --device cpu --network unet3d"
    assert main(train.split()) == 0
    spec = load_model(workplace / "m.safetensors").spec
    assert (len(spec.channels), spec.mode, set(spec.labels)) == (PAIRS[kind], "2d", {1, 2})
    segment = f"segment --images {kind} --model m.safetensors -o out/{{name}}.png --device cpu"
    capsys.readouterr()
    assert main(segment.split()) == 0
    assert capsys.readouterr().err.count(TOLD[kind]) == 1
    assert sorted(p.name for p in (workplace / "out").iterdir()) == sorted(f"{n}.png" for n in NAMES)
    first = next(iter(images_by_name(workplace / kind).values()))
    made = read_segmentation(workplace / "out" / "a2.png")
    assert (made.grid.same_as(read(first).grid), made.grid.in_pixels) == (True, read(first).grid.in_pixels)
    assert made.labels == dict(spec.labels)
    measure = f"evaluate --prediction out --reference masks --image {kind} --bootstrap 50 -o s.json"
    capsys.readouterr()
    assert main(measure.split()) == 0
    assert capsys.readouterr().err.count(TOLD[kind]) == 1
    rows = json.loads((workplace / "s.json").read_text())["tables"]["intensities"]["rows"]
    assert len(rows) == len(NAMES) * 2 * PAIRS[kind]
    assert main(measure.replace(f"--image {kind} ", "").split()) == 0  # the masks take the size of the predictions
    assert main(["convert", str(first), "-o", "c.nii.gz"]) == 0
    assert same(read("c.nii.gz").data, read(first).data)
    told = "c.nii.gz: nothing says how large a pixel is, and 1 mm is written" in capsys.readouterr().err
    assert told is read(first).grid.in_pixels
    assert main(["info", "masks/a2.png", "--labels"]) == 0
    assert "note: the file does not say how large a pixel is: lengths are in pixels" in capsys.readouterr().out


def scores(flags: str, workplace: Path) -> dict[str, Any]:
    """{name of a label: its row} of the first case."""
    assert main(["evaluate", "-o", "s.json", "--bootstrap", "50", *flags.split()]) == 0
    rows = json.loads((workplace / "s.json").read_text())["rows"]
    return {row["name"]: row for row in rows if row["case"] == "a2"}


def test_ids_that_have_none_in_common_are_told_and_foreground_compares_them(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = "--prediction binary --reference masks"
    rows = scores(both, workplace)
    assert [row["dice"] for row in rows.values()] == [0.0] * 3
    said = capsys.readouterr().err
    assert "a2: the prediction holds the label ids {255} and the reference {1, 2}, none in common" in said
    assert "give --foreground" in said
    rows = scores(f"{both} --foreground", workplace)
    assert {name: row["dice"] for name, row in rows.items()} == {"foreground": 1.0}
    assert "none in common" not in capsys.readouterr().err
    assert json.loads((workplace / "s.json").read_text())["settings"]["regions"] == "foreground"


def test_regions_are_measured_written_and_learned_as_one_label(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, labels = slice_of(0)
    for name in NAMES:  # a prediction that takes all for label 1
        made = Segmentation((labels > 0)[None].astype(np.uint8), Grid.from_spacing((1, *labels.shape), (1, 1, 1)))
        write(workplace / "binary" / f"{name}.png", made)
    rows = scores("--prediction binary --reference masks --merge liver=1,2 --merge tumour=2", workplace)
    assert (rows["liver"]["label"], rows["liver"]["dice"]) == (1, 1.0)
    assert (rows["tumour"]["label"], rows["tumour"]["dice"]) == (2, 0.0)
    assert json.loads((workplace / "s.json").read_text())["settings"]["regions"] == "liver=1,2; tumour=2"
    assert main(["convert", "masks/a2.png", "-o", "merged.png", "--merge", "liver=1,2"]) == 0
    merged = read_segmentation("merged.png")
    assert (merged.labels, same(merged.data[0], labels > 0)) == ({1: "liver"}, True)
    capsys.readouterr()
    assert main(["convert", "masks/a2.png", "-o", "merged.png", "--merge", "heart=7,8"]) == 0
    assert "no voxel is in the region heart" in capsys.readouterr().err
    named = Segmentation(labels[None], Grid.from_spacing((1, *labels.shape), (1, 1, 1)), {1: "liver", 2: "tumour"})
    write(workplace / "named.nii.gz", named)
    assert main(["convert", "named.nii.gz", "-o", "merged.nii.gz", "--merge", "tumour=1"]) == 2
    said = capsys.readouterr().err
    assert "error: named: the region tumour has the name of label 2, which is in no region: put 2 into it" in said
    assert said.count("\n") == 1
    train = "train --images png --labels masks -o m.safetensors --epochs 1 --val 0 --device cpu --merge liver=1,2"
    assert main(train.split()) == 0
    assert dict(load_model(workplace / "m.safetensors").spec.labels) == {1: "liver"}
    capsys.readouterr()
    for wrong, words in {
        "liver=1,2 --merge tumour=2": "label 2 is in the regions liver and tumour, and a voxel has one label",
        "heart=7": "no case holds a label of the region heart: 7",
        "liver": "--merge takes a name and label ids, such as liver=1,2; got 'liver'",
        "a=1 --merge a=2": "--merge names the region a twice",
        "a=0": "merge needs {name: label ids above 0}",
    }.items():
        assert main([*train.replace("m.safe", "n.safe").rpartition(" ")[0].split(), *wrong.split()]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert not (workplace / "n.safetensors").exists()


def test_previews_beside_volumes_are_no_cases(workplace: Path) -> None:
    grey, _ = slice_of(0)
    write(workplace / "png" / "b.nii.gz", read("png/a2.png"))
    assert list(images_by_name(workplace / "png")) == ["b"]
    Image.fromarray(grey).save(workplace / "png" / "b.png")
    assert list(images_by_name(workplace / "png")) == ["b"]
