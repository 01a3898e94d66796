"""Runs that end anywhere, and are resumed: the labels are those of a run that was left alone, bit by bit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr.storage._local as local_store

from napari_medseg import Grid, Model, Volume, iter_segment, read, read_segmentation, registry, segment
from napari_medseg.errors import FileError, InputError, MedsegWarning
from napari_medseg.events import Filled, Finished, Progress
from napari_medseg.inference.results.journal import Journal
from napari_medseg.io.disk import files
from napari_medseg.models.file import write_model
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation

SHAPE = (200, 12, 14)
"""Four rows of chunks."""
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(1)
    network = registry.network("unet3d")
    spec = ModelSpec(
        network="unet3d",
        arguments=network.arguments(in_channels=1, out_channels=3, channels=(4, 8), deep_supervision=False),
        channels=(Channel(name="image", modality="other"),),
        labels={1: "one", 2: "two"},
        patch_zyx=(16, 12, 14),
        normalisation=(Normalisation(kind="zscore"),),
        deep_supervision=False,
    )
    folder = tmp_path_factory.mktemp("models")
    return write_model(folder / "m.safetensors", spec, network.build_from(spec.arguments).state_dict())


@pytest.fixture(scope="module")
def image() -> Volume:
    z, y, x = np.meshgrid(*[np.linspace(-2, 2, n) for n in SHAPE], indexing="ij")
    noise = np.random.default_rng(0).normal(0, 20, SHAPE)
    data = 100 * np.sin(9 * z + y) * np.cos(2 * x) + noise
    return Volume(data.astype(np.int16)[None], Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0)), name="image")


@pytest.fixture(scope="module")
def expected(image: Volume, model: Model) -> np.ndarray[Any, Any]:
    labels = np.asarray(segment(image, model, device="cpu").data)
    assert len(np.unique(labels)) == 3, "the network must tell the classes apart"
    return labels


def killed(work: Callable[[], object]) -> bool:
    """Do the work in a process of its own, which may kill itself; whether it did."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child has no other thread that it would wait for
        child = os.fork()
    if child == 0:
        with suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, "it failed"
    return os.WIFSIGNALED(status)


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_event(number: int) -> Callable[[Iterator[object]], None]:
    def run(events: Iterator[object]) -> None:
        for seen, _ in enumerate(events):
            if seen == number:
                die()

    return run


def die_in_a_file(number: int) -> Callable[[Iterator[object]], None]:
    """Half of the n-th file of the store is on the disk: chunks, and the metadata that is written at the end."""

    def run(events: Iterator[object]) -> None:
        left, put = [number], local_store._put

        def half(path: Path, value: Any, exclusive: bool = False) -> int:
            left[0] -= 1
            if left[0] < 0:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_suffix(".0123.partial").write_bytes(bytes(value.as_buffer_like())[:10])
                die()
            return put(path, value, exclusive)

        local_store._put = half
        die_at_event(10**9)(events)

    return run


def die_in_a_line(events: Iterator[object]) -> None:
    """A line of the journal is cut short."""
    append = Journal._append

    def torn(self: Journal, line: Any) -> None:
        append(self, line)
        assert self._path is not None
        os.truncate(self._path, self._path.stat().st_size - 7)
        die()

    Journal._append = torn  # type: ignore[method-assign]
    die_at_event(10**9)(events)


def die_before_it_takes_its_place(events: Iterator[object]) -> None:
    files.put = die
    die_at_event(10**9)(events)


@forks
@pytest.mark.parametrize("before", ["complete", "nothing"])
def test_killed_anywhere_again_and_again(
    before: str, image: Volume, model: Model, expected: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    out, p, u = (tmp_path / f"{name}.zarr" for name in ("labels", "p", "u"))
    wishes: dict[str, Any] = {"out": out, "probabilities": p, "uncertainty": u, "device": "cpu"}
    if before == "complete":
        for _ in iter_segment(image, model, **wishes):
            pass
    deaths = [die_at_event(3), die_at_event(15), die_in_a_file(9), die_in_a_line, die_in_a_file(50)]
    deaths += [die_before_it_takes_its_place] if before == "complete" else []
    for number, death in enumerate(deaths):
        assert killed(lambda death=death, n=number: death(iter_segment(image, model, resume=n > 0, **wishes)))  # type: ignore[misc]
        if before == "nothing":
            with pytest.warns(MedsegWarning, match="was not finished"):
                read_segmentation(out)
    events = list(iter_segment(image, model, resume=True, **wishes))
    assert len([e for e in events if isinstance(e, Progress) and e.message == "windows"]) < 24, "it began anew"
    assert np.array_equal(np.asarray(read_segmentation(out).data), expected)
    probabilities, doubts = np.asarray(read(p).data), np.asarray(read(u).data)
    assert np.array_equal(probabilities.argmax(0), expected)
    assert read(p).channels == ("background", "one", "two")
    np.testing.assert_allclose(probabilities.sum(0), 1, rtol=1e-5)
    first, second = np.sort(probabilities, axis=0)[:0:-1]
    np.testing.assert_allclose(doubts[1], first - second, atol=1e-6)
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(0) / np.log(3)
    np.testing.assert_allclose(doubts[0], entropy, atol=1e-5)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["labels.zarr", "p.zarr", "u.zarr"]
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob(".journal"))


@forks
@pytest.mark.slow
def test_forty_kills(
    image: Volume, model: Model, expected: np.ndarray[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a drawn number of events, or in a file of a drawn number."""
    count = len(list(iter_segment(image, model, out=tmp_path / "counted.zarr", device="cpu")))
    draw, out = random.Random(0), tmp_path / "labels.zarr"
    kills = runs = finished = 0
    while kills < 40:
        runs += 1
        death = draw.choice([die_at_event, die_in_a_file])(draw.randrange(count))
        if killed(lambda death=death: death(iter_segment(image, model, out=out, resume=True, device="cpu"))):  # type: ignore[misc]
            kills += 1
            continue
        finished += 1
        assert np.array_equal(np.asarray(read_segmentation(out).data), expected)
    segment(image, model, out=out, resume=True, device="cpu")
    assert np.array_equal(np.asarray(read_segmentation(out).data), expected)
    with capsys.disabled():
        sys.stdout.write(f"{kills} kills in {runs} runs; {finished} came to their end, bit-equal\n")


@pytest.mark.parametrize("cancels", [pytest.param(3, id="some"), pytest.param(50, marks=pytest.mark.slow, id="fifty")])
def test_cancelled_within_one_window_and_resumed(
    cancels: int,
    image: Volume,
    model: Model,
    expected: np.ndarray[Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw, calls = random.Random(1), [0]
    load = Model.load_network

    def counted(self: Model, *arguments: Any) -> Any:
        network = load(self, *arguments)
        network.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
        return network

    monkeypatch.setattr(Model, "load_network", counted)
    for number in range(cancels):
        out, filled = tmp_path / f"{number}.zarr", 0
        running = iter_segment(image, model, out=out, device="cpu")
        for seen, event in enumerate(running):
            if isinstance(event, Filled):
                filled = event.box[0].stop
            if seen >= draw.randint(2, 60):
                break
        before = calls[0]
        running.close()  # type: ignore[attr-defined]
        assert calls[0] == before, "no window runs after the cancel"
        with pytest.warns(MedsegWarning, match="was not finished"):
            partial = np.asarray(read_segmentation(out).data)
        assert np.array_equal(partial[:filled], expected[:filled])
        assert not partial[filled:].any()
        again = segment(image, model, out=out, resume=True, device="cpu")
        assert np.array_equal(np.asarray(again.data[...]), expected)
        # What had run is run again from the row that was not whole, and no further back than a row of windows reaches.
        assert calls[0] - before <= 24 - filled // 8 + 1


def test_what_another_run_left_is_not_continued(image: Volume, model: Model, tmp_path: Path) -> None:
    out = tmp_path / "labels.zarr"
    running = iter_segment(image, model, out=out, device="cpu")
    next(e for e in running if isinstance(e, Filled))
    running.close()  # type: ignore[attr-defined]
    other = Volume(np.asarray(image.data) + 1, image.grid)
    with pytest.raises(
        InputError, match=r"labels\.zarr: the unfinished result .* differs in image: run without resume"
    ):
        segment(other, model, out=out, resume=True, device="cpu")
    with pytest.raises(InputError, match=r"differs in overlap: run without resume"):
        segment(image, model, out=out, resume=True, device="cpu", overlap=0.25)
    with pytest.raises(InputError, match=r"differs in probabilities: run without resume"):
        segment(image, model, out=out, resume=True, device="cpu", probabilities=tmp_path / "p.zarr")
    *_, last = iter_segment(other, model, out=out, device="cpu")
    assert isinstance(last, Finished)


def test_resume_and_outputs_need_stores_of_their_own(image: Volume, model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resume needs out"):
        segment(image, model, resume=True)
    with pytest.raises(InputError, match="need names of their own"):
        segment(image, model, out=tmp_path / "a.zarr", uncertainty=tmp_path / "a.zarr")


def test_a_disk_that_runs_full_loses_nothing(
    image: Volume, model: Model, expected: np.ndarray[Any, Any], small_disk: Path
) -> None:
    out, filler = small_disk / "labels.zarr", small_disk / "filler"
    status = os.statvfs(small_disk)
    filler.write_bytes(bytes(status.f_bavail * status.f_frsize - 7 * 4096))
    with pytest.raises(FileError, match=r"No space left on device: it needs about 33600 bytes, and \d+ are free in"):
        segment(image, model, out=out, device="cpu")
    filler.unlink()
    events = list(iter_segment(image, model, out=out, resume=True, device="cpu"))
    assert len([e for e in events if isinstance(e, Filled)]) < 4, "the rows that had room are not done again"
    assert np.array_equal(np.asarray(read_segmentation(out).data), expected)


def test_a_run_of_another_input_or_without_its_outputs_is_not_continued(
    image: Volume, model: Model, tmp_path: Path
) -> None:
    out, p = tmp_path / "labels.zarr", tmp_path / "p.zarr"

    def run(origin: str) -> Iterator[object]:
        wishes: dict[str, Any] = {"out": out, "probabilities": p, "device": "cpu", "resume": True}
        return iter_segment(image, model, origin={"input_sha256": origin}, **wishes)

    events = run("one")
    while not isinstance(next(events), Filled):
        pass
    events.close()  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="differs in input_sha256"):
        list(run("other"))
    shutil.rmtree(p)
    with pytest.raises(InputError, match=r"p.zarr: what an earlier run wrote there is gone"):
        list(run("one"))
