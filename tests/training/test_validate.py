"""Validation by hand: six voxels, and predictions that the test makes up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from balls import segmentation, volume
from napari_medseg import Grid, ModelSpec, Segmentation, Volume
from napari_medseg.cases import Case
from napari_medseg.config import LossConfig
from napari_medseg.events import Event, Progress, run_to_end
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.file import load_model
from napari_medseg.training.validate import mean_of, validate, validate_presets

LABELS = {1: "left ball", 2: "right ball"}


def row(values: Sequence[int]) -> Segmentation:
    data = np.array(values, dtype=np.uint8).reshape(1, 1, -1)
    return Segmentation(data, Grid.from_spacing(data.shape, (1.0, 1.0, 1.0)), LABELS)


def case(name: str, labels: Sequence[int]) -> Case:
    reference = row(labels)
    volume = Volume(np.zeros((1, *reference.grid.shape), np.float32), reference.grid, name=name)
    return Case(name=name, images=(volume,), labels=reference)


def validated(
    spec: ModelSpec, cases: list[Case], found: dict[str, Sequence[int]], **loss: object
) -> tuple[dict[int, float], list[Event]]:
    events: list[Event] = []
    work = validate(cases, spec, lambda volume: row(found[volume.name]), LossConfig(**loss))  # type: ignore[arg-type]
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return end.value, events


@pytest.fixture(scope="module")
def spec(ball_model: Path) -> ModelSpec:
    return load_model(ball_model).spec


def test_dice_is_twice_the_overlap_over_the_sum(spec: ModelSpec) -> None:
    # Label 1: 1 voxel in both, 2 + 1 in all. Label 2: 2 in both, 2 + 3 in all.
    dice, events = validated(spec, [case("a", [1, 1, 0, 2, 2, 0])], {"a": [1, 0, 0, 2, 2, 2]})
    assert dice == pytest.approx({1: 2 / 3, 2: 4 / 5})
    assert events == [Progress(1, 1, "validation")]


def test_each_preset_is_named_in_its_progress(ball_model: Path) -> None:
    model = load_model(ball_model)
    one = Case(name="a", images=(volume(),), labels=segmentation())
    best = Predictor(model.load_network(), torch.device("cpu"), "fp32", None)
    work = validate_presets([one], model.spec, best, LossConfig(), 0.5)
    assert [event.message for event in work if isinstance(event, Progress)] == ["preset balanced", "preset fast"]


def test_cases_count_alike_and_a_label_absent_from_both_is_right(spec: ModelSpec) -> None:
    cases = [case("a", [1, 1, 0, 0]), case("b", [1, 0, 0, 0])]
    dice, events = validated(spec, cases, {"a": [1, 1, 0, 0], "b": [0, 0, 0, 0]})
    assert dice == pytest.approx({1: (1 + 0) / 2, 2: 1})
    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [(1, 2), (2, 2)]


def test_labels_that_no_case_of_a_training_holds_have_no_dice(spec: ModelSpec) -> None:
    work = validate([case("a", [1, 1, 0])], spec, lambda _: row([1, 0, 2]), LossConfig(), {1})
    assert run_to_end(work) == pytest.approx({1: 2 / 3})


def test_voxels_that_nobody_annotated_count_nowhere(spec: ModelSpec) -> None:
    # The third voxel is ignored: label 1 is right in all others.
    dice, _ = validated(spec, [case("a", [1, 1, 3, 0])], {"a": [1, 1, 1, 0]}, ignore_label=3)
    assert dice == pytest.approx({1: 1, 2: 1})


def test_the_mean_over_labels() -> None:
    assert mean_of({1: 0.5, 7: 1.0}) == 0.75
    assert np.isnan(mean_of({}))
