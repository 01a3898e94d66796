"""The Interact panel in a real window: what is clicked becomes a mask, and nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_medseg as ms
from click_phantoms import balls
from interact_walk import (
    Clicker,
    click_in_3d,
    click_in_lazy_layers,
    close_at_work,
    crash_and_resume,
    draw_with_every_tool,
    fill_from_painted_slices,
    hand_over_what_was_said,
    keep_objects,
    preview_a_click,
    refuse_in_one_line,
    run_on_demand,
    walk_panel,
)
from napari_medseg.sample import phantom
from napari_medseg.widgets.fields.case_rows import CaseRows
from organ_walk import Surgeon, organs_of, segment_organ
from processes import started


@pytest.fixture(autouse=True)
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own for what is saved while it clicks."""
    monkeypatch.setenv("MEDSEG_SESSIONS", str(tmp_path / "sessions"))
    return tmp_path / "sessions"


@pytest.fixture
def window(make_napari_viewer: Any) -> Any:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1024, 700)
    return viewer


def shots() -> Path | None:
    """Where pictures of the window go, for those who look at them."""
    folder = os.environ.get("MEDSEG_SHOTS")
    return Path(folder) if folder else None


@pytest.mark.slow
def test_a_walk(window: Any) -> None:
    image, truth = phantom("ct", seed=0)
    user = Clicker(window, image, shots())
    walk_panel(user, truth, min(truth.labels))
    crash_and_resume(user, 1)


def test_every_tool(window: Any) -> None:
    volume, (first, second) = balls((24, 28, 46), (12, 14, 12), (12, 14, 34), radius=7)
    user = Clicker(window, volume, shots())
    draw_with_every_tool(user, first, second)
    run_on_demand(user, (12, 14, 30))
    keep_objects(user)
    fill_from_painted_slices(user, second)
    refuse_in_one_line(user)


@pytest.mark.slow
def test_lazy_layers_a_preview_and_what_was_said(window: Any) -> None:
    volume, _ = balls((24, 28, 46), (12, 14, 14), radius=7)
    user = Clicker(window, volume, shots())
    click_in_lazy_layers(user, volume, (12, 14, 14))
    preview_a_click(user, (12, 14, 24))
    hand_over_what_was_said(user, (12, 14, 14), (12, 14, 40))


@pytest.mark.slow
def test_a_click_in_3d_and_the_end_at_work(window: Any) -> None:
    user = Clicker(window, phantom("ct", seed=0)[0])
    click_in_3d(user)
    close_at_work(user)


@pytest.mark.slow
def test_three_organs_of_a_ct_by_fifteen_interactions(window: Any, medseg_data: Path) -> None:
    folder = medseg_data / "abdomen_ct"
    truth = ms.read_segmentation(folder / "example_seg_fast_force_split.nii.gz")
    user = Surgeon(window, ms.read(folder / "example_ct.nii.gz"), shots())
    organs = organs_of(truth)
    scores = {organ.name: segment_organ(user, organ, truth.grid.spacing, good=0.85, most=6) for organ in organs}
    assert min(scores.values()) >= 0.85, scores
    assert user.interactions <= 15, scores
    assert user.panel.work.view.locked == {1, 2, 3}
    before = [user.mask(label) for label in (1, 2, 3)]
    click_in_3d(user)
    for label, mask in enumerate(before, start=1):
        np.testing.assert_array_equal(user.mask(label), mask)
    user.picture("organs in 3D")


@pytest.mark.slow
def test_a_killed_window_loses_nothing(window: Any, tmp_path: Path) -> None:
    image = phantom("ct", seed=0)[0]
    ms.write(tmp_path / "ct.nii.gz", image)
    work = "import sys; from pathlib import Path; import organ_walk; organ_walk.clicked_in_a_window(Path(sys.argv[1]))"
    with started(work, tmp_path / "ct.nii.gz") as process:
        process.kill()
        process.wait()
    user = Clicker(window, ms.read(tmp_path / "ct.nii.gz"), shots())
    user.picture("recovery")
    user.press(user.panel.earlier.resume_button)
    assert user.panel.work.view.locked == {1}
    assert [prompt.at for prompt in user.panel.work.view.prompts] == [(33, 39, 89), (17, 48, 77)]
    assert user.mask(1)[33, 39, 89]
    assert user.mask(2)[17, 48, 77]


def test_several_volumes_become_rows_of_train(qtbot: Any) -> None:
    viewer = ViewerModel()
    cases = CaseRows(viewer)
    qtbot.addWidget(cases)
    given = []
    for n in range(3):
        blank = np.zeros((2, 3, 4), np.uint8)
        given.append((viewer.add_image(blank, name=f"image {n}"), viewer.add_labels(blank, name=f"labels {n}")))
        cases.take(given[-1][:1], given[-1][1])
        cases.take(given[-1][:1], given[-1][1])  # again: no second row
    assert cases.pairs == given
