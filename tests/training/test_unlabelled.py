"""Images without labels beside labelled cases: what does not fit is refused, or told, before the first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_medseg as ms
from balls import segmentation, volume
from napari_medseg import Volume, iter_train, train
from napari_medseg.cases import cases_without_labels
from napari_medseg.cli import main
from napari_medseg.errors import FileError, InputError
from napari_medseg.events import TrainProgress
from napari_medseg.training.apart.parent import iter_train_apart
from scheme_suite import notices, pairs

OPTIONS: dict[str, Any] = {
    "scheme": "mean-teacher",
    "epochs": 1,
    "val": 0,
    "device": "cpu",
    "precision": "fp32",
    "report": False,
    "arguments": {"channels": (4, 8)},
}


def with_values(values: float, channels: tuple[str, ...] | None = None) -> Volume:
    """The balls, brighter by so much."""
    plain = volume(seed=9)
    return replace(plain, data=np.asarray(plain.data[...]) + np.int16(values), channels=channels or plain.channels)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (volume(channels=2), "unlabelled image image 0 has 2 channels, the labelled cases have 1"),
        (with_values(-1000), "the unlabelled images look like CT, the labelled ones do not"),
        (
            with_values(0, ("T2",)),
            "has the channel T2, the labelled cases have FLAIR: give images of the same modality",
        ),
        (volume(seed=0), "all unlabelled images are labelled ones too .*image 0 is the labelled case case 0"),
    ],
    ids=["channels", "modality", "channel_name", "same_scan"],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, image: Volume, says: str) -> None:
    cases = [(replace(volume(seed=0), channels=("FLAIR",)), segmentation())] if "FLAIR" in says else pairs()
    with pytest.raises(InputError, match=says) as refused:
        train(cases, out=tmp_path / "m.safetensors", unlabelled=[image], **OPTIONS)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_what_may_be_meant_is_told_and_labelled_scans_are_left_out(tmp_path: Path) -> None:
    others = [volume(seed=0), with_values(5000), volume(seed=5)]
    events = list(iter_train(pairs(), out=tmp_path / "m.safetensors", unlabelled=others, **OPTIONS))
    told = notices(events)
    assert "unlabelled images that are labelled ones too are left out: image 0 is the labelled case case 0" in told
    (apart,) = (line for line in told if "share no intensity" in line)
    assert "1 of 2 unlabelled images" in apart
    assert "image 1 has 49" in apart
    assert any(isinstance(event, TrainProgress) for event in events)


@pytest.mark.parametrize("more", [0, 2])
def test_labelled_scans_are_found_where_not_all_cases_validate(tmp_path: Path, more: int) -> None:
    """A single case, of which slices are held out; and three, of which the last has no label."""
    full = np.where(np.arange(20)[:, None] < 10, np.asarray(segmentation().data) > 0, 2).astype(np.uint8)
    first = (volume(seed=0), replace(segmentation(), data=full))
    nothing = replace(segmentation(), data=np.zeros_like(full))
    cases = [first, (volume(seed=1), segmentation()), (volume(seed=2), nothing)][: 1 + more]
    options = OPTIONS | {"val": 0.34, "validations": 0, "unlabelled_slices": "ignore"}
    others = [volume(seed=0), volume(seed=5)]
    told = notices(list(iter_train(cases, out=tmp_path / "m.safetensors", unlabelled=others, **options)))
    assert "unlabelled images that are labelled ones too are left out: image 0 is the labelled case case 0" in told


def test_a_folder_of_images_without_labels_trains_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "labels", "others", "empty"):
        Path(folder).mkdir()
    ms.write("images/a.nii.gz", volume(seed=0))
    ms.write("labels/a.nii.gz", segmentation())
    ms.write("others/b.nii.gz", volume(seed=3))
    ms.write("others/c.nii.gz", volume(seed=0))
    command = "train --images images --labels labels --epochs 1 --val 0 --device cpu -o m.safetensors"
    scheme = ["--scheme", "self-training", "--confidence", "0.5"]
    assert main([*command.split(), *scheme, "--unlabelled", "empty"]) == 2
    assert "empty holds no image" in capsys.readouterr().err
    assert main([*command.split(), *scheme, "--unlabelled", "others", "--doubt-passes", "2"]) == 2
    assert "scheme self-training has no use for doubt_passes" in capsys.readouterr().err
    assert main([*command.split(), *scheme, "--unlabelled", "others"]) == 0
    assert "left out: c is the labelled case a" in capsys.readouterr().err
    assert ms.load_model("m.safetensors").spec.network == "unet3d"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=f"{tmp_path.name} holds no image"):
        cases_without_labels(tmp_path)
    with pytest.raises(FileError, match="nowhere"):
        list(cases_without_labels(tmp_path / "nowhere")[0].peek().channels)


@pytest.mark.slow
def test_images_without_labels_reach_a_process_of_its_own(tmp_path: Path) -> None:
    events = list(
        iter_train_apart(pairs(), out=tmp_path / "m.safetensors", unlabelled=[volume(seed=3), volume()], **OPTIONS)
    )
    assert any("left out: image 1" in line for line in notices(events))
