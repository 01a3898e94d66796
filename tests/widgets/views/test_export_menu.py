"""The Export button: where its files go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtWidgets import QFileDialog

from balls import segmentation
from napari_medseg import evaluate
from napari_medseg.widgets.views.export_menu import ExportButton

SCORES = evaluate(prediction=segmentation(), reference=segmentation())


@pytest.mark.parametrize(
    ("chosen", "written"),
    [
        ("exp_fold1", "exp_fold1.html"),
        ("exp_fold1.2", "exp_fold1.2.html"),
        ("exp_fold1.2.html", "exp_fold1.2.html"),
        ("scores.csv", "scores.html"),
    ],
    ids=["bare", "dots", "suffix", "another_format"],
)
def test_a_name_keeps_its_dots_and_ends_in_its_format(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, written: str
) -> None:
    asked: list[Path] = []

    def writing(path: Path) -> Callable[[], object]:
        asked.append(path)
        return lambda: None

    button = ExportButton(lambda: "", writing)
    qtbot.addWidget(button)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / chosen), ""))
    next(action for action in button.menu().actions() if action.text() == "HTML report…").trigger()
    qtbot.waitUntil(lambda: not button.background.runner.is_busy)
    assert asked == [tmp_path / written]


def test_one_export_at_a_time(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    button = ExportButton(lambda: "", lambda _: go_on.wait)
    qtbot.addWidget(button)
    button.show_scores(SCORES)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "scores"), ""))
    button.menu().actions()[0].trigger()
    assert not button.isEnabled(), "another one would take the place of the one that waits"
    button.show_scores(SCORES)
    assert not button.isEnabled()
    go_on.set()
    qtbot.waitUntil(button.isEnabled)
