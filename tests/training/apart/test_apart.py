"""Training in a process of its own: what happens to it happens to it alone."""

from __future__ import annotations

import io
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from balls import segmentation, volume
from napari_medseg import load_model, train
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Finished, Progress, TrainProgress
from napari_medseg.training.apart.frames import receive, send
from napari_medseg.training.apart.parent import iter_train_apart
from napari_medseg.training.saving.earlier import states_in
from trainings import recorded

OPTIONS: dict[str, Any] = {
    "val": 0,
    "epochs": 3,
    "device": "cpu",
    "precision": "fp32",
    "batch_size": 1,
    "arguments": {"channels": (4, 8)},
    "checkpoint_minutes": 0,
}
CASES = [(volume(seed=seed), segmentation()) for seed in range(2)]


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started to train."""
    return recorded(monkeypatch)


@pytest.mark.slow
def test_a_kill_takes_the_child_alone_and_its_training_is_resumed(
    tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    out = tmp_path / "m.safetensors"
    running = iter_train_apart(CASES, out=out, **OPTIONS)
    while getattr(next(running), "step", 0) != 2:
        pass
    os.kill(children[0].pid, signal.SIGKILL)
    with pytest.raises(InputError, match=r"was ended by the system, .* want of memory; .*m.training stands"):
        list(running)
    assert any(path.exists() for path in states_in(tmp_path / "m.training"))
    train(CASES, out=out, resume=True, **OPTIONS)
    whole = train(CASES, out=tmp_path / "whole.safetensors", **OPTIONS)
    a, b = (model.load_network().state_dict() for model in (load_model(out), whole))
    assert all(torch.equal(a[name], b[name]) for name in b)


@pytest.mark.slow
def test_a_stop_an_error_and_a_close_end_the_child(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    out = tmp_path / "m.safetensors"
    events: list[Event] = []
    long = OPTIONS | {"epochs": 500}
    running = iter_train_apart(CASES, out=out, should_stop=lambda: len(events) > 8, **long)
    for event in running:
        events.append(event)
        has_ended = children[0].poll() is not None
    assert isinstance(events[-1], Finished)
    assert has_ended, "who reads that it is done may begin another"
    assert events[-1].result.sha256 == load_model(out).sha256
    assert load_model(out).spec.training.epochs < 500
    with pytest.raises(InputError, match="differs in seed"):
        list(iter_train_apart(CASES, out=out, resume=True, seed=1, **OPTIONS))
    running = iter_train_apart(CASES, out=tmp_path / "n.safetensors", **long)
    while not isinstance(next(running), TrainProgress):
        pass
    running.close()  # type: ignore[attr-defined]
    assert load_model(tmp_path / "n.safetensors").spec.training.epochs < 500
    running = iter_train_apart(CASES, out=tmp_path / "o.safetensors", **long)
    next(running)  # it reads the cases still, or has just begun
    running.close()  # type: ignore[attr-defined]
    begun = tmp_path / "o.safetensors"
    assert not begun.exists() or load_model(begun).spec.training.epochs < 500
    assert [child.poll() for child in children] == [0, 0, 0, 0]


def test_arrays_cross_a_pipe_as_they_lie_in_memory() -> None:
    pipe, (ct, labels) = io.BytesIO(), CASES[0]
    send(pipe, (ct, labels))
    pipe.seek(0)
    volume, segmentation = receive(pipe)
    for sent, found in ((ct.data, volume.data), (labels.data, segmentation.data)):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(sent), strict=True)
    assert volume.grid.same_as(ct.grid)
    assert segmentation.grid.same_as(labels.grid)
    volume.data[...] = 0
    assert np.asarray(ct.data).any(), "a copy"


class Trickle(io.BytesIO):
    """A pipe without a buffer, which gives three bytes at a time."""

    def readinto(self, held: object, /) -> int:
        return super().readinto(memoryview(held)[:3])  # type: ignore[arg-type]


def test_values_cross_a_pipe_in_pieces() -> None:
    pipe = Trickle()
    send(pipe, CASES[0])
    pipe.seek(0)
    volume, _ = receive(pipe)
    np.testing.assert_array_equal(np.asarray(volume.data), np.asarray(CASES[0][0].data))


def test_values_cross_a_pipe_whole_or_not_at_all() -> None:
    pipe = io.BytesIO()
    send(pipe, Progress(1, 2, "half"))
    send(pipe, Progress(2, 2))
    whole = pipe.getvalue()
    pipe.seek(0)
    assert [receive(pipe), receive(pipe)] == [Progress(1, 2, "half"), Progress(2, 2)]
    for end in (0, 5, len(whole) // 2 - 3):
        with pytest.raises(EOFError):
            receive(io.BytesIO(whole[:end]))
