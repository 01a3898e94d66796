"""The runner: events cross to the window in order, a cancel ends the work, faults become notifications."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from napari.utils.notifications import notification_manager
from napari.utils.progress import progress
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from napari_medseg.errors import InputError
from napari_medseg.events import Event, Finished, Notice, Progress, Started, TrainProgress
from napari_medseg.widgets.work.progress_row import ProgressRow, duration
from napari_medseg.widgets.work.runner import Failed, Runner, lasting_runner


@pytest.fixture
def runner(qtbot: Any) -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.cancel()
    qtbot.waitUntil(lambda: not runner.is_busy)


@pytest.fixture
def seen(runner: Runner) -> list[Event]:
    events: list[Event] = []
    runner.happened.connect(events.append)
    return events


def run(runner: Runner, qtbot: Any, events: Callable[[], Iterator[Event]]) -> None:
    runner.start(events, "work")
    qtbot.waitUntil(lambda: not runner.is_busy)


def test_a_work_leaves_the_warnings_of_the_process_alone(runner: Runner, qtbot: Any) -> None:
    """Their filters and their hook are everybody's: another thread may be warned, or change them, meanwhile."""
    before, during = (list(warnings.filters), warnings.showwarning), []

    def work() -> Iterator[Event]:
        during.append((list(warnings.filters), warnings.showwarning))
        yield Finished("labels")

    run(runner, qtbot, work)
    assert during == [before]


def windows(total: int, seconds: float) -> Iterator[Event]:
    yield Started("cpu fp32: a plan")
    for done in range(1, total + 1):
        time.sleep(seconds)
        yield Progress(done, total, "windows")
    yield Finished("labels")


def test_events_arrive_in_order_on_the_thread_of_the_window(runner: Runner, seen: list[Event], qtbot: Any) -> None:
    threads: set[int] = set()
    runner.happened.connect(lambda _: threads.add(threading.get_ident()))
    run(runner, qtbot, lambda: windows(3, 0.06))
    assert seen == [Started("cpu fp32: a plan"), *(Progress(i, 3, "windows") for i in (1, 2, 3)), Finished("labels")]
    assert threads == {threading.get_ident()}


def test_progress_too_fast_to_be_seen_is_thinned_but_its_end_arrives(qtbot: Any) -> None:
    runner = Runner(clock=lambda: 0.0)
    seen: list[Event] = []
    runner.happened.connect(seen.append)
    run(runner, qtbot, lambda: windows(2000, 0.0))
    assert seen == [Started("cpu fp32: a plan"), Progress(2000, 2000, "windows"), Finished("labels")]


def test_a_cancel_ends_at_the_next_step_and_closes_the_generator(runner: Runner, seen: list[Event], qtbot: Any) -> None:
    closed = threading.Event()

    def endless() -> Iterator[Event]:
        try:
            for step in range(10_000):
                time.sleep(0.06)
                yield Progress(step, 10_000)
        finally:
            closed.set()

    runner.start(endless, "work")
    qtbot.waitUntil(lambda: len(seen) > 0)
    before = len(seen)
    runner.cancel()
    assert runner.should_stop()
    qtbot.waitUntil(lambda: not runner.is_busy)
    assert len(seen) <= before + 1, "the step that was on its way"
    assert closed.is_set()
    assert not any(isinstance(event, Finished) for event in seen)


def test_work_that_ends_itself_is_asked_and_finishes(runner: Runner, seen: list[Event], qtbot: Any) -> None:
    def training() -> Iterator[Event]:
        yield Started("a plan")
        while not runner.should_stop():
            time.sleep(0.01)
            yield Notice("step")
        yield Finished("model")

    runner.happened.connect(lambda event: runner.cancel() if isinstance(event, Notice) else None)
    runner.start(training, "work", ends_itself=True)
    qtbot.waitUntil(lambda: not runner.is_busy)
    assert seen[-1] == Finished("model")


def test_the_work_ends_when_the_runner_is_destroyed(qtbot: Any) -> None:
    closed = threading.Event()

    def endless() -> Iterator[Event]:
        try:
            while True:
                time.sleep(0.01)
                yield Notice("still here")
        finally:
            closed.set()

    runner = Runner()
    runner.start(endless, "work")
    qtbot.wait(50)
    runner.deleteLater()
    qtbot.waitUntil(closed.is_set)
    qtbot.waitUntil(lambda: not progress._all_instances)


@pytest.mark.parametrize("error", [InputError("give one channel"), RuntimeError("out of memory")], ids=type)
def test_an_error_becomes_one_notification(error: Exception, runner: Runner, seen: list[Event], qtbot: Any) -> None:
    def fails() -> Iterator[Event]:
        yield Started("a plan")
        raise error

    before = len(notification_manager.records)
    run(runner, qtbot, fails)
    assert seen[-1] == Failed(error)
    (record,) = notification_manager.records[before:]
    assert str(error) in record.message
    assert str(record.severity) == "error"


def test_the_work_ends_when_its_panel_is_closed(qtbot: Any) -> None:
    dock, panel = QDockWidget(), QWidget()
    qtbot.addWidget(dock)
    dock.setWidget(panel)
    page = QWidget(panel)
    runner, ended = Runner(page), threading.Event()

    def endless() -> Iterator[Event]:
        try:
            while True:
                time.sleep(0.01)
                yield Progress(0, 1)
        finally:
            ended.set()

    runner.start(endless, "work")
    panel.setParent(None)  # as napari does when the cross of the dock is clicked
    qtbot.waitUntil(lambda: not runner.is_busy)
    assert ended.is_set()


def test_the_work_of_a_lasting_runner_goes_on_when_its_panel_is_closed(qtbot: Any) -> None:
    window, dock, panel = QMainWindow(), QDockWidget(), QWidget()
    qtbot.addWidget(window)
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
    dock.setWidget(panel)
    runner, goes_on = lasting_runner(window, "train"), threading.Event()

    def waits() -> Iterator[Event]:
        yield Progress(0, 1)
        assert goes_on.wait(timeout=60)
        yield Finished("the model")

    seen: list[Event] = []
    runner.happened.connect(seen.append)
    runner.start(waits, "work")
    panel.setParent(None)
    panel.deleteLater()
    goes_on.set()
    again = lasting_runner(window, "train")
    assert again is runner
    qtbot.waitUntil(lambda: not again.is_busy)
    assert seen[-1] == Finished("the model")
    assert lasting_runner(window, "other") is not runner


def test_no_work_waits_for_a_thread_or_takes_one_of_naparis(qtbot: Any) -> None:
    pool = QThreadPool.globalInstance()
    most = pool.maxThreadCount()
    together = threading.Barrier(most + 2)
    met: list[tuple[int, int]] = []

    def meeting() -> Iterator[Event]:
        met.append((together.wait(timeout=60), pool.activeThreadCount()))
        yield Finished(None)

    runners = [Runner() for _ in range(together.parties)]
    for runner in runners:
        runner.start(meeting, "")
    qtbot.waitUntil(lambda: not any(runner.is_busy for runner in runners))
    assert sorted(met) == [(number, 0) for number in range(together.parties)]
    assert pool.maxThreadCount() == most


def test_the_work_ends_when_the_application_quits(runner: Runner, qtbot: Any) -> None:
    closed = threading.Event()

    def training() -> Iterator[Event]:
        try:
            yield Started("a plan")
            while True:
                time.sleep(0.06)
                yield Progress(0, 1)
        finally:
            closed.set()

    with qtbot.waitSignal(runner.happened):
        runner.start(training, "work", ends_itself=True)
    QApplication.instance().aboutToQuit.emit()
    assert closed.is_set(), "the application waits for the last step"


def test_the_work_ends_when_a_script_ends_without_an_event_loop() -> None:
    script = """
import sys, time
from qtpy.QtWidgets import QApplication
from napari_medseg.events import Progress
from napari_medseg.widgets.work.runner import Runner
app = QApplication([])
runner = Runner()
def endless():
    try:
        while True:
            time.sleep(0.01)
            yield Progress(0, 1)
    finally:
        sys.stdout.write("closed")
runner.start(endless, "")
time.sleep(0.1)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "closed")


def test_a_work_that_is_done_is_forgotten(runner: Runner, qtbot: Any) -> None:
    made: list[weakref.ref[object]] = []

    class Scan:
        """Large data of a work."""

    def reading() -> Iterator[Event]:
        scan = Scan()
        made.append(weakref.ref(scan))
        yield Progress(1, 1)
        yield Finished(None)

    run(runner, qtbot, reading)
    qtbot.waitUntil(lambda: made[0]() is None)
    qtbot.waitUntil(lambda: not any(thread.name == "napari-medseg" for thread in threading.enumerate()))


def test_naparis_own_progress_bar_follows_and_goes(runner: Runner, qtbot: Any) -> None:
    bars: list[tuple[str, int, int]] = []
    runner.happened.connect(lambda _: bars.extend((b.desc, b.n, b.total) for b in progress._all_instances))
    run(runner, qtbot, lambda: windows(2, 0.06))
    assert ("work", 1, 2) in bars
    assert not progress._all_instances


def test_the_row_shows_plan_pace_and_end(runner: Runner, qtbot: Any) -> None:
    row = ProgressRow(runner, clock=lambda: 0.0)
    qtbot.addWidget(row)
    texts: list[str] = []
    runner.happened.connect(lambda _: texts.append(row.text.text()))
    run(runner, qtbot, lambda: windows(3, 0.06))
    assert texts[:2] == ["cpu fp32: a plan", "1 of 3 windows"]
    assert texts[2] == "2 of 3 windows, 0 s left"
    assert texts[-1] == "Done in less than a second."
    assert row.bar.isHidden()
    assert row.end_button.isHidden()


def test_a_stage_without_progress_says_how_long_it_takes(runner: Runner, qtbot: Any) -> None:
    now, may_end = [0.0], threading.Event()
    row = ProgressRow(runner, clock=lambda: now[0])
    qtbot.addWidget(row)

    def loading() -> Iterator[Event]:
        may_end.wait()
        yield Finished("labels")

    runner.start(loading, "work")
    assert row.text.text() == "Preparing…"
    now[0] = 65.0
    qtbot.waitUntil(lambda: row.text.text() == "Preparing… (1 min 05 s)")
    may_end.set()
    qtbot.waitUntil(lambda: not runner.is_busy)
    assert row.text.text() == "Done in 1 min 05 s."


def test_the_button_reads_cancelling_until_the_work_has_ended(runner: Runner, qtbot: Any) -> None:
    row = ProgressRow(runner, clock=lambda: 0.0)
    qtbot.addWidget(row)
    runner.start(lambda: windows(100, 0.06), "work")
    row.end_button.click()
    assert row.end_button.text() == row.text.text() == "Cancelling…"
    assert not row.end_button.isEnabled()
    qtbot.waitUntil(lambda: not runner.is_busy)
    assert row.text.text() == "Ended early after less than a second."


def test_the_time_left_of_a_training_is_the_one_it_says(runner: Runner, qtbot: Any) -> None:
    row = ProgressRow(runner)
    qtbot.addWidget(row)

    def training() -> Iterator[Event]:
        yield TrainProgress(3, 10, "epoch 1", step=3, seconds_left=125.0)

    run(runner, qtbot, training)
    assert row.text.text() == "step 3, epoch 1, 2 min 05 s left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (125, "2 min 05 s"), (3780, "1 h 03 min")], ids=str
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
