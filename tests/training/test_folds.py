"""Each fold validates on cases that it has not seen, all follow one plan, and together they are a set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from balls import LABELS, segmentation, volume
from napari_medseg.errors import InputError
from napari_medseg.events import Finished, Notice, Started, result_of
from napari_medseg.models.file import Model
from napari_medseg.models.several import load_set
from napari_medseg.training import Folds, iter_train_folds, plan
from napari_medseg.training.cases import as_cases

CASES = [(replace(volume(seed=seed), name=f"case{seed}"), segmentation()) for seed in range(3)]
SMALL: dict[str, Any] = {"arguments": {"channels": (4, 8)}, "epochs": 1, "device": "cpu", "report": False}


def test_folds_make_a_set(tmp_path: Path) -> None:
    events = list(iter_train_folds(CASES, folds=3, out=tmp_path / "balls.json", **SMALL))
    assert isinstance(events[-1], Finished)
    folds = events[-1].result
    assert isinstance(folds, Folds)
    plans = [event.message for event in events if isinstance(event, Started)]
    validated = [line.split("to validate: ")[1].split(",")[0] for line in plans]
    assert validated == ["1 (case0)", "1 (case1)", "1 (case2)"]
    names = [f"balls.fold{k}of3.safetensors" for k in (1, 2, 3)]
    assert json.loads((tmp_path / "balls.json").read_text()) == {
        "napari_medseg_set": 1,
        "combine": "average",
        "members": [{"model": name} for name in names],
    }
    assert [model.path for model in folds.models] == [tmp_path / name for name in names]
    first, *others = (model.spec for model in folds.models)
    for name in ("channels", "labels", "patch_zyx", "spacing_zyx_mm", "orientation", "normalisation", "mode"):
        assert all(getattr(other, name) == getattr(first, name) for other in others)
    dice = [model.spec.training.validation["dice mean"] for model in folds.models]
    assert folds.scores["dice mean"][0] == pytest.approx(sum(dice) / 3)


def test_no_fold_validates_on_a_patient_that_it_has_trained_on(tmp_path: Path) -> None:
    patients = ("a", "b", "b", "c")
    cases = [
        replace(case, name=f"{who}{k}", group=who)
        for k, (case, who) in enumerate(
            zip(as_cases([*CASES, (volume(seed=3), segmentation())]), patients, strict=True)
        )
    ]
    events = list(iter_train_folds(cases, folds=3, out=tmp_path / "b.json", **SMALL))
    plans = [event.message for event in events if isinstance(event, Started)]
    assert [line.split("to validate: ")[1].split(", steps")[0] for line in plans] == ["1 (a0)", "2 (b1, b2)", "1 (c3)"]
    with pytest.raises(InputError, match="no more than the 3 patients of the 4 cases; got 4"):
        list(iter_train_folds(cases, folds=4, out=tmp_path / "b.json", **SMALL))


def test_folds_adapt_to_another_domain(tmp_path: Path) -> None:
    target = iter([volume(seed=9)])  # walked over once, and seen by each fold
    events = iter_train_folds(
        CASES, folds=2, out=tmp_path / "b.json", scheme="adapt-statistics", target=target, **SMALL
    )
    folds = result_of(events)
    assert [model.spec.normalisation[0].kind for model in folds.models] == ["zscore", "zscore"]
    averaged = load_set(tmp_path / "b.json")
    assert isinstance(averaged, Model)
    assert dict(averaged.spec.labels) == LABELS


def test_folds_that_are_stopped_leave_those_that_are_trained(tmp_path: Path) -> None:
    asked: list[bool] = []

    def should_stop() -> bool:
        asked.append(True)
        return True

    events = list(iter_train_folds(CASES, folds=3, out=tmp_path / "b.json", should_stop=should_stop, **SMALL))
    assert any(isinstance(e, Notice) and e.message.startswith("stopped after 1 of 3 folds") for e in events)
    assert len(json.loads((tmp_path / "b.json").read_text())["members"]) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"folds": 4}, "folds must be 2 to 20, and no more than the 3 cases; got 4"),
        ({"folds": 1}, "got 1"),
        ({"cascade": "detect"}, "cascades cannot be"),
        ({"out": "model.safetensors"}, r"end its name in \.json"),
    ],
    ids=["too many", "one", "cascade", "name"],
)
def test_what_makes_no_folds_is_refused(options: dict[str, object], reason: str, tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"folds": 2, "out": tmp_path / "b.json", **SMALL, **options}
    with pytest.raises(InputError, match=reason):
        list(iter_train_folds(CASES, **wanted))


def test_folds_that_were_not_all_validated_have_no_scores(tmp_path: Path) -> None:
    steps = [False] * 4 + [True] * 9
    options = {**SMALL, "validations": 0}
    events = list(
        iter_train_folds(CASES[:2], folds=2, out=tmp_path / "b.json", should_stop=lambda: steps.pop(0), **options)
    )
    folds = events[-1].result  # type: ignore[attr-defined]
    assert [bool(model.spec.training.validation) for model in folds.models] == [True, False]
    assert folds.scores == {}


def test_what_folds_cannot_average_is_refused_before_hours_of_training(tmp_path: Path) -> None:
    made = plan(CASES, cascade="coarse-to-fine", arguments={"channels": (4, 8)}, device="cpu", pace=lambda *_: 1e9)
    with pytest.raises(InputError, match="cascades cannot be"):
        list(iter_train_folds(CASES, folds=2, out=tmp_path / "b.json", plan=made, device="cpu"))


def test_the_plan_of_folds_has_no_label_for_strokes_on_the_background(tmp_path: Path) -> None:
    events = iter_train_folds(
        CASES, folds=2, out=tmp_path / "b.json", weak="scribbles", background_label=2, should_stop=lambda: True, **SMALL
    )
    folds = list(events)[-1].result  # type: ignore[attr-defined]
    assert list(folds.models[0].spec.labels) == [1]
