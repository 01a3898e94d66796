"""A session at work without a window: its image, its log, and what strokes on the image say."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import napari_medseg as ms
from click_phantoms import balls
from napari_medseg.errors import FileError
from napari_medseg.interactive.autosave import claim_new, earlier_logs, log_path, sessions_folder
from napari_medseg.interactive.desk import Desk, stroke_prompts
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.interactive.slices import fill_from_slices, painted_slices
from processes import started

A, B = (12, 14, 12), (12, 14, 34)
VOLUME, (FIRST, SECOND) = balls((24, 28, 46), A, B, radius=7)


def desk_at(log: Path) -> tuple[Desk, npt.NDArray[np.uint16]]:
    image = np.zeros(VOLUME.grid.shape, np.uint16)
    return Desk(VOLUME, image, log), image


def _add(prompt: ms.Point, session: InteractiveSession) -> None:
    session.add(prompt)


def clicked(at: ms.prompts.Index, label: int = 1) -> ms.Point:
    return ms.Point(at, label=label)


def test_new_work_keeps_the_earlier_log(tmp_path: Path) -> None:
    log = tmp_path / "work.json"
    first, image = desk_at(log)
    first.do(lambda session: session.add(clicked(A)))
    before = image.copy()
    first.do(lambda session: session.lock(1))  # its own log is written anew
    first.close()
    assert earlier_logs(log) == [log]
    second, image = desk_at(log)
    second.do(lambda session: session.add(clicked(B)))
    aside = tmp_path / "work.1.json"
    assert earlier_logs(log) == [aside]
    third, image = desk_at(log)
    view = third.resume(aside)
    assert not view.error
    np.testing.assert_array_equal(image, before)
    assert view.locked == {1}
    third.do(lambda session: session.unlock(1))
    third.close()
    assert set(earlier_logs(log)) == {aside}, "the second window is at work"
    second.close()
    fourth, image = desk_at(log)
    fourth.resume(log)
    assert image[B] == 1
    assert image[A] == 0


def test_two_windows_on_one_volume_keep_two_logs(tmp_path: Path) -> None:
    log = tmp_path / "work.json"
    first, _ = desk_at(log)
    first.do(lambda session: session.add(clicked(A)))
    second, image = desk_at(log)
    second.do(lambda session: session.rename(2, "spleen"))
    second.do(lambda session: session.add(clicked(B, 2)))
    first.do(lambda session: session.lock(1))
    assert first.log == log
    assert second.log == tmp_path / "work.1.json"
    assert earlier_logs(log) == [], "both are at work"
    third, other = desk_at(log)
    assert "another window" in third.resume(second.log).error
    second.close()
    view = third.resume(second.log)
    assert not view.error
    assert view.names == {2: "spleen"}
    np.testing.assert_array_equal(other, image)
    third.do(lambda session: session.add(clicked(A)))
    assert third.log == second.log
    first.close()
    third.close()
    assert len(earlier_logs(log)) == 2


def test_the_log_of_a_killed_window_is_offered(tmp_path: Path) -> None:
    log = tmp_path / "work.json"
    desk, _ = desk_at(log)
    desk.do(lambda session: session.add(clicked(A)))
    desk.close()
    work = (
        "import sys; from pathlib import Path; from napari_medseg.interactive.autosave import claim\n"
        "held = claim(Path(sys.argv[1])); print(held is not None, flush=True); sys.stdin.read()"
    )
    with started(work, log) as window:
        assert earlier_logs(log) == []
        window.kill()
        window.wait()
        assert earlier_logs(log) == [log]


def test_a_log_that_cannot_be_resumed_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "work.json"
    log.write_text("no log")
    desk, image = desk_at(log)
    assert "work.json" in desk.resume().error
    assert not desk.do(lambda session: session.add(clicked(A))).error
    assert (tmp_path / "work.1.json").read_text() == "no log"
    assert image[A] == 1


def test_logs_lie_in_the_folder_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_SESSIONS", str(tmp_path / "sessions"))
    log = log_path(VOLUME)
    assert log.parent == sessions_folder() == tmp_path / "sessions"
    assert log == log_path(VOLUME)
    assert log != log_path(balls((24, 28, 46), A, radius=7)[0])
    assert earlier_logs(log) == []


def test_filling_changes_the_label_alone_and_is_undone_at_once(tmp_path: Path) -> None:
    desk, image = desk_at(tmp_path / "work.json")
    desk.do(lambda session: session.add(clicked(B, 2)))
    other = image == 2
    for z in (8, 12, 16):
        desk.paint(np.argwhere(FIRST & (np.arange(24) == z)[:, None, None]), 1)
    across = np.argwhere(FIRST & (np.arange(46) == 9))
    desk.paint(across, 1)
    assert painted_slices(desk.session.prompts, 1) == {0: [8, 12, 16], 2: [9]}
    before = image.copy()
    view = desk.do(lambda session: fill_from_slices(session, 1, method="interpolation"))
    assert not view.error
    assert "axis 0; 1 across it" in view.notice
    desk.do(InteractiveSession.undo)
    view = desk.do(lambda session: fill_from_slices(session, 1))
    assert not view.error + view.notice
    np.testing.assert_array_equal(image == 2, other)
    np.testing.assert_array_equal(image[:, :, 9] == 1, FIRST[:, :, 9])
    for z in (8, 12, 16):
        np.testing.assert_array_equal(image[z] == 1, FIRST[z])
    assert not desk.do(InteractiveSession.undo).error
    np.testing.assert_array_equal(image, before)
    assert "no painted slice" in desk.do(lambda session: fill_from_slices(session, 2)).error
    desk.do(lambda session: session.lock(1))
    assert "locked" in desk.do(lambda session: fill_from_slices(session, 1)).error


def test_a_stroke_is_taken_back_where_it_is_refused(tmp_path: Path) -> None:
    desk, image = desk_at(tmp_path / "work.json")
    desk.do(lambda session: session.add(clicked(A)))
    desk.do(lambda session: session.lock(1))
    before = image.copy()
    stroke = np.array([A, (12, 14, 13)])
    image[tuple(stroke.T)] = 2  # as napari paints
    assert "locked" in desk.paint(stroke, 2).error
    np.testing.assert_array_equal(image, before)


def test_the_eraser_empties_a_slice(tmp_path: Path) -> None:
    desk, image = desk_at(tmp_path / "work.json")
    desk.do(lambda session: session.add(clicked(A)))
    assert not desk.paint(np.argwhere((image == 1) & (np.arange(24) == 10)[:, None, None]), 0).error
    assert not image[10].any()
    assert image[A] == 1


def test_what_says_nothing_is_refused_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    data = np.array(VOLUME.data)
    data[:, :, :, :23], data[:, :3] = np.nan, 5.0
    image = np.zeros(VOLUME.grid.shape, np.uint16)
    desk = Desk(ms.Volume(data, VOLUME.grid, name="half"), image, tmp_path / "half.json")
    before_view = desk.do(lambda session: session.add(clicked(B)))
    assert image[B] == 1
    other, _ = desk_at(tmp_path / "other.json")
    other.do(lambda session: session.add(clicked(A)))
    other.close()
    before = image.copy()
    refused = [
        desk.do(lambda session: session.add(clicked(B, label=0))),
        desk.resume(tmp_path / "other.json"),
    ]
    for view, part in zip(refused, ("label id from 1", "volume"), strict=True):
        assert part in view.error
        assert "\n" not in view.error
        assert view.prompts == before_view.prompts
        np.testing.assert_array_equal(image, before)
    for at in (A, (1, 20, 40)):  # not a number, constant
        prompt = clicked(at, label=2)
        view = desk.do(partial(_add, prompt))
        assert "\n" not in view.error
        np.testing.assert_array_equal(image == 1, before == 1)
        assert bool(view.error) != bool(image[at] == 2), "a mask that holds the click, or one line that says why not"
    third = Desk(desk.volume, np.zeros_like(image), tmp_path / "half.json")
    desk.close()
    assert list(map(repr, third.resume().prompts)) == list(map(repr, desk.session.prompts))


def test_a_stroke_that_is_refused_in_part_changes_nothing(tmp_path: Path) -> None:
    """It erased the label below the lock before it met the lock, and the log did not hold that."""
    desk, image = desk_at(tmp_path / "work.json")
    both = FIRST * np.uint16(1) + SECOND * np.uint16(2)
    desk.do(lambda session: session.start_from(ms.Segmentation(both, VOLUME.grid, {1: "first", 2: "second"})))
    desk.do(lambda session: session.lock(2))
    desk.do(lambda session: session.rename(1, "taken back"))
    undone = desk.session.steps
    desk.do(lambda session: session.undo())
    steps = desk.session.steps
    view = desk.paint(np.argwhere((both > 0) & (np.arange(24) == 12)[:, None, None]), 0)
    assert "label 2 (second) is locked" in view.error
    assert desk.session.steps == steps
    np.testing.assert_array_equal(image, both)
    desk.do(lambda session: session.redo())
    assert desk.session.steps == undone, "what Redo had to offer is what it was"


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_a_line_lies_in_the_slice_on_the_screen(shown: int) -> None:
    """A line of the thinnest brush along z lies in a coronal and in a sagittal slice."""
    session = InteractiveSession(VOLUME)
    line = np.array([[z, A[1], A[2]] for z in range(9, 15)])
    (prompt,) = stroke_prompts(session, line, 1, shown) if shown else stroke_prompts(session, line[:1], 1, shown)
    assert (prompt.axis, prompt.index) == (shown, (9, A[1], A[2])[shown])
    square = np.array([[z, A[1], x] for z in range(9, 15) for x in range(10, 14)])
    assert {made.axis for made in stroke_prompts(session, square, 1, shown)} == {1}


def test_a_full_disk_leaves_the_logs_of_other_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = [tmp_path / "sessions" / f"{name}.json" for name in "abc"]
    logs[0].parent.mkdir()
    for log in logs:
        log.write_text("{}")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(FileError, match="No space left on device"):
        claim_new(logs[0])
    assert [log.read_text() for log in logs] == ["{}"] * 3
