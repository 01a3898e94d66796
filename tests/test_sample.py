"""The phantom: organs on the right sides, the same ones for a seed, with exact labels; and the sample's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_medseg import io, sample
from napari_medseg.errors import FileError, InputError, UnknownNameError
from napari_medseg.sample import LABELS, Kind, phantom, sample_files
from napari_medseg.volume import Segmentation

KINDS: tuple[Kind, ...] = ("ct", "mr")


def centres(labels: Segmentation) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """The mean position (S, P, L) in mm of every label, by name."""
    data = np.asarray(labels.data)
    return {name: labels.grid.index_to_world(np.argwhere(data == k)).mean(axis=0) for k, name in labels.labels.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_phantom(kind: Kind) -> None:
    (image, labels), (again, labels_again) = (phantom(kind, seed=3) for _ in range(2))
    np.testing.assert_array_equal(image.data, again.data)
    np.testing.assert_array_equal(labels.data, labels_again.data)
    other, other_labels = phantom(kind, seed=4)
    assert (np.asarray(other_labels.data) != np.asarray(labels.data)).mean() > 0.005
    assert (np.asarray(other.data) != np.asarray(image.data)).any()


def test_both_kinds_of_a_seed_show_the_same_patient() -> None:
    np.testing.assert_array_equal(phantom("ct", seed=5)[1].data, phantom("mr", seed=5)[1].data)


@pytest.mark.parametrize("seed", range(4))
def test_organs_lie_where_they_do_in_a_patient(seed: int) -> None:
    _, labels = phantom("ct", seed=seed)
    at = centres(labels)
    assert labels.grid.orientation == "SPL"
    left_of_patient = {name: position[2] > 0 for name, position in at.items() if name != "spine"}
    assert left_of_patient == {
        "liver": False, "right kidney": False, "spleen": True, "left kidney": True, "aorta": True,
    }  # fmt: skip
    assert abs(at["spine"][2]) < 5, "in the middle"
    assert at["spine"][1] == max(position[1] for position in at.values()), "behind all others"
    assert at["liver"][0] > at["right kidney"][0], "above it"
    assert at["spleen"][0] > at["left kidney"][0], "above it"


@pytest.mark.parametrize("shape", [(48, 80, 112), (24, 64, 64), (40, 96, 48)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_every_organ_is_there_and_whole(shape: tuple[int, int, int], seed: int) -> None:
    data = np.asarray(phantom("ct", seed=seed, shape_zyx=shape, spacing_zyx_mm=(5.0, 3.0, 3.0))[1].data)
    assert set(np.unique(data)) == {0, *LABELS}
    assert not data[:, [0, -1]].any()
    assert not data[:, :, [0, -1]].any()


def test_a_single_slice_shows_a_section() -> None:
    image, labels = phantom("ct", shape_zyx=(1, 64, 96), spacing_zyx_mm=(5.0, 4.0, 4.0))
    assert image.data.shape == (1, 1, 64, 96)
    assert {1, 5, 6} <= set(np.unique(np.asarray(labels.data)))


@pytest.mark.parametrize("seed", range(3))
def test_labels_are_exact_at_any_resolution(seed: int) -> None:
    coarse = phantom("ct", seed=seed, shape_zyx=(12, 30, 42), spacing_zyx_mm=(21.0, 9.0, 9.0))[1]
    fine = phantom("ct", seed=seed, shape_zyx=(36, 90, 126), spacing_zyx_mm=(7.0, 3.0, 3.0))[1]
    # The middle one of three fine voxels has the centre of the coarse one.
    np.testing.assert_array_equal(np.asarray(fine.data)[1::3, 1::3, 1::3], coarse.data)


def test_intensities_of_organs_are_those_of_ct() -> None:
    image, labels = phantom("ct", seed=1)
    data, ids = np.asarray(image.data)[0], np.asarray(labels.data)
    means = {LABELS[k]: data[ids == k].mean() for k in LABELS}
    assert 90 < means["liver"] < 130
    assert means["right kidney"] > means["liver"] + 30
    assert means["spine"] > means["aorta"]
    assert data[:, 0].mean() == pytest.approx(-1000, abs=5), "air in front of the patient"
    assert data.min() >= -1024


def test_edges_are_shared_between_tissues() -> None:
    data = np.asarray(phantom("ct", seed=1)[0].data)[0]
    between = (data > -800) & (data < -300)  # neither air nor fat
    assert 0.005 < between.mean() < 0.1


def test_coil_shading_is_in_mr_only() -> None:
    def spread(kind: Kind) -> float:
        image, labels = phantom(kind, seed=2)
        liver = np.where(np.asarray(labels.data) == 1, np.asarray(image.data)[0], np.nan).astype(float)
        planes = np.nanmean(liver[20:36], axis=(1, 2))
        return float(np.ptp(planes) / planes.mean())

    assert spread("mr") > 2 * spread("ct")


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown kind of phantom 'pet': choose one of ct, mr"):
        phantom("pet")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="non-zero axes"):
        phantom("ct", spacing_zyx_mm=(0.0, 1.0, 1.0))
    with pytest.raises(InputError, match="three positive sizes"):
        phantom("ct", shape_zyx=(0, 10, 10))


def test_sample_files_hold_the_phantom_of_seed_0() -> None:
    files = sample_files()
    image, labels = phantom("ct", seed=0)
    stored, stored_labels = io.read(files["image"]), io.read_segmentation(files["labels"])
    assert stored.grid.same_as(image.grid)
    np.testing.assert_array_equal(np.asarray(stored.data), image.data)
    np.testing.assert_array_equal(np.asarray(stored_labels.data), labels.data)
    assert dict(stored_labels.labels) == LABELS


def test_the_samples_model_is_small() -> None:
    assert sample_files()["model"].stat().st_size < 2e6


def test_a_link_that_became_a_text_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, beside = tmp_path / "package", tmp_path / "sample_data"
    (package / "sample_data").mkdir(parents=True)
    beside.mkdir()
    monkeypatch.setattr(sample, "__file__", str(package / "sample.py"))
    with pytest.raises(FileError, match="the sample file is missing"):
        sample_files()
    for path in ("phantom_ct.nii.gz", "phantom_ct_labels.nii.gz", "phantom_ct.safetensors"):
        (beside / path).write_bytes(bytes(1000))
        (package / "sample_data" / path).write_text(f"../../sample_data/{path}\n")
    assert sample_files()["model"] == (beside / "phantom_ct.safetensors").resolve()
