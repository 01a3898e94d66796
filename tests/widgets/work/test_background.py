"""One computation at a time; of those that wait, the latest."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject

from napari_medseg.errors import InputError
from napari_medseg.widgets.work.background import Background


@pytest.fixture
def owner(qapp: Any) -> QObject:
    return QObject()


@pytest.fixture
def background(owner: QObject) -> Background:
    return Background(owner)


def test_a_newer_request_replaces_one_that_waits(background: Background, qtbot: Any) -> None:
    gate = threading.Event()
    results: list[str] = []

    def first() -> str:
        assert gate.wait(10)
        return "first"

    background.ask(first, results.append)
    for name in ("second", "third"):
        background.ask(partial(str, name), results.append)
    gate.set()
    qtbot.waitUntil(lambda: results == ["first", "third"])
    qtbot.waitUntil(lambda: not background.runner.is_busy)


def test_results_arrive_on_the_thread_of_the_window(background: Background, qtbot: Any) -> None:
    threads: list[tuple[int, int]] = []
    background.ask(threading.get_ident, lambda worker: threads.append((worker, threading.get_ident())))
    qtbot.waitUntil(lambda: bool(threads))
    ((worker, window),) = threads
    assert window == threading.main_thread().ident != worker


def test_a_refusal_is_told_and_the_next_request_runs(background: Background, qtbot: Any) -> None:
    results: list[int] = []

    def refuse() -> int:
        raise InputError("no such label")

    background.ask(refuse, results.append)
    qtbot.waitUntil(lambda: not background.runner.is_busy)
    assert notification_manager.records[-1].message == "no such label"
    background.ask(lambda: 7, results.append)
    qtbot.waitUntil(lambda: results == [7])
