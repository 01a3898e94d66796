"""Steps that a model asks for: decided on validation cases, kept in its file, applied by the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import euler_number

import napari_medseg as ms
from known_refiners import segmenter, spec_of, write_brighter
from napari_medseg.cases import Case
from napari_medseg.config import CleanConfig, LossConfig
from napari_medseg.errors import InputError, ModelFileError
from napari_medseg.events import Filled, run_to_end
from napari_medseg.geometry import Shape3, Triple
from napari_medseg.inference.cleaning.steps import cleaning_labels
from napari_medseg.inference.cleaning.topology import towards
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.refiners.deciding import best_steps, decide_cleaning, deciding
from objects_phantoms import BLOCKS
from recorder import Recorder

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
    def flipped(labels: list[int], target: list[int]) -> list[int]:
        bar, wanted = (np.array(values, np.uint8)[None, None] for values in (labels, target))
        for _ in towards(bar, 1, wanted, np.s_[0:1, 0:1, 0:7], 10):
            pass
        return [int(value) for value in bar.ravel()]

    bar = [0, 1, 1, 1, 1, 1, 0]
    assert sum(flipped(bar, [0] * 7)) == 1, "a part never vanishes"
    assert flipped(bar, [0, 1, 0, 0, 0, 1, 0]) == bar
    assert flipped([0, 1, 1, 1, 1, 1, 2], [0, 0, 0, 1, 1, 1, 1]) == [0, 0, 0, 1, 1, 1, 2], "another label stays"


STEPS = (
    {"largest": True},
    {"islands_ml": 0.02},
    {"fill_holes": True},
    {"smooth_mm": 1.1},
    {"smooth_mm": 1.1, "keep_topology": True},
    {"fill_holes": True, "smooth_mm": 0.7, "islands_ml": 0.012, "largest": True, "labels": (2,)},
)


def at_once(labels: npt.NDArray[Any], spacing: Triple, config: CleanConfig) -> npt.NDArray[Any]:
    """The steps but for topology on the whole array, by their definitions."""
    now = labels.copy()
    chosen = [k for k in np.unique(labels[labels > 0]).tolist() if k in (config.labels or (k,))]
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[config.connectivity])
    for label in chosen if config.fill_holes else ():
        faces = ndimage.generate_binary_structure(3, 1)
        if labels.shape[0] == 1:
            faces[[0, 2]] = False
        now[ndimage.binary_fill_holes(now == label, faces) & (now == 0)] = label
    if config.smooth_mm:
        sigma = [config.smooth_mm / step for step in spacing]
        masks = [(now == label).astype(np.float32) for label in chosen]
        shares = [ndimage.gaussian_filter(mask, sigma, mode="nearest", truncate=3.0) for mask in masks]
        best = np.max([np.zeros(now.shape, np.float32), *shares], axis=0)
        winner = np.array(chosen)[np.argmax(shares, axis=0)]
        total = np.zeros(now.shape, np.float32)
        for share in shares:
            total += share
        lead, ours = best - (1 - total), np.isin(now, chosen)
        taken = (lead > 1e-4) & (ours | (now == 0))
        now = np.where(taken, winner, np.where(ours & (lead < -1e-4), 0, now)).astype(labels.dtype)
    for label in chosen:
        parts, _ = ndimage.label(now == label, structure)
        sizes = np.bincount(parts.ravel())[1:]
        if config.islands_ml:
            small = 1 + np.flatnonzero(sizes * np.prod(spacing) / 1000 < config.islands_ml * (1 - 1e-9))
            now[np.isin(parts, small)] = 0
            sizes[small - 1] = 0
        if config.largest and sizes.any():
            now[(parts > 0) & (parts != 1 + sizes.argmax())] = 0
    return now


@given(
    seed=st.integers(0, 2**31),
    shape=st.sampled_from([(9, 12, 13), (1, 17, 19), (26, 9, 2)]),
    voxels=st.sampled_from(BLOCKS[:-1]),
    connectivity=st.sampled_from([6, 18, 26]),
    knobs=st.sampled_from(STEPS),
    chunked=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_labels_do_not_depend_on_the_blocks(
    seed: int, shape: Shape3, voxels: int, connectivity: int, knobs: dict[str, Any], chunked: bool
) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 0.7)
    labels = np.digitize(noise, [0.1, 0.35]).astype(np.uint8)
    spacing = (2.0, 1.0, 1.5)
    config = CleanConfig(connectivity=connectivity, **knobs)  # type: ignore[arg-type]  # sampled from integers

    def cleaned(target: Any, voxels: int) -> npt.NDArray[Any]:
        for _ in cleaning_labels(ms.Segmentation(target, ms.Grid.from_spacing(shape, spacing)), [config], voxels):
            pass
        return np.asarray(target[:, :, :])

    whole = cleaned(labels.copy(), 10_000)
    np.testing.assert_array_equal(cleaned(Recorder(labels.copy()) if chunked else labels.copy(), voxels), whole)
    if not config.keep_topology:
        np.testing.assert_array_equal(whole, at_once(labels, spacing, config))


@pytest.mark.parametrize("knobs", STEPS)
def test_no_step_reads_more_where_there_are_more_planes(knobs: dict[str, Any]) -> None:
    largest = []
    for depth in (64, 192):
        noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(depth, 16, 16)), 0.7)
        labels = Recorder(np.digitize(noise, [0.1, 0.35]).astype(np.uint8))
        labels.data[2:-2, 4:12, 4:12] = 2
        labels.data[4:-4, 6:10, 6:10] = 0  # a hole through all blocks
        before = labels.data.copy()
        segmentation = ms.Segmentation(labels, ms.Grid.from_spacing(labels.shape, (1.0, 1.0, 1.0)))
        boxes = [e.box for e in cleaning_labels(segmentation, [CleanConfig(**knobs)], 2048) if isinstance(e, Filled)]
        changed = np.zeros(labels.shape, bool)
        for box in boxes:
            changed[box] = True
        assert (before != labels.data).any()
        assert changed[before != labels.data].all(), "what changes is told"
        largest.append(labels.largest)
    assert largest[0] == largest[1] <= 2 * 2048


@pytest.mark.parametrize("stop", [1, 3])
def test_a_run_that_ends_while_it_cleans_is_resumed_to_the_same_labels(tmp_path: Path, stop: int) -> None:
    """Steps that were done in part would see other labels the second time."""
    shape = (130, 16, 16)
    grid = ms.Grid.from_spacing(shape, (1.0, 1.0, 1.0))
    image = np.random.default_rng(0).normal(size=shape)
    volume = ms.Volume(ndimage.gaussian_filter(image, 1.0).astype(np.float32)[None] * 4, grid, ("image",))
    config = CleanConfig(smooth_mm=1.5, keep_topology=True, largest=True)
    model = write_brighter(tmp_path / "m.safetensors", replace(segmenter(spec_of(patch=SHAPE)), cleaning=(config,)))
    plain = np.asarray(ms.segment(volume, replace(model, spec=replace(model.spec, cleaning=())), device="cpu").data)
    whole = np.asarray(ms.segment(volume, model, device="cpu").data)
    assert (plain != whole).any()
    out, filled = tmp_path / "out.zarr", 0
    events = ms.iter_segment(volume, model, out=out, device="cpu")
    for event in events:
        if isinstance(event, Filled):
            filled += 1
        if filled == 3 + stop:  # three rows of chunks
            break
    events.close()  # type: ignore[attr-defined]  # a generator
    for _ in ms.iter_segment(volume, model, out=out, device="cpu", resume=True):
        pass
    np.testing.assert_array_equal(np.asarray(ms.read_segmentation(out).data[...]), whole)
    assert not list(out.rglob("*.partial"))
