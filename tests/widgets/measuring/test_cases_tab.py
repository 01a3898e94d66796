"""Two folders in the Metrics panel: what is shown, what is left out, and what is exported belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

import napari_medseg as ms
from napari_medseg.config import MetricsConfig
from napari_medseg.volume import Grid, Segmentation
from napari_medseg.widgets.measuring.cases_tab import CasesTab


@pytest.fixture
def tab(qtbot: Any) -> CasesTab:
    made = CasesTab(MetricsConfig)
    qtbot.addWidget(made)
    return made


def write(folder: Path, *names: str, start: int = 1) -> Path:
    """A cube per case."""
    folder.mkdir()
    data = np.zeros((5, 6, 7), np.uint8)
    data[1:4, 1:4, start : start + 3] = 1
    for name in names:
        ms.write(folder / f"{name}.nii.gz", Segmentation(data, Grid.from_spacing(data.shape, (2.0, 1.0, 1.0))))
    return folder


def measure(tab: CasesTab, reference: Path, prediction: Path, qtbot: Any) -> None:
    tab.reference.line.setText(str(reference))
    tab.prediction.line.setText(str(prediction))
    tab.measure_button.click()
    qtbot.waitUntil(lambda: not tab.runner.is_busy)


@pytest.mark.filterwarnings("ignore:.* are not in all of:napari_medseg.errors.MedsegWarning")
def test_files_without_a_partner_are_named(tab: CasesTab, tmp_path: Path, qtbot: Any) -> None:
    true = write(tmp_path / "true", "a", "b", "<i>")
    found = write(tmp_path / "found", "a", "b", *(f"extra{i}" for i in range(5)), start=2)
    measure(tab, true, found, qtbot)
    assert tab.scores is not None
    assert tab.scores.cases == ("a", "b")
    text = tab.left_out.text()
    assert "<br>&lt;i&gt; (no prediction)<br>extra0 (no reference)<br>" in text
    assert text.endswith("<br>and 1 more")


def test_a_damaged_case_is_named_and_the_others_are_shown(tab: CasesTab, tmp_path: Path, qtbot: Any) -> None:
    true, found = write(tmp_path / "true", "a", "b", "c"), write(tmp_path / "found", "a", "b", "c", start=2)
    (found / "b.nii.gz").write_bytes(b"no image")
    measure(tab, true, found, qtbot)
    assert tab.scores is not None
    assert tab.scores.cases == ("a", "c")
    assert "<br>b: " in tab.left_out.text()
    assert "b.nii.gz" in tab.left_out.text()


def test_nothing_is_said_where_all_have_partners(tab: CasesTab, tmp_path: Path, qtbot: Any) -> None:
    measure(tab, write(tmp_path / "true", "a", "b"), write(tmp_path / "found", "a", "b"), qtbot)
    assert tab.left_out.text() == ""


def test_a_run_that_fails_leaves_what_is_shown_and_what_is_copied(tab: CasesTab, tmp_path: Path, qtbot: Any) -> None:
    found = write(tmp_path / "found", "a", "b", start=2)
    measure(tab, write(tmp_path / "true", "a", "b"), found, qtbot)
    before = tab.scores
    measure(tab, tmp_path / "nowhere", found, qtbot)
    assert tab.scores is before
    tab.export.menu().actions()[-1].trigger()
    assert str(tmp_path / "true") in QApplication.clipboard().text()
    assert "nowhere" not in QApplication.clipboard().text()


def test_regions_are_measured_as_one_and_means_say_how_many_have_them(
    tab: CasesTab, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, found = write(tmp_path / "true", "a", "b"), write(tmp_path / "found", "a", "b")
    label = ms.read_segmentation(found / "b.nii.gz")
    ms.write(found / "b.nii.gz", Segmentation(np.asarray(label.data) * 2, label.grid))
    measure(tab, true, found, qtbot)
    assert tab.means.text().startswith("Over 2 cases: mean Dice 0.333, HD95 0.000 mm (1 of 3), ")
    for text, label_name in {"cube = 1, 2": "cube", "foreground": "foreground"}.items():
        tab.regions.setText(text)
        measure(tab, true, found, qtbot)
        assert tab.scores is not None
        assert [(row.name, row.dice) for row in tab.scores.rows] == [(label_name, 1.0)] * 2
        tab.export.menu().actions()[-1].trigger()
        scope: dict[str, Any] = {}
        exec(QApplication.clipboard().text(), scope)
        assert [row.name for row in scope["scores"].rows] == [label_name] * 2
    told: list[str] = []
    monkeypatch.setattr("napari_medseg.widgets.fields.forms.show_error", told.append)
    tab.regions.setText("cube=x")
    measure(tab, true, found, qtbot)
    assert told == ["--merge takes a name and label ids, such as liver=1,2; got 'cube=x'"]


def test_an_export_says_what_was_measured_as_one(tab: CasesTab, tmp_path: Path, qtbot: Any) -> None:
    tab.regions.setText("foreground")
    measure(tab, write(tmp_path / "true", "a", "b"), write(tmp_path / "found", "a", "b"), qtbot)
    tab._writing(tmp_path / "scores.csv")()
    header, *rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert header.endswith(",regions")
    assert all(row.endswith(",foreground") for row in rows)
