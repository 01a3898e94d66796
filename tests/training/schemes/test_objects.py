"""Cases for schemes that learn objects, and trainings that end in objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_medseg as ms
from napari_medseg.architectures.detection import mask_rcnn
from napari_medseg.cases import Case
from napari_medseg.config import TrainConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.events import run_to_end
from napari_medseg.training.cases import IGNORE, Numbered
from napari_medseg.training.schemes.mask_rcnn import Objects, masks_in
from napari_medseg.training.schemes.objects import cases_for
from napari_medseg.training.tasks.preview import segmenting_slice
from napari_medseg.transforms.depths import depth_label, depths_in, depths_of, objects_of
from napari_medseg.volume import Grid, Segmentation
from objects_phantoms import balls, discs

TINY: dict[str, Any] = {
    "patch_zyx": (1, 32, 32),
    "batch_size": 1,
    "device": "cpu",
    "val": 0.0,
    "report": False,
    "augment": False,
}


def config(**knobs: object) -> TrainConfig:
    return configured(TrainConfig, None, knobs)


def test_depths_and_numbers_of_a_case() -> None:
    volume, ids = discs()
    case = Case(name="a", images=(volume,), labels=ids)
    (deep,) = cases_for("depths", [case], config(objects="ids"))
    labels = deep.segmentation()
    assert [name for name, _ in depths_in(labels.labels).values()] == ["object"] * 3
    assert not isinstance(deep, Numbered)
    (numbered,) = cases_for("objects", [case], config(objects="ids"))
    assert isinstance(numbered, Numbered)
    assert numbered.segmentation().labels == {1: "object"}
    assert np.array_equal(numbered.numbers(numbered.segmentation()), np.asarray(ids.data))


@pytest.mark.parametrize("ignored", [None, 2])
def test_every_depth_of_every_label_has_its_id(ignored: int | None) -> None:
    ids = np.random.default_rng(0).integers(0, 7, (4, 3, 3)).repeat(5, 0).repeat(5, 1).repeat(5, 2).astype(np.uint8)
    labels = Segmentation(ids, Grid.from_spacing((20, 15, 15), (2.0, 1.0, 1.0)))
    (case,) = cases_for("depths", [Case(name="a", labels=labels)], config(ignore_label=ignored))
    made, taken = np.asarray(case.segmentation().data), ignored or 0
    kept = np.where(ids == (-1 if ignored is None else ignored), 0, ids)
    depths = depths_of(objects_of(kept, connected=True), labels.grid.spacing)
    expected = np.where(ids == taken, taken, 0)
    for label in range(1, 7):
        for depth in (1, 2, 3):
            expected[(kept == label) & (depths == depth)] = depth_label(label, depth, taken)
    np.testing.assert_array_equal(made, expected)


def test_parts_of_several_labels_keep_them_and_the_ignored_label_stays() -> None:
    labels = balls()
    case = Case(name="a", labels=labels)
    (parts,) = cases_for("objects", [case], config(ignore_label=4))
    assert isinstance(parts, Numbered)
    numbers = parts.numbers(parts.segmentation())
    assert numbers.max() == 2, "the balls that touch are one part, the speck another, the ignored one none"
    (deep,) = cases_for("depths", [case], config(ignore_label=1))
    found = deep.segmentation()
    assert set(found.labels.values()) == {f"cyst, depth {d} of 3" for d in (1, 2, 3)}
    assert (np.asarray(found.data)[np.asarray(labels.data) == 1] == 1).all()


def test_objects_of_a_patch_by_hand() -> None:
    numbers = torch.tensor([[7, 7, 0], [7, 0, 9], [0, 0, 9]])
    classes = torch.tensor([[1, 1, 0], [1, IGNORE, 2], [0, 0, 2]])
    found = Objects.of(numbers, classes)
    assert found.ids.tolist() == [7, 9]
    assert found.boxes.tolist() == [[0, 0, 2, 2], [1, 2, 3, 3]]
    assert found.classes.tolist() == [1, 2]
    masks = masks_in(found, torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 1.0, 3.0, 4.0]]), torch.tensor([0, 1]), 2)
    assert masks[0].tolist() == [[1, 1], [1, 0]]
    assert masks[1].tolist() == [[0, 0], [0, 0]], "beyond the patch there is no object"
    assert Objects.of(torch.zeros(3, 3, dtype=torch.long), classes).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("knobs", "match"),
    [
        ({"scheme": "mask-rcnn", "network": "unet3d"}, "scheme mask-rcnn trains mask_rcnn"),
        ({"network": "mask_rcnn"}, "is trained by scheme mask-rcnn"),
        ({"scheme": "mask-rcnn", "ema": 0.9}, "scheme mask-rcnn has no use for ema"),
        ({"scheme": "mask-rcnn", "loss": "focal"}, "scheme mask-rcnn has no use for loss"),
        ({"scheme": "distance-map", "weak": "boxes"}, "choose weak=none"),
        ({"scheme": "mask-rcnn", "cascade": "coarse-to-fine"}, "scheme mask-rcnn|first_network|unet3d"),
    ],
)
def test_what_does_not_go_together_is_refused(knobs: dict[str, object], match: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=match):
        ms.train([discs()], out=tmp_path / "m.safetensors", **knobs)


def test_a_distance_map_is_learned_and_gives_objects(tmp_path: Path) -> None:
    """Discs that touch, by a small network: mostly their number, where connected parts are half as many."""
    cases = [discs(seed) for seed in range(4)]
    knobs: dict[str, Any] = {"arguments": {"channels": (8, 16), "deep_supervision": False}, "learning_rate": 0.01}
    model = ms.train(
        cases, scheme="distance-map", objects="ids", out=tmp_path / "m.safetensors", epochs=12, **{**TINY, **knobs}
    )
    assert depths_in(model.spec.labels)
    volume, ids = discs(9)
    found = ms.segment(volume, model, device="cpu")
    assert found.provenance["instances"] == "distance"
    row = ms.metrics.match_instances(prediction=found, reference=ids, instances="ids").rows[0]
    assert row.found >= 6
    plain = ms.segment(volume, model, device="cpu", instances="none")
    assert plain.labels == model.spec.labels
    out = ms.segment(volume, model, device="cpu", out=tmp_path / "out.zarr")
    assert np.array_equal(np.asarray(out.data[...]), np.asarray(found.data))
    assert np.asarray(found.data).max() > max(model.spec.labels), "more objects than depths"
    seen = run_to_end(segmenting_slice(volume, model, 0, 0, "cpu"))
    assert set(np.unique(np.asarray(seen.data))) <= {0, *model.spec.labels}, "what it learns, not numbers of objects"
    with pytest.raises(InputError, match="gives no labels of an image by itself"):
        ms.train(cases, scheme="boundary-patch", init=model, out=tmp_path / "r.safetensors")


def test_mask_rcnn_learns_resumes_and_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses fall; a training that was stopped goes on to the same weights; what it finds are ids."""
    cases = [discs(seed) for seed in range(2)]
    knobs: dict[str, Any] = {
        **TINY,
        "scheme": "mask-rcnn",
        "objects": "ids",
        "epochs": 6,
        "arguments": {"features": (8, 8), "anchors": (8, 12), "roi": 3, "mask": 4, "hidden": 16},
        "learning_rate": 0.005,
        "checkpoint_minutes": 0,
    }
    steps: list[dict[str, float]] = []
    events = ms.iter_train(cases, out=tmp_path / "a.safetensors", **knobs)
    for event in events:
        if isinstance(event, ms.events.TrainProgress):
            steps.append(dict(event.losses))
    assert steps[0].keys() == {"objectness", "anchors", "classes", "boxes", "masks"}
    assert np.mean([sum(s.values()) for s in steps[-3:]]) < np.mean([sum(s.values()) for s in steps[:3]])
    asked = iter([False] * 4 + [True] * 100)
    ms.train(cases, out=tmp_path / "b.safetensors", should_stop=lambda: next(asked), **knobs)
    ms.train(cases, out=tmp_path / "b.safetensors", resume=True, **knobs)
    one, other = (
        ms.load_model(tmp_path / name).load_network().state_dict() for name in ("a.safetensors", "b.safetensors")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    monkeypatch.setattr(mask_rcnn, "SCORE", 0.05)
    volume, _ = cases[0]
    found = ms.segment(volume, tmp_path / "a.safetensors", device="cpu")
    stored = ms.segment(volume, tmp_path / "a.safetensors", device="cpu", out=tmp_path / "out.zarr")
    ids = np.unique(np.asarray(found.data))
    assert ids.tolist() == list(range(len(ids)))
    assert len(ids) > 1
    assert np.array_equal(np.asarray(stored.data[...]), np.asarray(found.data))
    assert found.provenance["instances"] == "detect"
    labels = ms.segment(volume, tmp_path / "a.safetensors", device="cpu", instances="none")
    assert labels.labels == {1: "object"}
    with pytest.raises(InputError, match="finds objects itself"):
        ms.segment(volume, tmp_path / "a.safetensors", device="cpu", instances="distance")
