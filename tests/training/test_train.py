from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from balls import balls, segmentation, volume
from clock import Clock
from napari_medseg import Segmentation, Volume, evaluate, iter_segment, iter_train, load_model, segment, train
from napari_medseg.cases import Case
from napari_medseg.config import OptimiserConfig, TrainConfig, configured
from napari_medseg.errors import FileError, GridMismatchError, InputError, UnknownNameError
from napari_medseg.events import Event, Finished, Notice, Progress, Started, TrainProgress, Validated
from napari_medseg.geometry import AxisOrder
from napari_medseg.training import loop
from napari_medseg.training.cases import as_cases
from napari_medseg.training.fit import iter_job
from napari_medseg.training.job import Job, split, told_of_groups
from napari_medseg.training.losses.context import Context
from napari_medseg.training.losses.supervised import deeply_supervised
from napari_medseg.training.schedule import learning_rate
from napari_medseg.training.validate import validate

Pairs = list[tuple[Volume, Segmentation]]


def pairs(count: int = 5) -> Pairs:
    return [(replace(volume(seed=s), name=f"ball{s}"), segmentation()) for s in range(count)]


QUICK: dict[str, Any] = {"epochs": 3, "val": 0, "device": "cpu", "batch_size": 2, "precision": "fp32", "report": False}


def test_a_training_learns_and_its_model_segments(tmp_path: Path) -> None:
    model = train(pairs(), out=tmp_path / "balls.safetensors", epochs=40, val=0.2, device="cpu", learning_rate=3e-3)
    image = volume(seed=99)
    scores = evaluate(prediction=segment(image, model), reference=segmentation())
    assert scores.mean["dice"] > 0.85
    assert dict(model.spec.labels) == {1: "left ball", 2: "right ball"}
    record = model.spec.training
    assert record.cases == 4
    assert record.validation["dice mean"] > 0.85
    assert record.epochs == 40
    assert load_model(tmp_path / "balls.safetensors").sha256 == model.sha256


def test_a_model_is_mirrored_as_its_training_was(tmp_path: Path) -> None:
    """Each ball lies on one side of y, and x is named: the training mirrors z, and so does a run that is asked to."""
    for mirror, axes, told in (("auto", (0,), 0), ("none", (), 1)):
        model = train(pairs(2), out=tmp_path / "model.safetensors", **QUICK, mirror=mirror)
        assert load_model(tmp_path / "model.safetensors").spec.recipe.mirror_axes == axes
        events = list(iter_segment(volume(), model, device="cpu", tta=True, preset="exact"))
        assert sum("tta changes nothing" in e.message for e in events if isinstance(e, Notice)) == told


def test_events_tell_the_plan_every_step_and_the_end(tmp_path: Path) -> None:
    config = QUICK | {"val": 0.4, "validations": 2, "epochs": 4}
    events = list(iter_train(pairs(), out=tmp_path / "m.safetensors", **config))
    kinds = [type(e) for e in events]
    assert kinds.count(Started) == 1
    assert kinds[-1] is Finished
    steps = [e for e in events if isinstance(e, TrainProgress)]
    assert [e.step for e in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].done == steps[-1].total == len(steps)
    assert all(math.isfinite(e.loss) and e.seconds_left >= 0 for e in steps)
    validated = [e for e in events if isinstance(e, Validated)]
    assert len(validated) == 2
    assert set(validated[0].dice) == {1, 2}
    reading = [e for e in events if type(e) is Progress and e.message == "reading cases"]
    assert [e.done for e in reading] == [1, 2, 3, 4, 5]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path).load_network().state_dict()


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        train(pairs(3), out=path, **QUICK, seed=seed)
    assert torch.equal(torch.get_rng_state(), before)
    first, again, other = (weights(p) for p in paths)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_the_last_cases_validate_and_the_best_checkpoint_wins(tmp_path: Path) -> None:
    events = list(iter_train(pairs(5), out=tmp_path / "m.safetensors", **QUICK | {"val": 0.4, "validations": 3}))
    folder = tmp_path / "m.training"
    assert sorted(p.name for p in folder.iterdir()) == ["best.safetensors", "history.json", "last.safetensors"]
    best = max((e for e in events if isinstance(e, Validated)), key=lambda e: e.mean_dice)
    model = load_model(tmp_path / "m.safetensors")
    assert model.spec.training.validation["dice mean"] == pytest.approx(best.mean_dice)
    presets = model.spec.training.presets
    assert list(presets) == ["exact", "balanced", "fast"]
    assert presets["exact"] == pytest.approx(best.mean_dice, abs=0.01)
    kept = weights(folder / "best.safetensors")
    assert all(torch.equal(v, kept[k]) for k, v in weights(model.path).items())
    history = json.loads((folder / "history.json").read_text())
    assert history["finished"] == model.sha256
    assert [step for step, _ in history["losses"]] == list(range(1, len(history["losses"]) + 1))
    assert [v["step"] for v in history["validations"]] == [e.step for e in events if isinstance(e, Validated)]


def test_a_model_that_is_there_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    whole: list[dict[str, bytes]] = []
    notices = []
    for seed in range(3):
        events = list(iter_train(pairs(2), out=out, **QUICK | {"epochs": 1, "seed": seed, "val": 0.5}))
        notices += [e.message for e in events if isinstance(e, Notice)]
        whole.append({p.name: p.read_bytes() for p in (out, *(tmp_path / "m.training").iterdir())})
    assert notices == [
        f"a model of this name is there: it will be kept as m.previous{n}.safetensors" for n in ("", "-2")
    ]
    for before, name in zip(whole, ("m.previous", "m.previous-2", "m"), strict=True):
        kept = {p.name: p.read_bytes() for p in (tmp_path / f"{name}.training").iterdir()}
        assert {out.name: (tmp_path / f"{name}.safetensors").read_bytes(), **kept} == before
    assert len({blob for files in whole for file, blob in files.items() if file == out.name}) == 3


def test_a_model_is_trained_on_in_place(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    before = train(pairs(2), out=out, **QUICK)
    after = train(pairs(2), out=out, init=tmp_path / "m.training" / "last.safetensors", **QUICK | {"seed": 1})
    assert after.path == out
    assert load_model(tmp_path / "m.previous.safetensors").sha256 == before.sha256 != after.sha256


def test_a_training_that_is_refused_moves_nothing(tmp_path: Path) -> None:
    train(pairs(2), out=tmp_path / "m.safetensors", **QUICK)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*") if p.is_file()}
    with pytest.raises(InputError, match="channels"):
        train([*pairs(1), (volume(channels=2), segmentation())], out=tmp_path / "m.safetensors", **QUICK)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("count", "fraction", "validating"), [(160, 0.2, 32), (5, 0.2, 1), (2, 0.2, 0), (1, 0.9, 0), (4, 0, 0), (2, 0.9, 1)]
)
def test_the_last_fraction_validates_and_one_case_at_least_trains(count: int, fraction: float, validating: int) -> None:
    cases = as_cases(pairs(1) * count)
    training, validation = split(cases, fraction)
    assert len(validation) == validating
    assert training + validation == cases


@pytest.mark.parametrize(("fraction", "validating"), [(0.2, 2), (0.15, 2), (0.25, 2), (0.9, 9), (0.01, 0)])
def test_cases_of_a_patient_train_or_validate_together(fraction: float, validating: int) -> None:
    cases = [Case(name=f"p{k}_{phase}", group=f"p{k}") for phase in ("ed", "es") for k in range(10)]
    training, validation = split(cases, fraction)
    assert {case.name for case in (*training, *validation)} == {case.name for case in cases}
    assert not {case.group for case in training} & {case.group for case in validation}
    assert sorted({case.group for case in validation}) == [f"p{k}" for k in range(10 - validating, 10)]


def test_a_training_says_that_cases_of_a_patient_stay_together(tmp_path: Path) -> None:
    cases = [replace(case, group=f"p{k // 2}") for k, case in enumerate(as_cases(pairs(4)))]
    told = [
        "4 cases of 2 patients: those of one train or validate together, such as ball0 and ball1",
        "all cases show p0: none is left to validate on, since those of one patient stay together",
    ]
    few = [replace(case, group=f"p{k // 2}") for k, case in enumerate(as_cases(pairs(4)))]
    assert told_of_groups(few, 0.2).endswith("; none is left to validate on: give a larger --val")
    for given, line in ((cases, told[0]), (cases[:2], told[1]), (cases[1:3], "")):
        notices = []
        for event in iter_train(given, out=tmp_path / "m.safetensors", **QUICK | {"val": 0.5}):
            notices += [event.message] if isinstance(event, Notice) else []
            if isinstance(event, Started):
                assert f"to validate: {'none' if line == told[1] else len(given) // 2}" in event.message
                break
        assert [message for message in notices if message in told] == ([line] if line else [])


def test_stop_ends_with_a_model(tmp_path: Path) -> None:
    events: list[Event] = []

    def five_steps() -> bool:
        return sum(isinstance(e, TrainProgress) for e in events) == 5

    running = iter_train(
        pairs(), out=tmp_path / "m.safetensors", epochs=1000, val=0.2, device="cpu", should_stop=five_steps
    )
    events.extend(running)
    assert isinstance(events[-1], Finished)
    assert sum(isinstance(e, TrainProgress) for e in events) == 5
    assert segment(volume(), tmp_path / "m.safetensors").grid.same_as(volume().grid)


@pytest.mark.parametrize("validated", [False, True])
def test_stop_tells_where_the_model_is_of_an_earlier_step(validated: bool, tmp_path: Path) -> None:
    events: list[Event] = []

    def should_stop() -> bool:
        return not validated or any(isinstance(event, Validated) for event in events)

    options: dict[str, Any] = {"epochs": 1000, "validations": 1000, "val": 0.2, "device": "cpu", "augment": False}
    events.extend(iter_train(pairs(), out=tmp_path / "m.safetensors", should_stop=should_stop, **options))
    of, now = (load_model(path).spec.training.epochs for path in (tmp_path / "m.safetensors", last(tmp_path)))
    lines = [line for line in told(events) if line.startswith("stopped: ")]
    assert (of < now) is validated
    assert len(lines) == int(validated)
    assert all(f"epoch {of:.1f}, which validated best" in line and str(last(tmp_path)) in line for line in lines)


def last(folder: Path) -> Path:
    return folder / "m.training" / "last.safetensors"


def test_closing_the_generator_leaves_a_model(tmp_path: Path) -> None:
    running = iter_train(pairs(), out=tmp_path / "m.safetensors", epochs=1000, val=0.2, device="cpu")
    for event in running:
        if isinstance(event, TrainProgress) and event.step == 3:
            break
    running.close()  # type: ignore[attr-defined]
    assert load_model(tmp_path / "m.safetensors").spec.training.epochs == pytest.approx(3 / 2 / 1, abs=0.6)


def test_closing_before_the_first_step_writes_nothing(tmp_path: Path) -> None:
    running = iter_train(pairs(), out=tmp_path / "m.safetensors", epochs=10, device="cpu")
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def timed(
    out: Path,
    clock: Clock,
    seconds_per_step: float,
    count: int = 5,
    *,
    resume: bool = False,
    until: int = 99,
    **knobs: Any,
) -> list[Event]:
    """The events of a training on a clock that only its steps move. until: the step after which it is stopped."""
    events: list[Event] = []

    def should_stop() -> bool:
        return any(e.step >= until for e in events if isinstance(e, TrainProgress))

    def loss(*inputs: Any) -> torch.Tensor:
        clock.seconds += seconds_per_step
        return deeply_supervised(*inputs)

    config = configured(TrainConfig, None, {"device": "cpu", "precision": "fp32", "augment": False, **knobs})
    job = Job(
        as_cases(pairs(count)), "unet3d", out, config, now=clock, loss=loss, resume=resume, should_stop=should_stop
    )
    events.extend(iter_job(job))
    return events


def told(events: list[Event]) -> list[str]:
    return [e.message for e in events if isinstance(e, Notice)]


def test_a_budget_in_minutes_ends_in_time(tmp_path: Path) -> None:
    clock = Clock()
    began = clock()
    # Of 60 s, 0.6 are kept for writing and 6 x 0.75 for the last validation: one window of 1.5 s, halved.
    events = timed(tmp_path / "m.safetensors", clock, 3.0, minutes=1, val=0.2, validations=0)
    steps = [e for e in events if isinstance(e, TrainProgress)]
    assert steps[-1].done == steps[-1].total == 1000
    assert [e.seconds_left for e in steps[:2]] == [57.0, 54.0]
    assert len(steps) == math.ceil((60 - 0.6 - 4.5) / 3.0)
    assert clock() - began <= 60
    model = load_model(tmp_path / "m.safetensors")
    assert model.spec.training.minutes == pytest.approx(len(steps) * 3 / 60)


NOT_VALIDATED = (
    "the model is not validated: the minutes given are too few for even one validation case; give more, or epochs in "
    "their place"
)


@pytest.mark.parametrize("until", [99, 5], ids=["to the end", "stopped"])
def test_minutes_too_few_to_validate_leave_the_last_weights_and_no_score(until: int, tmp_path: Path) -> None:
    # A window takes half of 15 / 2 s, and one validation may take 3.6 s. The first one was due after step 1.
    events = timed(tmp_path / "m.safetensors", Clock(), 15.0, minutes=1.2, val=0.2, validations=10, until=until)
    assert told(events) == [NOT_VALIDATED]
    assert not any(isinstance(e, Validated) for e in events)
    model = load_model(tmp_path / "m.safetensors")
    assert not model.spec.training.validation
    last = weights(tmp_path / "m.training" / "last.safetensors")
    assert all(torch.equal(last[name], tensor) for name, tensor in weights(model.path).items())


def test_a_score_of_earlier_weights_goes_where_no_minutes_are_left_for_another(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    timed(out, Clock(), 1.0, epochs=9, val=0.2, validations=9, until=4)
    assert load_model(out).spec.training.validation
    events = timed(out, Clock(), 15.0, minutes=1.2, val=0.2, validations=9, resume=True)
    assert told(events)[-1] == NOT_VALIDATED
    assert not load_model(out).spec.training.validation


def test_one_step_in_the_minutes_is_told_and_no_validation_follows(tmp_path: Path) -> None:
    events = timed(tmp_path / "m.safetensors", Clock(), 90.0, minutes=1, val=0.2)
    assert told(events) == [
        NOT_VALIDATED,
        "only 1 step fitted into the minutes given: give more, or epochs in their place",
    ]
    assert not any(isinstance(e, Validated) for e in events)


def test_weights_are_not_validated_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def slowly(*arguments: Any, **said: Any) -> Any:
        clock.seconds += 60
        return validate(*arguments, **said)

    monkeypatch.setattr("napari_medseg.training.loop.validate", slowly)
    events = timed(tmp_path / "m.safetensors", clock, 3.0, minutes=1, val=0.2, validations=10)
    (validated,) = (e for e in events if isinstance(e, Validated))
    assert validated.step == 6
    kept = load_model(tmp_path / "m.safetensors").spec.training.validation
    assert kept["dice mean"] == pytest.approx(validated.mean_dice)


def test_a_training_that_is_resumed_validates_on_as_many_cases(tmp_path: Path) -> None:
    """On a faster machine all would fit."""
    options: dict[str, Any] = {"minutes": 1, "val": 0.4, "validations": 10}
    events = timed(tmp_path / "m.safetensors", Clock(), 8.0, **options, until=4)
    assert told(events) == ["validation on 1 of 2 cases: more do not fit into the minutes given"]
    events = timed(tmp_path / "m.safetensors", Clock(), 1.0, **options, resume=True)
    assert {e.total for e in events if type(e) is Progress and e.message == "validation"} == {1}


@pytest.mark.parametrize(("minutes", "falls"), [(1, False), (2, True)], ids=["as many", "more"])
def test_what_is_done_of_the_minutes_is_so_after_a_resume(tmp_path: Path, minutes: int, falls: bool) -> None:
    """The time kept for the last validation is kept from then on: else the learning rate would rise again."""
    options: dict[str, Any] = {"val": 0.2, "validations": 0}
    events = timed(tmp_path / "m.safetensors", Clock(), 3.0, minutes=1, until=15, **options)
    events += timed(tmp_path / "m.safetensors", Clock(), 3.0, minutes=minutes, resume=True, **options)
    steps = [e for e in events if isinstance(e, TrainProgress)]
    assert [e.step for e in steps] == list(range(1, len(steps) + 1))
    assert (steps[15].done < steps[14].done) == falls
    assert all(a.done < b.done for a, b in pairwise(steps[15:]))
    rates = [e.learning_rate for e in steps[12:16]]
    assert (rates != sorted(rates, reverse=True)) == falls


@pytest.mark.parametrize("minutes_first", [False, True], ids=["epochs first", "minutes first"])
def test_weights_are_compared_by_the_same_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes_first: bool
) -> None:
    """The best weights are judged again where a budget of the other kind validates on other cases."""
    of_all, of_first = iter([0.5, 0.6, 0.4, 0.3, 0.2, 0.1] * 9), iter([0.9, 0.8, 0.7] * 9)

    def scores(cases: Any, *_: Any, what: str) -> Any:
        yield Progress(len(cases), len(cases), what)
        return dict.fromkeys((1, 2), next(of_all if len(cases) == 2 else of_first))

    monkeypatch.setattr("napari_medseg.training.loop.validate", scores)
    monkeypatch.setattr("napari_medseg.training.schedule._VALIDATION_SHARE", 1.0)
    out, last = tmp_path / "m.safetensors", tmp_path / "m.training" / "last.safetensors"
    options: dict[str, Any] = {"val": 0.4, "validations": 9}
    budgets: list[tuple[float, dict[str, Any]]] = [(8.0, {"minutes": 1}), (1.0, {"epochs": 6})]
    (pace, before), (pace_after, after) = budgets if minutes_first else budgets[::-1]
    first = timed(out, Clock(), pace, **before, **options, until=5 if minutes_first else 3)
    assert [e.mean_dice for e in first if isinstance(e, Validated)][-1:] == [0.9 if minutes_first else 0.5]
    stopped, kept = weights(last), weights(out)
    events = timed(out, Clock(), pace_after, **after, **options, resume=True)
    judged = [(e.mean_dice, e.is_best) for e in events if isinstance(e, Validated)]
    if minutes_first:
        assert "validation on all 2 cases: the minutes before had time for 1" in told(events)
        assert "the best weights so far have a mean Dice of 0.5000 on these cases" in told(events)
        assert judged[:2] == [(0.6, True), (0.4, False)]
    else:
        assert "the best weights so far have a mean Dice of 0.9000 on these cases" in told(events)
        assert judged[:2] == [(0.8, False), (0.7, False)]
        assert all(torch.equal(kept[name], tensor) for name, tensor in weights(out).items())
    assert any(not torch.equal(stopped[name], tensor) for name, tensor in weights(last).items())


@pytest.mark.parametrize("work", ["labelling", "_save"])
def test_other_work_between_the_first_steps_is_no_part_of_their_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """It would be taken for the cost of validations: too much time was kept for the last one, or none validated."""
    clock, began = Clock(), getattr(loop, work)

    def slowly(*arguments: Any) -> Any:
        clock.seconds += 20 * (clock.seconds <= 1003)
        return began(*arguments)

    monkeypatch.setattr(loop, work, slowly)
    options: dict[str, Any] = {"val": 0.2, "validations": 0, "checkpoint_minutes": 0.0 if work == "_save" else 60.0}
    events = timed(tmp_path / "m.safetensors", clock, 3.0, minutes=1, **options)
    # As without it, of 20 s less: 0.6 s are kept for writing and 4.5 s for the last validation.
    assert sum(isinstance(e, TrainProgress) for e in events) == math.ceil((60 - 20 - 0.6 - 4.5) / 3.0)


@pytest.mark.parametrize("mode", ["2d", "2.5d"])
def test_slices_are_counted_where_the_cost_of_a_validation_is_estimated(mode: str, tmp_path: Path) -> None:
    # A step of 3.2 s has 2 x 16 slices, of 0.1 s each. The 12 windows of the case take half of that: 0.6 s, of the 3 s
    # that one validation may take. For the last validation, 6 x 0.6 s are kept.
    events = timed(tmp_path / "m.safetensors", Clock(), 3.2, mode=mode, minutes=1, val=0.2, validations=0)
    assert not [e.message for e in events if isinstance(e, Notice)]
    assert any(isinstance(e, Validated) for e in events)
    assert sum(isinstance(e, TrainProgress) for e in events) == math.ceil((60 - 0.6 - 3.6) / 3.2)


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({"network": "unet3d"}, 3e-3),
        ({"network": "attention_unet"}, 1e-3),
        ({"network": "unet3d", "learning_rate": 2e-4}, 2e-4),
        ({"init": "ball_model"}, 1e-3),
        ({"cascade": "coarse-to-fine", "first_network": "attention_unet"}, 1e-3),
    ],
    ids=["its own", "the plain one", "the one given", "from a model", "of a first stage"],
)
def test_a_network_learns_at_the_rate_that_suits_it(
    options: dict[str, Any], rate: float, ball_model: Path, tmp_path: Path
) -> None:
    own = {name: ball_model if name == "init" else value for name, value in options.items()}
    events = iter_train(pairs(2), out=tmp_path / "m.safetensors", **QUICK | own)
    first = next(event for event in events if isinstance(event, TrainProgress))
    assert first.learning_rate == learning_rate(OptimiserConfig(learning_rate=rate), first.done / first.total)


def test_fine_tuning_starts_from_the_model(tmp_path: Path) -> None:
    first = train(pairs(), out=tmp_path / "first.safetensors", **QUICK | {"epochs": 2})
    tuned = train(
        pairs(), out=tmp_path / "tuned.safetensors", init=first, **QUICK | {"epochs": 1, "learning_rate": 1e-12}
    )
    assert tuned.spec.arguments == first.spec.arguments
    before, after = weights(first.path), weights(tuned.path)
    assert all(torch.allclose(before[k], after[k], atol=1e-6) for k in before)
    nine = [(v, Segmentation(np.where(balls() == 1, 9, 0), s.grid, {9: "nine"})) for v, s in pairs(2)]
    new = train(nine, out=tmp_path / "new.safetensors", init=first, **QUICK | {"epochs": 1, "learning_rate": 1e-12})
    assert dict(new.spec.labels) == {9: "nine"}
    encoder = [k for k in before if k.startswith("encoder")]
    assert encoder
    assert all(torch.allclose(before[k], weights(new.path)[k], atol=1e-6) for k in encoder)


def test_a_label_of_the_first_model_that_no_case_holds_has_no_dice(ball_model: Path, tmp_path: Path) -> None:
    """It would count 1 in every validation. The right ball is in the model alone."""
    left = [(v, Segmentation((balls() == 1).astype(np.uint8), s.grid, {1: "left ball"})) for v, s in pairs(2)]
    events = list(iter_train(left, out=tmp_path / "m.safetensors", init=ball_model, **QUICK | {"val": 0.5}))
    model = next(event.result for event in events if isinstance(event, Finished))
    assert dict(model.spec.labels) == {1: "left ball", 2: "right ball"}
    validated = [event for event in events if isinstance(event, Validated)]
    assert all(list(event.dice) == [1] and event.mean_dice == event.dice[1] for event in validated)
    found = model.spec.training.validation
    assert "dice right ball" not in found
    assert found["dice mean"] == found["dice left ball"] == max(event.mean_dice for event in validated)
    assert max(model.spec.training.presets.values()) < 1


@pytest.mark.parametrize("network", ["unet3d", pytest.param("vnet", marks=pytest.mark.slow)])
def test_every_network_trains_in_2d_and_3d(tmp_path: Path, network: str) -> None:
    flat = [
        (Volume(np.asarray(v.data)[:, 6:7], g), Segmentation(balls()[6:7], g, s.labels))
        for v, s in pairs(2)
        for g in [replace(v.grid, shape=(1, 20, 16))]
    ]
    for cases in (pairs(2), flat):
        model = train(cases, network=network, out=tmp_path / "m.safetensors", **QUICK | {"epochs": 1})
        assert segment(cases[0][0], model).data.shape == cases[0][0].grid.shape


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_skips_the_step_names_the_case_and_ends(
    tmp_path: Path, what: str
) -> None:
    calls = 0

    def broken(outputs: Any, classes: torch.Tensor, context: Context) -> torch.Tensor:
        nonlocal calls
        calls += 1
        loss = deeply_supervised(outputs, classes, context)
        if calls <= 2:
            return loss
        return loss * math.nan if what == "loss" else loss + (loss * 0).sqrt()  # the root's slope is infinite there

    notices: list[str] = []
    config = configured(TrainConfig, None, QUICK | {"epochs": 100})
    running = iter_job(Job(as_cases(pairs()), "unet3d", tmp_path / "m.safetensors", config, loss=broken))
    with pytest.raises(InputError, match="the loss or its gradients were not finite for 10 steps, last on ball"):
        notices.extend(event.message for event in running if isinstance(event, Notice))
    # extend keeps what came before the error
    assert len(notices) == 10
    assert all("ball" in n for n in notices)
    finite = weights(tmp_path / "m.training" / "last.safetensors")
    assert all(bool(torch.isfinite(v).all()) for v in finite.values())


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"network": "unet4d"}, UnknownNameError, "unknown network 'unet4d'.*unet3d, .*vnet"),
        ({"out": "model.pt"}, InputError, r"a model is written as \*\.safetensors"),
        ({"out": "nowhere/model.safetensors"}, FileError, "nowhere is not a folder"),
        ({"epochs": 3, "minutes": 1}, InputError, "epochs or in minutes, not both"),
        ({"epoch": 3}, UnknownNameError, "TrainConfig has no knob 'epoch': did you mean epochs"),
        ({"init": "missing.safetensors"}, FileError, "missing.safetensors"),
        ({"device": "tpu"}, InputError, "unknown device"),
    ],
    ids=["network", "suffix", "folder", "budget", "knob", "init", "device"],
)
def test_a_wrong_request_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        train(pairs(2), **({"out": "m.safetensors", "val": 0} | change))
    assert list(tmp_path.iterdir()) == []


def test_labels_on_another_grid_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    image, labels = pairs(1)[0]
    shifted = Segmentation(labels.data, replace(labels.grid, affine=labels.grid.affine + np.diag([0.5, 0, 0, 0])))
    with pytest.raises(GridMismatchError, match="ball0"):
        train([(image, shifted)], out=tmp_path / "m.safetensors", **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_labels_stored_in_another_order_of_axes_teach_the_same(tmp_path: Path) -> None:
    order = AxisOrder((1, 2, 0), (False, True, False))
    turned = [(v, Segmentation(order.apply(np.asarray(s.data)), s.grid.reordered(order))) for v, s in pairs(2)]
    found = []
    for name, cases in (("a", pairs(2)), ("b", turned)):
        model = train(cases, out=tmp_path / f"{name}.safetensors", **QUICK | {"val": 0.5})
        found.append((model.load_network().state_dict(), model.spec.training.validation["dice mean"]))
    (ours, dice), (theirs, same_dice) = found
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert dice == same_dice


def test_an_image_that_would_teach_and_validate_is_refused(tmp_path: Path) -> None:
    cases = [(replace(volume(seed=seed), name=f"ct{seed}"), segmentation()) for seed in (0, 1, 0)]
    with pytest.raises(InputError, match=r"case ct0 \(2\) is the same image as case ct0; .*: leave one out"):
        train(cases, out=tmp_path / "m.safetensors", val=0.34)
    assert list(tmp_path.iterdir()) == []


def test_a_faulty_validation_case_is_found_before_the_training(tmp_path: Path) -> None:
    cases = pairs(2)
    image, labels = cases[-1]
    cases[-1] = image, replace(labels, grid=replace(labels.grid, affine=np.diag([2.0, 1.0, 1.1, 1.0])))
    with pytest.raises(GridMismatchError, match="ball1"):
        train(cases, out=tmp_path / "m.safetensors", **QUICK | {"val": 0.5})
    assert list(tmp_path.iterdir()) == []
