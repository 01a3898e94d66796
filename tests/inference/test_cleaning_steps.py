"""Steps that a model asks for: decided on validation cases, kept in its file, applied by the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import euler_number

import napari_medseg as ms
from known_refiners import segmenter, spec_of, write_brighter
from napari_medseg.cases import Case
from napari_medseg.config import CleanConfig, LossConfig
from napari_medseg.errors import InputError, ModelFileError
from napari_medseg.events import run_to_end
from napari_medseg.inference.cleaning.topology import towards
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.refiners.deciding import best_steps, decide_cleaning, deciding

SHAPE = (8, 16, 16)
GRID = ms.Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0))


def pair() -> tuple[ms.Segmentation, ms.Segmentation]:
    """A body with an island and a hole, and the body."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:6, 3:9, 3:9] = 1
    found = truth.copy()
    found[3, 5, 5] = 0
    found[1, 13:15, 13:15] = 1
    return ms.Segmentation(found, GRID), ms.Segmentation(truth, GRID)


def test_what_raises_the_dice_most_is_chosen() -> None:
    found, truth = pair()
    assert best_steps([(found, truth, None)], 1)[0] == CleanConfig(labels=(1,), fill_holes=True, largest=True)
    assert best_steps([(truth, truth, None)], 1) == (None, 0.0)
    # Where the reference has two parts, keeping the largest costs more than it gains.
    two = np.asarray(truth.data).copy()
    two[1, 13:15, 13:15] = 1
    assert best_steps([(found, ms.Segmentation(two, GRID), None)], 1)[0] == CleanConfig(labels=(1,), fill_holes=True)


def test_what_nobody_annotated_decides_nothing() -> None:
    found, truth = pair()
    unknown = np.ones(SHAPE, bool)
    unknown[3] = False  # the island lies in another slice
    assert best_steps([(found, truth, unknown)], 1)[0] == CleanConfig(labels=(1,), fill_holes=True)
    assert best_steps([(found, truth, np.ones(SHAPE, bool))], 1) == (None, 0.0)


def test_a_training_decides_on_annotated_slices(tmp_path: Path) -> None:
    """The ignored label is no background: a model that is right where somebody looked needs no step."""
    found, truth = pair()
    spec = spec_of(patch=SHAPE)
    ids = np.full(SHAPE, 9, np.uint8)
    ids[5] = np.asarray(truth.data)[5]
    volume = ms.Volume(np.asarray(found.data, np.float32)[None], GRID, ("image",))
    case = Case(name="a", images=(volume,), labels=ms.Segmentation(ids, GRID))
    loss = LossConfig(ignore_label=9)
    assert run_to_end(deciding([case], spec, lambda _: found, loss)) == ()


def test_a_model_cleans_its_labels_in_memory_and_in_a_store(tmp_path: Path) -> None:
    found, truth = pair()
    volume = ms.Volume(np.asarray(found.data, np.float32)[None], GRID, ("image",))
    model = write_brighter(tmp_path / "bright.safetensors", segmenter(spec_of(patch=SHAPE)))
    plain = np.asarray(ms.segment(volume, model, device="cpu").data)
    np.testing.assert_array_equal(plain, found.data)
    decided = decide_cleaning([(volume, truth)], model, out=tmp_path / "decided.safetensors", device="cpu")
    assert decided.spec.cleaning == (CleanConfig(labels=(1,), fill_holes=True, largest=True),)
    assert ms.load_model(decided.path).spec == decided.spec
    np.testing.assert_array_equal(np.asarray(ms.segment(volume, decided, device="cpu").data), truth.data)
    for _ in ms.iter_segment(volume, decided, out=tmp_path / "out.zarr", device="cpu"):
        pass
    np.testing.assert_array_equal(np.asarray(ms.read_segmentation(tmp_path / "out.zarr").data[...]), truth.data)


def test_a_file_with_other_steps_is_refused() -> None:
    spec = replace(spec_of(), cleaning=(CleanConfig(labels=(1,), islands_ml=0.5),))
    assert ModelSpec.from_json(spec.to_json()) == spec
    for old, new, message in (
        ('"islands_ml"', '"island"', "cleaning has an unknown key 'island'"),
        ('"labels": [1]', '"labels": [7]', "cleaning names a label that is not among"),
        ('"islands_ml": 0.5', '"largest": 1', "cleaning largest must be true or false"),
        ('"islands_ml": 0.5', '"interpolate": "z"', "interpolates nothing"),
    ):
        with pytest.raises((InputError, ModelFileError), match=message):
            ModelSpec.from_json(spec.to_json().replace(old, new))


def test_smoothing_keeps_parts_and_tunnels_where_it_is_asked_to() -> None:
    ring = np.zeros((9, 24, 24), np.uint8)
    y, x = np.indices((24, 24)) - 11.5
    radius = np.hypot(y, x)
    ring[3:6, (radius > 4.5) & (radius < 6.5)] = 1
    ring[4, 3, 3] = 1
    grid = ms.Grid.from_spacing(ring.shape, (1.0, 1.0, 1.0))
    given = ms.Segmentation(ring, grid)
    smooth = np.asarray(ms.clean(given, smooth_mm=2.0).data)
    kept = np.asarray(ms.clean(given, smooth_mm=2.0, keep_topology=True).data)
    assert euler_number(smooth > 0, connectivity=3) != euler_number(ring > 0, connectivity=3)
    assert euler_number(kept > 0, connectivity=3) == euler_number(ring > 0, connectivity=3) == 1
    assert kept[4, 3, 3] == 1
    assert (kept != ring).any()


def test_flips_go_as_far_as_the_topology_allows() -> None:
    bar = np.zeros((1, 1, 7), bool)
    bar[0, 0, 1:6] = True
    target, free = np.zeros_like(bar), np.zeros_like(bar)
    assert towards(bar, target, free).sum() == 1, "a part never vanishes"
    target[0, 0, 1] = target[0, 0, 5] = True
    np.testing.assert_array_equal(towards(bar, target, free), bar)
    held = free.copy()
    held[0, 0, 1] = True
    assert towards(bar, np.zeros_like(bar), held)[0, 0, 1]
