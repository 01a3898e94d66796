"""Refiners learn from what a model gets wrong on the cases: held-out where it can be, with what a training promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

import napari_medseg as ms
from napari_medseg.cases import Case
from napari_medseg.config import LossConfig, TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Notice, Progress
from napari_medseg.metrics.pairwise.overlap import dice_per_label
from napari_medseg.models.refining import GIVEN, REFINED
from napari_medseg.models.several import Ensemble
from napari_medseg.models.spec import PATIENTS
from napari_medseg.training import iter_train, iter_train_folds
from napari_medseg.training.cases import as_cases
from napari_medseg.training.planning.facts import facts_of
from napari_medseg.training.refiners import errors
from napari_medseg.training.refiners.plan import CUBE_OVERLAP, refiner_plan
from napari_medseg.training.schemes.refiners import points_loss
from napari_medseg.training.schemes.start import _new_network

Pair = tuple[ms.Volume, ms.Segmentation]
SMALL: dict[str, Any] = {
    "arguments": {"channels": (4, 8), "deep_supervision": False},
    "patch_zyx": (8, 8, 8),
    "device": "cpu",
    "precision": "fp32",
    "report": False,
}


def pair(seed: int) -> Pair:
    rng = np.random.default_rng(seed)
    labels = np.zeros((9, 12, 11), np.uint8)
    labels[2:7, 2:9, 3:8] = 1
    labels[3:6, 8:11, 3:8] = 2
    image = (labels + 0.3 * rng.standard_normal(labels.shape)).astype(np.float32)
    grid = ms.Grid.from_spacing(labels.shape, (1.0, 1.0, 1.0))
    names = {1: "one", 2: "two"}
    return ms.Volume(image[None], grid, ("image",), name=f"case {seed}"), ms.Segmentation(labels, grid, names)


def dice(found: ms.Segmentation, reference: ms.Segmentation, ids: tuple[int, ...] = (1, 2)) -> float:
    return float(np.mean(list(dice_per_label(np.asarray(found.data), np.asarray(reference.data), ids).values())))


@pytest.fixture(scope="module")
def cases() -> list[Pair]:
    return [pair(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def model(cases: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> ms.Model:
    out = tmp_path_factory.mktemp("model") / "model.safetensors"
    return ms.train(cases, out=out, epochs=1, val=0.0, **SMALL)


@pytest.mark.parametrize("scheme", ["boundary-patch", "point-rend"])
def test_a_refiner_is_trained_from_the_errors_of_a_model(
    scheme: str, cases: list[Pair], model: ms.Model, tmp_path: Path
) -> None:
    options = {**SMALL, "arguments": {}} if scheme == "point-rend" else SMALL
    events = list(
        iter_train(
            cases, out=tmp_path / "refiner.safetensors", scheme=scheme, init=model, epochs=1, val=0.25, **options
        )
    )
    first = [event for event in events if isinstance(event, Progress)]
    assert [(e.done, e.total) for e in first if e.message == "segmenting cases by the model"] == [
        (k, 4) for k in range(1, 5)
    ]
    refiner: ms.Model = events[-1].result  # type: ignore[attr-defined]
    assert refiner.spec.kind == "refiner"
    assert refiner.spec.refines is not None
    assert refiner.spec.refines.method == scheme
    assert refiner.spec.refines.model == model.sha256
    scores = refiner.spec.training.validation
    volume, reference = cases[-1]
    assert scores[GIVEN] == pytest.approx(dice(ms.segment(volume, model, device="cpu"), reference))
    assert scores[REFINED] == pytest.approx(dice(ms.refine(volume, ms.segment(volume, model), refiner), reference))
    assert any("no better" in e.message for e in events if isinstance(e, Notice)) == (scores[REFINED] <= scores[GIVEN])
    assert dict(refiner.spec.labels) == {1: "one", 2: "two"}
    seen = {"boundary-patch": 3, "point-rend": 1}[scheme]
    assert refiner.spec.arguments["in_channels"] == seen
    assert 0 <= refiner.spec.training.validation["dice mean"] <= 1
    assert ms.load_model(refiner.path).spec == refiner.spec
    volume, _ = cases[0]
    given = ms.segment(volume, model, device="cpu")
    refined = ms.refine(volume, given, refiner, device="cpu")
    assert set(np.unique(np.asarray(refined.data))) <= {0, 1, 2}
    if scheme == "boundary-patch":
        assert refiner.spec.refines.overlap == CUBE_OVERLAP
    else:
        assert (refiner.spec.refines.layer, refiner.spec.refines.features) == ("heads.0", 4)


@torch.no_grad()
def test_a_refiner_of_boxes_begins_as_the_model_itself(cases: list[Pair], model: ms.Model) -> None:
    """A light unet3d lends its layout and weights, and the labels count for nothing yet; others lend nothing."""
    facts = [facts_of(case, LossConfig(), np.random.default_rng(0)) for case in as_cases(cases)]
    spec = refiner_plan("boundary-patch", model, facts, None, TrainConfig())
    assert spec.arguments["channels"] == (4, 8)
    network, known = (_new_network(spec, 0, model).eval(), model.load_network())
    image, labels = torch.randn(1, 1, 8, 8, 8), torch.rand(1, 2, 8, 8, 8)
    assert torch.equal(network(torch.cat([image, labels], 1)), known(image))
    wide = replace(model, spec=replace(model.spec, arguments={**model.spec.arguments, "channels": (32, 64)}))
    assert refiner_plan("boundary-patch", wide, facts, None, TrainConfig()).arguments["channels"] == (16, 32, 64)
    other = refiner_plan("boundary-patch", model, facts, "attention_unet", TrainConfig())
    assert not all(
        torch.equal(a, b) for a, b in zip(_new_network(other, 0, model).parameters(), known.parameters(), strict=False)
    )


def test_a_resumed_training_makes_the_same_refiner(cases: list[Pair], model: ms.Model, tmp_path: Path) -> None:
    options = {**SMALL, "arguments": {}, "scheme": "point-rend", "init": model, "epochs": 2, "val": 0.0}
    whole = ms.train(cases, out=tmp_path / "whole.safetensors", **options)
    calls = iter([False, True, True, True])
    part = tmp_path / "part.safetensors"
    list(iter_train(cases, out=part, should_stop=lambda: next(calls, True), **options))
    resumed = ms.train(cases, out=part, resume=True, **options)
    first, second = (made.load_network().state_dict() for made in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any("head." in name for name in first)


def test_each_case_is_segmented_by_the_fold_that_has_not_seen_it(
    cases: list[Pair], model: ms.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, str]] = []

    def segmenting(volume: ms.Volume, teacher: ms.Model, _: object) -> Any:
        yield from ()
        found.append((volume.name, teacher.path.name))
        return ms.Segmentation(np.zeros(volume.grid.shape, np.uint8), volume.grid)

    monkeypatch.setattr(errors, "segmenting", segmenting)
    trained = replace(model.spec, training=replace(model.spec.training, cases=2))
    members = tuple(replace(model, path=Path(f"cv.fold{k}of2.safetensors"), spec=trained) for k in (1, 2))
    folds = Ensemble(model.spec, Path("cv.json"), "0", members)
    all_cases = [Case(name=volume.name, images=(volume,), labels=labels) for volume, labels in cases]
    for _ in errors.finding_errors(folds, all_cases[1:], all_cases, TrainConfig()):
        pass
    assert found == [
        ("case 1", "cv.fold2of2.safetensors"),
        ("case 2", "cv.fold1of2.safetensors"),
        ("case 3", "cv.fold2of2.safetensors"),
    ]
    pairs = [replace(case, group=f"patient {number // 2}") for number, case in enumerate(all_cases)]
    for _ in errors.finding_errors(folds, pairs[1:2], pairs, TrainConfig()):
        pass
    assert found[3:] == [("case 1", "cv.json")], "the folds of an earlier version parted the cases of a patient"
    of_patients = replace(trained, training=replace(trained.training, fingerprint={PATIENTS: 1}))
    folds = Ensemble(model.spec, Path("cv.json"), "0", tuple(replace(m, spec=of_patients) for m in members))
    for _ in errors.finding_errors(folds, pairs[1:3], pairs, TrainConfig()):
        pass
    assert found[4:] == [("case 1", "cv.fold1of2.safetensors"), ("case 2", "cv.fold2of2.safetensors")]
    strangers = Ensemble(model.spec, Path("cv.json"), "0", tuple(replace(m, spec=model.spec) for m in members))
    for _ in errors.finding_errors(strangers, all_cases[:1], all_cases, TrainConfig()):
        pass
    assert found[-1] == ("case 0", "cv.json"), "folds of other cases have seen who knows what"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": None}, "scheme boundary-patch learns from the errors of a model: give it"),
        ({"cascade": "detect"}, "takes no cascade detect"),
        ({"adapt": "decoder"}, "takes no adapt decoder"),
        ({"mode": "triplanar"}, "sees slices .2d. or volumes .3d."),
    ],
)
def test_what_a_refiner_has_no_use_for_is_refused(
    options: dict[str, Any], message: str, cases: list[Pair], model: ms.Model, tmp_path: Path
) -> None:
    given = {"init": model, **options}
    with pytest.raises(InputError, match=message):
        ms.train(cases, out=tmp_path / "x.safetensors", scheme="boundary-patch", **given)
    with pytest.raises(InputError, match="makes one refiner"):
        next(iter_train_folds(cases, out=tmp_path / "x.json", scheme="boundary-patch", init=model))


@pytest.mark.parametrize("scheme", ["boundary-patch", "point-rend"])
def test_errors_of_labels_that_no_case_holds_are_refused(
    scheme: str, cases: list[Pair], model: ms.Model, tmp_path: Path
) -> None:
    """All of the cases would be unknown, and nothing would be learned."""
    others = [(v, replace(s, data=np.where(np.asarray(s.data) > 0, 77, 0), labels={77: "other"})) for v, s in cases[:1]]
    with pytest.raises(InputError, match="no case to train holds a label of the model to start from, which has 1"):
        ms.train(others, out=tmp_path / "x.safetensors", scheme=scheme, init=model, **{**SMALL, "val": 0.0})


def test_points_of_slices_are_learned_at_a_finer_spacing_than_the_model_has(cases: list[Pair], tmp_path: Path) -> None:
    """From a network of slices that is supervised at several sizes."""
    slices = {"mode": "2d", "arguments": {"channels": (4, 8, 8)}, "patch_zyx": (1, 12, 12), "val": 0.0, "epochs": 1}
    model = ms.train(cases[:1], out=tmp_path / "m.safetensors", **{**SMALL, **slices})
    options = {**SMALL, "arguments": {}, "spacing_zyx_mm": (1.0, 0.75, 0.75), "epochs": 1, "val": 0.0}
    refiner = ms.train(cases[:1], scheme="point-rend", init=model, out=tmp_path / "r.safetensors", **options)
    assert refiner.spec.spacing_zyx_mm == (1.0, 0.75, 0.75)
    with pytest.raises(InputError, match="scheme point-rend plans when it trains"):
        ms.plan(cases, scheme="point-rend")


def test_points_that_nobody_annotated_do_not_count() -> None:
    logits = torch.tensor([[[2.0, 0.0, 5.0], [0.0, 2.0, -5.0]]])
    known = points_loss(logits, torch.tensor([[0, 1, -1]]))
    torch.testing.assert_close(known, torch.log1p(torch.exp(torch.tensor(-2.0))))
    assert float(points_loss(logits, torch.full((1, 3), -1))) == 0


def lobed(seed: int) -> Pair:
    """A ball with lobes of 1 to 2 voxels, in noise; 24^3 voxels of 1 mm."""
    rng, shape = np.random.default_rng(seed), (24, 24, 24)
    lobes = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5) * 7
    distance = np.linalg.norm(np.indices(shape) - 11.5, axis=0)
    labels = (distance + 1.5 * lobes < 7).astype(np.uint8)
    image = (labels + 0.2 * rng.standard_normal(shape)).astype(np.float32)
    grid = ms.Grid.from_spacing(shape, (1.0, 1.0, 1.0))
    return ms.Volume(image[None], grid, ("image",), name=f"case {seed}"), ms.Segmentation(labels, grid, {1: "one"})


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["boundary-patch", "point-rend"])
def test_a_refiner_regains_what_a_coarse_resolution_lost(scheme: str, tmp_path: Path) -> None:
    """On cases that neither the model nor the refiner has seen: a quarter of what is wrong at least."""
    small = {**SMALL, "val": 0.0, "arguments": {"channels": (8, 16), "deep_supervision": False}, "augment": False}
    seen, judged = [lobed(seed) for seed in range(6)], [lobed(seed) for seed in range(10, 13)]
    coarse = {**small, "spacing_zyx_mm": (3.0, 3.0, 3.0), "patch_zyx": (8, 8, 8)}
    model = ms.train(seen, out=tmp_path / "model.safetensors", epochs=40, **coarse)
    options = {**small, "arguments": {}, "patch_zyx": (12, 12, 12), "epochs": 12}
    refiner = ms.train(seen, out=tmp_path / "refiner.safetensors", scheme=scheme, init=model, **options)
    before, after = [], []
    for volume, reference in judged:
        given = ms.segment(volume, model, device="cpu")
        before.append(dice(given, reference, (1,)))
        after.append(dice(ms.refine(volume, given, refiner), reference, (1,)))
    assert min(before) > 0.5, "the model has learned nothing to better"
    assert 1 - np.mean(after) < 3 / 4 * (1 - np.mean(before))
