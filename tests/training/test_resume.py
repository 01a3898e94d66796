"""A training that is killed, stopped or broken goes on from what it left, and ends with the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from balls import segmentation, volume
from napari_medseg import iter_train, load_model, train
from napari_medseg.errors import FileError, InputError
from napari_medseg.events import Event, Finished, Notice, TrainProgress
from napari_medseg.training.saving import saved
from napari_medseg.training.saving.earlier import states_in
from napari_medseg.training.saving.saved import Saved, load, save
from napari_medseg.training.state import History

SMALL: dict[str, Any] = {
    "device": "cpu",
    "precision": "fp32",
    "epochs": 3,
    "batch_size": 1,
    "arguments": {"channels": (4, 8, 16)},
    "checkpoint_minutes": 0,
}
CHILD = """
import sys
from pathlib import Path
from napari_medseg.cases import cases_from_folders
from napari_medseg.training.fit import iter_train
folder, options = Path(sys.argv[1]), eval(sys.argv[2])
cases = cases_from_folders([folder / "images"], folder / "labels")
for event in iter_train(cases, out=folder / "m.safetensors", resume=True, **options):
    print(type(event).__name__, getattr(event, "step", ""), flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path, ball_images: Path, ball_labels: Path) -> Path:
    """With three cases in images/ and labels/."""
    assert (ball_images.parent, ball_labels.parent) == (tmp_path, tmp_path)
    return tmp_path


def pairs(count: int = 2) -> list[Any]:
    return [(volume(seed=seed), segmentation()) for seed in range(count)]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path).load_network().state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def killed_at(folder: Path, options: dict[str, Any], wait: Callable[[list[str]], bool]) -> bool:
    """Train in a child and kill it (SIGKILL) once `wait` says so of its events; whether it came to that."""
    command = [sys.executable, "-c", CHILD, str(folder), repr(options)]
    seen: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            seen.append(line.strip())
            if wait(seen):
                os.kill(process.pid, signal.SIGKILL)
                return True
    assert process.returncode == 0
    return False


def test_after_a_kill_the_weights_are_those_of_a_training_that_was_not_killed(folder: Path) -> None:
    options = SMALL | {"val": 0.34, "validations": 2, "ema": 0.9}
    assert killed_at(folder, options, lambda seen: seen[-1].startswith("TrainProgress 3"))
    events = resumed(folder, options)
    steps = [event.step for event in events if isinstance(event, TrainProgress)]
    assert steps[0] >= 3
    assert steps == list(range(steps[0], steps[-1] + 1))
    assert not any(path.exists() for path in states_in(folder / "m.training"))
    whole = train(from_folder(folder), out=folder / "whole.safetensors", **options)
    assert same(weights(folder / "m.safetensors"), weights(whole.path))
    history = [json.loads((folder / f"{name}.training" / "history.json").read_text()) for name in ("m", "whole")]
    assert history[0]["losses"] == history[1]["losses"]


@pytest.mark.parametrize(("mirror", "axes"), [("all", [0, 1, 2]), ("none", None)])
def test_a_training_is_resumed_as_it_mirrored(tmp_path: Path, mirror: str, axes: list[int] | None) -> None:
    """Also one that an earlier version began, whose settings have a bool, and whose plan may have no axes."""
    stopped = train(pairs(), out=tmp_path / "m.safetensors", **SMALL, val=0, mirror=mirror, should_stop=lambda: True)
    begun = load(tmp_path / "m.training")
    assert begun is not None
    assert begun.settings["plan"].get("recipe", {}).get("mirror_axes") == axes
    save(tmp_path / "m.training", Saved({**begun.settings, "mirror": bool(axes)}, 0.0, stopped.sha256, begun.state))
    other = "auto" if axes else "all"
    with pytest.raises(InputError, match=f"mirror {other} does not go with the training to resume"):
        train(pairs(), out=tmp_path / "m.safetensors", **SMALL, val=0, mirror=other, resume=True)
    model = train(pairs(), out=tmp_path / "m.safetensors", **SMALL, val=0, resume=True)
    assert list(model.spec.recipe.mirror_axes) == (axes or [])


class Killed(BaseException):
    """Ends a training where it stands, as a kill does: nothing is written after it."""


def test_without_validation_the_weights_are_the_same_too(tmp_path: Path) -> None:
    options = SMALL | {"val": 0, "loss": "dice+focal", "hard_patches": 0.5}
    for last in (2, 1, 99):
        calls = iter(range(1, 100))

        def kill(calls: Iterator[int] = calls, last: int = last) -> bool:
            if next(calls) == last:
                raise Killed
            return False

        with suppress(Killed):
            train(pairs(), out=tmp_path / "m.safetensors", resume=True, should_stop=kill, **options)
    whole = train(pairs(), out=tmp_path / "whole.safetensors", **options)
    assert same(weights(tmp_path / "m.safetensors"), weights(whole.path))


KILLS = 100
MANY = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from napari_medseg.cases import cases_from_folders
from napari_medseg.training.fit import iter_train
torch.set_num_threads(1)
folder, options, wanted = Path(sys.argv[1]), eval(sys.argv[2]), int(sys.argv[3])
cases = cases_from_folders([folder / "images"], folder / "labels")
draw, kills, ended, most = random.Random(0), 0, 0, 1.0
while kills < wanted or not ended:
    out, began, killed = folder / f"m{ended}.safetensors", time.monotonic(), kills
    while True:
        child = os.fork()
        if not child:
            for event in iter_train(cases, out=out, resume=True, **options):
                pass
            os._exit(0)
        left = draw.uniform(0, most) if kills < wanted else 3600
        until = time.monotonic() + left
        while not (done := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < until:
            time.sleep(0.002)
        if done[0]:
            assert done[1] == 0, done
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
    ended += 1
    most = 2 * (time.monotonic() - began) / (1 + kills - killed)  # about half of the trainings are killed
print(kills, ended)
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the forks of MANY have, which cannot use those of their parent: another number adds up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_after_a_hundred_kills_the_weights_are_those_of_a_training_that_was_not_killed(folder: Path) -> None:
    """At any moment: while it reads, trains, validates, saves its state or writes the model."""
    options = SMALL | {"val": 0.34, "validations": 4, "epochs": 6}
    command = [sys.executable, "-c", MANY, str(folder), repr(options), str(KILLS)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    kills, ended = map(int, ran.stdout.split())
    assert kills >= KILLS
    whole = weights(train(from_folder(folder), out=folder / "whole.safetensors", **options).path)
    assert all(same(weights(folder / f"m{number}.safetensors"), whole) for number in range(ended))


def from_folder(folder: Path) -> list[Any]:
    from napari_medseg.cases import cases_from_folders

    return cases_from_folders([folder / "images"], folder / "labels")


def resumed(folder: Path, options: dict[str, Any]) -> list[Event]:
    return list(iter_train(from_folder(folder), out=folder / "m.safetensors", resume=True, **options))


def stopped(out: Path, after: int, **options: Any) -> list[Event]:
    """The events of a training that is asked to stop after some steps."""
    events: list[Event] = []
    running = iter_train(
        pairs(),
        out=out,
        should_stop=lambda: sum(isinstance(e, TrainProgress) for e in events) >= after,
        **SMALL | {"val": 0, "checkpoint_minutes": 60} | options,
    )
    events.extend(running)
    return events


def test_a_stopped_training_is_resumed_in_place_of_its_model(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    stopped(out, 2)
    early = load_model(out)
    events = stopped(out, 99, resume=True)
    assert [e.message for e in events if isinstance(e, Notice)] == ["resumed after step 2"]
    assert [e.step for e in events if isinstance(e, TrainProgress)] == [3, 4, 5, 6]
    assert early.spec.training.epochs == 1
    assert load_model(out).spec.training.epochs == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.safetensors", "m.training"]
    again = stopped(out, 99, resume=True)
    assert [type(e) for e in again] == [Notice, Finished]
    assert "nothing to resume" in again[0].message  # type: ignore[attr-defined]


def test_the_state_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, reads = tmp_path / "m.safetensors", list[Path]()
    stopped(out, 2)
    real = saved._read

    def reading(path: Path) -> Saved:
        reads.append(path)
        return real(path)

    monkeypatch.setattr(saved, "_read", reading)
    stopped(out, 99, resume=True)
    assert len(reads) == 1


@pytest.mark.parametrize(("before", "says"), [(1, False), (2, True), (None, False)], ids=["same", "other", "unknown"])
@pytest.mark.usefixtures("one_thread")
def test_other_threads_than_before_are_told(tmp_path: Path, before: int | None, says: bool) -> None:
    """A state of an earlier version does not say how many there were."""
    out = tmp_path / "m.safetensors"
    stopped(out, 2)
    left = load(tmp_path / "m.training")
    assert left is not None
    assert left.threads == 1
    save(tmp_path / "m.training", replace(left, threads=before))
    told = [e.message for e in stopped(out, 99, resume=True) if isinstance(e, Notice)]
    assert told[0] == "resumed after step 2"
    assert any("torch threads were 2 before and are 1 now" in message for message in told) == says


def test_what_is_not_there_is_begun(tmp_path: Path) -> None:
    events = stopped(tmp_path / "m.safetensors", 99, resume=True)
    assert "the training begins at its start" in next(e.message for e in events if isinstance(e, Notice))
    assert len([e for e in events if isinstance(e, TrainProgress)]) == 6


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 1}, "differs in seed: it had 0, now it is 1"),
        ({"learning_rate": 0.01}, "differs in learning_rate: it had 0.003"),
        ({"unlabelled_slices": "ignore"}, 'differs in unlabelled_slices: it had "background"'),
    ],
    ids=["seed", "knob", "loss"],
)
def test_another_training_is_not_resumed(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    out = tmp_path / "m.safetensors"
    stopped(out, 2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=says):
        stopped(out, 99, resume=True, **change)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_more_epochs_may_be_given(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    stopped(out, 2)
    events = stopped(out, 99, resume=True, epochs=4)
    assert [e.step for e in events if isinstance(e, TrainProgress)] == [3, 4, 5, 6, 7, 8]


STATE = Saved({"seed": 0}, 1.5, "", {"step": 1, "weights": {"a": torch.ones(2)}, "history": History([(1, 0.5)])})


def test_a_damaged_state_gives_way_to_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, STATE)
    save(tmp_path, Saved({"seed": 0}, 2.5, "", {**STATE.state, "step": 2}))
    found = load(tmp_path)
    assert found is not None
    assert (found.state["step"], found.seconds, found.state["history"]) == (2, 2.5, History([(1, 0.5)]))
    _, last, previous = states_in(tmp_path)
    last.write_bytes(last.read_bytes()[:-4])
    found = load(tmp_path)
    assert found is not None
    assert found.state["step"] == 1
    assert torch.equal(found.state["weights"]["a"], torch.ones(2))
    previous.write_bytes(b"nothing")
    with pytest.raises(FileError, match="is damaged"):
        load(tmp_path)
    assert load(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("moment", ["before", "between"])
def test_a_kill_while_a_state_takes_its_name_leaves_a_whole_one(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, STATE)
    _, last, previous = states_in(tmp_path)
    real = Path.replace

    def dies(path: Path, target: Any) -> Path:
        if path.name == ("state.safetensors" if moment == "before" else "new.state.safetensors"):
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, Saved({}, 0.0, "", {**STATE.state, "step": 2}))
    assert (last.exists(), previous.exists()) == (moment == "before", moment == "between")
    found = load(tmp_path)
    assert found is not None
    assert found.state["step"] == 2


def fails(error: Exception, after: int) -> Callable[..., None]:
    """A function that raises from its call `after` + 1 on, and does what the state's writer does before."""
    calls = 0

    def writing(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error
        save(*arguments)

    return writing


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (FileError("m: cannot be written: No space left on device"), FileError, "No space left on device"),
        (MemoryError(), InputError, "the memory is full: take a smaller patch_zyx"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), InputError, "the memory is full"),
    ],
    ids=["full disk", "full memory", "full memory of torch"],
)
def test_a_failure_says_what_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], says: str
) -> None:
    monkeypatch.setattr(saved, "save", fails(error, 2))
    with pytest.raises(kind, match=rf"step 3: .*{says}.*m.training stands: resume from it"):
        train(pairs(), out=tmp_path / "m.safetensors", **SMALL | {"val": 0})
    monkeypatch.setattr(saved, "save", save)
    events = list(iter_train(pairs(), out=tmp_path / "m.safetensors", resume=True, **SMALL | {"val": 0}))
    assert [e.step for e in events if isinstance(e, TrainProgress)] == [3, 4, 5, 6]


def test_a_defect_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "save", fails(RuntimeError("a defect"), 0))
    with pytest.raises(RuntimeError, match=r"^a defect$"):
        train(pairs(), out=tmp_path / "m.safetensors", **SMALL | {"val": 0})


def test_a_deleted_input_leaves_the_last_state(folder: Path) -> None:
    options = SMALL | {"val": 0.34, "validations": 2}
    running = iter_train(from_folder(folder), out=folder / "m.safetensors", **options)
    image = folder / "images" / "case2.nii.gz"
    content = image.read_bytes()
    while getattr(next(running), "step", 0) != 2:
        assert image.exists()
    image.unlink()
    with pytest.raises(FileError, match=r"step 3: .*case2.nii.gz.* stands: resume from it"):
        list(running)
    image.write_bytes(content)
    assert isinstance(resumed(folder, options)[-1], Finished)
