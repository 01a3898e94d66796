"""The collector of garbage rests while the user waits, and what was made meanwhile does not stay."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from napari_medseg.widgets.work.collector import rest_collector


class Node:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


def test_rests_that_overlap_end_with_the_last(qtbot: Any) -> None:
    rest_collector(2000)
    rest_collector(10)
    qtbot.wait(100)
    assert not gc.isenabled()
    qtbot.waitUntil(gc.isenabled)


def test_rests_without_a_pause_leave_no_garbage(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_medseg.widgets.work.collector._LONGEST_MS", 200)
    made = weakref.ref(Node())
    for _ in range(100):
        rest_collector(150)
        qtbot.wait(20)
        assert not gc.isenabled()
        if made() is None:
            return
    pytest.fail("nothing is collected as long as one asks for rest")


def test_of_many_rests_in_a_row_one_searches_all(monkeypatch: pytest.MonkeyPatch, qtbot: Any) -> None:
    monkeypatch.setattr("napari_medseg.widgets.work.collector._LONGEST_MS", 0)
    monkeypatch.setattr("napari_medseg.widgets.work.collector._RESTS", 3)
    made = Node()
    gc.collect(1)  # it is old now
    alive = weakref.ref(made)
    del made
    for _ in range(8):
        rest_collector(1)
    assert alive() is None


def test_what_was_made_in_the_rest_is_collected_after_it(qtbot: Any) -> None:
    rest_collector()
    made = weakref.ref(Node())
    assert made() is not None
    qtbot.waitUntil(gc.isenabled)
    assert made() is None


def test_who_turned_the_collector_off_keeps_it_off(qtbot: Any) -> None:
    gc.disable()
    rest_collector(10)
    qtbot.wait(100)
    assert not gc.isenabled()
