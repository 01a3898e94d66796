"""A training leaves a log and a report, which hold what happened, and nothing that a browser runs."""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import napari_medseg as ms
from balls import balls, volume
from clock import Clock
from napari_medseg import Segmentation
from napari_medseg.config import TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Finished, Notice, TrainProgress, Validated
from napari_medseg.models.file import load_model
from napari_medseg.training import iter_train
from napari_medseg.training.cases import as_cases
from napari_medseg.training.reporting import reported, samples

EVIL = "<script>alert(1)</script>"
OPTIONS: dict[str, Any] = {"arguments": {"channels": (4, 8)}, "epochs": 3, "device": "cpu", "val": 0.34}


def cases() -> list[tuple[ms.Volume, ms.Segmentation]]:
    labels = Segmentation(balls(), volume().grid, {1: EVIL, 2: "right ball"})
    return [(replace(volume(seed=seed), name=f"case{seed}"), labels) for seed in range(3)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Event], Path]:
    out = tmp_path_factory.mktemp("run") / "m.safetensors"
    return list(iter_train(cases(), out=out, **OPTIONS)), out.with_suffix(".training")


def test_the_log_has_each_step_and_each_validation(run: tuple[list[Event], Path]) -> None:
    events, folder = run
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    steps = [e for e in events if isinstance(e, TrainProgress)]
    validations = [e for e in events if isinstance(e, Validated)]
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert losses == [e.loss for e in steps]
    dice = [(float(row[f"dice_{EVIL}"]), float(row["dice_right ball"])) for row in rows if row["dice_mean"]]
    assert dice == [(e.dice[1], e.dice[2]) for e in validations]


def test_the_report_shows_the_run_and_runs_nothing(run: tuple[list[Event], Path]) -> None:
    events, folder = run
    page = (folder / "report.html").read_text()
    assert isinstance(events[-1], Finished)
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert page.count("data:image/svg+xml") == 3
    assert page.count("data:image/png") == 2  # a slice of each label
    assert "1 of 1 validation cases" in page
    for text in ("unet3d, mode 3d", "2, 1, 1 mm", "zscore", "right ball", "napari-medseg", "torch", "seed 0"):
        assert text in page, text
    assert not re.search(r"(src|href)=[\"']?http", page)


def test_voxels_that_nobody_annotated_count_in_no_score(tmp_path: Path) -> None:
    wrong = np.where(balls() == 2, 3, balls())
    wrong[:, :3] = 3
    labels = Segmentation(wrong, volume().grid, {1: "left", 3: "unknown"})
    list(
        iter_train(
            [(volume(), labels), (volume(seed=1), labels)],
            out=tmp_path / "m.safetensors",
            ignore_label=3,
            **{**OPTIONS, "val": 0.5},
        )
    )
    page = (tmp_path / "m.training" / "report.html").read_text()
    assert "1 left" in page
    assert "3 unknown" not in page


def test_a_report_that_cannot_be_written_costs_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reported, "_report", fail)
    events = list(iter_train(cases()[:1], out=tmp_path / "m.safetensors", **{**OPTIONS, "val": 0.0, "epochs": 1}))
    assert isinstance(events[-2], Notice)
    assert events[-2].message.startswith("the report was not written: ")
    assert isinstance(events[-1], Finished)
    assert (tmp_path / "m.safetensors").is_file()


def sampled(run: tuple[list[Event], Path], seconds: float) -> tuple[samples.Samples | None, int]:
    """The samples that so many seconds allow, and the events, each of which takes one; a case has several."""
    clock, seen = Clock(), 0
    model = load_model(run[1].with_suffix(".safetensors"))
    work = samples.sampling(as_cases(cases()), model, TrainConfig(device="cpu"), seconds, now=clock)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value, seen
        clock.seconds, seen = clock.seconds + 1, seen + 1


def test_samples_stop_when_their_time_is_over(run: tuple[list[Event], Path]) -> None:
    """Also within a case."""
    every, events = sampled(run, 1000)
    assert every is not None
    assert (len(every.scores.cases), every.of) == (3, 3)
    some, fewer = sampled(run, events / 2)
    assert some is not None
    assert (len(some.scores.cases), some.of) == (1, 3)
    assert fewer <= events / 2 + 1
    assert sampled(run, 1) == (None, 2)


def test_a_report_without_the_time_for_a_case_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reported, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(reported, "_SHARE", 0.0)
    events = list(iter_train(cases(), out=tmp_path / "m.safetensors", **OPTIONS))
    assert isinstance(events[-2], Notice)
    assert events[-2].message.startswith("the report shows no validation case: to segment and measure one takes more")
    page = (tmp_path / "m.training" / "report.html").read_text()
    assert "the report shows no validation case" in page
    assert "Sample slices" not in page


def test_mlflow_is_told_each_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    fake = SimpleNamespace(
        start_run=lambda run_name: told.append(run_name),
        log_metrics=lambda numbers, step: told.append((step, sorted(numbers))),
        end_run=lambda: told.append("end"),
    )
    module = ModuleType("mlflow")
    module.__dict__.update(vars(fake))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    options = {**OPTIONS, "epochs": 1, "val": 0.0}
    list(iter_train(cases()[:2], out=tmp_path / "m.safetensors", tracker="mlflow", **options))
    assert told == ["m", (1, ["learning_rate", "loss"]), "end"]


def test_a_tracker_that_is_not_installed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match=r"mlflow is not installed: pip install napari-medseg\[tracking\]"):
        list(iter_train(cases(), out=tmp_path / "m.safetensors", tracker="mlflow", **OPTIONS))
    with pytest.raises(InputError, match="a tracker goes with the report"):
        list(iter_train(cases(), out=tmp_path / "m.safetensors", tracker="mlflow", report=False, **OPTIONS))


def test_a_resumed_training_goes_on_in_its_log(tmp_path: Path) -> None:
    out, seen = tmp_path / "m.safetensors", list[Event]()
    options = {**OPTIONS, "validations": 3}

    def a_step() -> bool:
        return sum(isinstance(event, TrainProgress) for event in seen) >= 1

    seen.extend(iter_train(cases(), out=out, should_stop=a_step, **options))
    path = out.with_suffix(".training") / "log.csv"
    before = list(csv.DictReader(path.read_text().splitlines()))
    events = list(iter_train(cases(), out=out, resume=True, **options))
    rows = list(csv.DictReader(path.read_text().splitlines()))
    steps = [event.step for event in events if isinstance(event, TrainProgress)]
    assert steps[0] > 1
    assert [int(row["step"]) for row in rows if row["loss"]] == list(range(1, steps[-1] + 1))
    assert [row["seconds"] for row in rows][: len(before)] == [row["seconds"] for row in before]
    assert [float(row["seconds"]) for row in rows] == sorted(float(row["seconds"]) for row in rows)
    assert {row["stage"] for row in rows} == {"1"}
    left = {file: file.read_bytes() for file in path.parent.iterdir()}
    assert [type(event) for event in iter_train(cases(), out=out, resume=True, **options)] == [Notice, Finished]
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == left


def test_a_damaged_log_begins_anew(tmp_path: Path) -> None:
    out, seen = tmp_path / "m.safetensors", list[Event]()
    seen.extend(iter_train(cases(), out=out, should_stop=lambda: True, **OPTIONS))
    path = out.with_suffix(".training") / "log.csv"
    path.write_text("no log")
    events = list(iter_train(cases(), out=out, resume=True, **OPTIONS))
    assert any(isinstance(event, Notice) and "the log begins anew" in event.message for event in events)


def test_what_a_tracker_writes_lies_in_the_folder_of_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Writer:
        def __init__(self, folder: str) -> None:
            Path(folder).mkdir(parents=True)

        def add_scalar(self, *_: object) -> None: ...

        def close(self) -> None: ...

    module = ModuleType("torch.utils.tensorboard")
    module.__dict__["SummaryWriter"] = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    out = tmp_path / "m.safetensors"
    list(iter_train(cases()[:1], out=out, tracker="tensorboard", **{**OPTIONS, "epochs": 1, "val": 0.0}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.safetensors", "m.training"]
    assert (tmp_path / "m.training" / "tensorboard").is_dir()
