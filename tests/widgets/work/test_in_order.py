"""Works of a panel one after the other: none is lost, and one that fails ends alone."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication

from napari_medseg.errors import InputError
from napari_medseg.widgets.work.in_order import InOrder


@pytest.fixture
def queue(qapp: Any) -> InOrder:
    owner = QObject()
    queue = InOrder(owner)
    queue.owner = owner  # the queue lives as long as its owner
    return queue


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


def held(gate: threading.Event, result: str) -> str:
    assert gate.wait(60)
    return result


def test_all_are_done_in_the_order_in_which_they_were_asked_for(
    queue: InOrder, gate: threading.Event, qtbot: Any
) -> None:
    results: list[tuple[str, bool]] = []
    idle: list[bool] = []
    queue.idle.connect(partial(idle.append, True))

    def take(result: str) -> None:
        results.append((result, threading.current_thread() is threading.main_thread()))

    queue.ask(partial(held, gate, "0"), take)
    for n in range(1, 4):
        queue.ask(partial(str, n), take)
    assert queue.left == 4
    assert results == []
    gate.set()
    qtbot.waitUntil(lambda: not queue.left)
    assert results == [(str(n), True) for n in range(4)]
    assert idle == [True], "once, after the last"


def test_a_work_that_fails_ends_alone(queue: InOrder, gate: threading.Event, qtbot: Any) -> None:
    results: list[str] = []

    def refuse() -> str:
        held(gate, "")
        raise InputError("no such label")

    queue.ask(refuse, results.append)
    queue.ask(partial(str, "next"), results.append)
    gate.set()
    qtbot.waitUntil(lambda: not queue.left)
    assert results == ["next"]
    assert notification_manager.records[-1].message == "no such label"


def test_what_is_dropped_says_nothing(queue: InOrder, gate: threading.Event, qtbot: Any) -> None:
    results: list[str] = []
    queue.ask(partial(held, gate, "running"), results.append)
    queue.ask(partial(str, "waiting"), results.append)
    queue.drop()
    gate.set()
    qtbot.waitUntil(lambda: not queue.left)
    assert results == []
    queue.ask(partial(str, "later"), results.append)
    qtbot.waitUntil(lambda: not queue.left)
    assert results == ["later"]


def test_what_lasts_is_not_dropped(queue: InOrder, gate: threading.Event, qtbot: Any) -> None:
    results: list[str] = []
    queue.ask(partial(held, gate, "running"), results.append, lasts=True)
    queue.ask(partial(str, "looked at"), results.append)
    queue.ask(partial(str, "waiting"), results.append, lasts=True)
    queue.drop()
    gate.set()
    qtbot.waitUntil(lambda: not queue.left)
    assert results == ["running", "waiting"]


def test_a_work_that_fails_after_a_cancel_ends_alone(queue: InOrder, gate: threading.Event, qtbot: Any) -> None:
    results: list[str] = []

    def refuse() -> str:
        raise InputError("no such folder")

    queue.ask(partial(held, gate, "running"), results.append)
    queue.ask(refuse, lambda _: results.append("written"))
    queue.ask(partial(str, "next"), results.append)
    queue.runner.cancel()
    gate.set()
    qtbot.waitUntil(lambda: not queue.left)
    assert results == ["running", "next"]
    assert notification_manager.records[-1].message == "no such folder"


def test_a_result_that_arrives_while_one_is_taken_is_its_own(queue: InOrder, gate: threading.Event, qtbot: Any) -> None:
    results: list[str] = []

    def take(result: str) -> None:
        qtbot.waitUntil(lambda: results == ["second"])
        results.append(result)

    queue.ask(partial(held, gate, "first"), take)
    queue.ask(partial(str, "second"), results.append)
    gate.set()
    qtbot.waitUntil(lambda: len(results) == 2)
    assert results == ["second", "first"]


@pytest.mark.parametrize("end", ["destroyed", "quit"])
def test_all_is_done_where_the_queue_ends_first(end: str, gate: threading.Event, qtbot: Any) -> None:
    owner, done = QObject(), list[str]()
    queue = InOrder(owner)
    queue.ask(partial(held, gate, ""), list[Any]().append)
    for n in range(3):
        queue.ask(partial(done.append, str(n)), list[Any]().append)
    if end == "quit":
        threading.Timer(0.2, gate.set).start()
        QApplication.instance().aboutToQuit.emit()
    else:
        with qtbot.waitSignal(owner.destroyed):
            owner.deleteLater()
        gate.set()
        qtbot.waitUntil(lambda: len(done) == 3)
    assert done == ["0", "1", "2"]
