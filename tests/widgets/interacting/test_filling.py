"""What the Interact panel fills an object by: at once, or by a network that learns its painted slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QObject

import napari_medseg as ms
from click_phantoms import balls, dice
from napari_medseg.config import PropagateConfig
from napari_medseg.events import Event, Progress, Work, run_to_end
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.interactive.slices import ToFill, slices_to_fill
from napari_medseg.widgets.interacting import filling as module
from napari_medseg.widgets.interacting.filling import Filling
from napari_medseg.widgets.interacting.slices_box import SlicesBox
from napari_medseg.widgets.work.runner import Runner

VOLUME, (BALL,) = balls((22, 26, 40), (11, 13, 18), radius=7)


class Desk:
    """What `Filling` asks of the work on an image, done at once."""

    def __init__(self, *indices: int) -> None:
        self.label = 1
        self.session = ms.interact(VOLUME)
        for index in indices:
            self.session.add(ms.SliceMask(BALL[index], 0, index, label=1))
        self.changes = 0

    def do(self, change: Callable[[InteractiveSession], object]) -> None:
        change(self.session)
        self.changes += 1

    def compute(self, work: Callable[[InteractiveSession], Any], then: Callable[[Any], None]) -> None:
        then(work(self.session))

    @property
    def mask(self) -> Any:
        return np.asarray(self.session.segmentation.data[...]) == 1


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ToFill, PropagateConfig]]:
    """What is learned from: the ball comes in two steps, and no network is trained."""
    asked: list[tuple[ToFill, PropagateConfig]] = []

    def learn(to_fill: ToFill, config: PropagateConfig) -> Work[ms.Segmentation]:
        asked.append((to_fill, config))
        for done in (1, 2):
            yield Progress(done, 2, "learning")
        return ms.Segmentation(BALL.astype(np.uint8), VOLUME.grid)

    monkeypatch.setattr(module, "_learned", learn)
    return asked


def test_what_was_learned_becomes_one_change(qtbot: Any, learned: list[tuple[ToFill, PropagateConfig]]) -> None:
    desk, owner = Desk(8, 11, 14), QObject()
    filling = Filling(owner, lambda: desk)  # type: ignore[arg-type, return-value]
    with qtbot.waitSignal(filling.runner.busy, check_params_cb=lambda busy: not busy):
        filling.start(desk, PropagateConfig(method="learn"), None, between=False)  # type: ignore[arg-type]
    ((asked, config),) = learned
    assert (asked.slices, config.minutes) == ({0: [8, 11, 14]}, 0.5)
    np.testing.assert_array_equal(desk.mask, BALL)
    assert desk.changes == 1
    desk.session.undo()
    assert not np.array_equal(desk.mask, BALL)


def test_what_was_learned_for_another_image_is_dropped(
    qtbot: Any, learned: list[tuple[ToFill, PropagateConfig]]
) -> None:
    desk, owner, now = Desk(8, 11, 14), QObject(), list[Any]()
    now.append(desk)
    filling = Filling(owner, lambda: now[-1])
    with qtbot.waitSignal(filling.runner.busy, check_params_cb=lambda busy: not busy):
        filling.start(desk, PropagateConfig(method="learn"), None, between=False)  # type: ignore[arg-type]
        now.append(None)
    assert len(learned) == 1
    assert desk.changes == 0


def test_nothing_painted_is_told(qtbot: Any, learned: list[tuple[ToFill, PropagateConfig]], notes: list[str]) -> None:
    desk, owner = Desk(), QObject()
    filling = Filling(owner, lambda: desk)  # type: ignore[arg-type, return-value]
    filling.start(desk, PropagateConfig(method="learn"), None, between=False)  # type: ignore[arg-type]
    assert notes == ["label 1 has no painted slice: paint it in some slices first"]
    assert not learned


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(module, "show_error", told.append)
    return told


@pytest.mark.parametrize("method", ["auto", "interpolation"])
def test_other_methods_fill_at_once(qtbot: Any, method: Any) -> None:
    desk, owner = Desk(8, 14), QObject()
    filling = Filling(owner, lambda: desk)  # type: ignore[arg-type, return-value]
    filling.start(desk, PropagateConfig(method=method), None, between=False)  # type: ignore[arg-type]
    some = np.where(np.isin(np.arange(22), [8, 14])[:, None, None], BALL, False).astype(np.uint8)
    expected = ms.propagate(VOLUME, ms.Segmentation(some, VOLUME.grid), method=method, slices={0: [8, 14]})
    np.testing.assert_array_equal(desk.mask, np.asarray(expected.data[...]) == 1)


def test_the_box_says_when_to_use_a_method(qtbot: Any) -> None:
    runner = Runner()
    box = SlicesBox(runner)
    qtbot.addWidget(box)
    box.show()
    assert list(box.options["method"].choices) == ["auto", "interpolation", "learn"]
    box.set_ready(has_object=True, painted=5)
    assert "At once" in box.when.text()
    assert box.options["minutes"].native.isHidden()
    box.options["method"].value = "learn"
    assert "from five slices on" in box.when.text()
    assert not box.options["minutes"].native.isHidden()
    box.options["minutes"].value = 2
    assert (box.config.method, box.config.minutes) == ("learn", 2)
    assert box.volume_button.isEnabled()
    with qtbot.waitSignal(runner.busy, check_params_cb=lambda busy: not busy):
        runner.start(lambda: iter([Event()]), "")
        assert not box.volume_button.isEnabled(), "one network at a time"
        assert not box.progress.isHidden()
        box.options["method"].value = "auto"
        assert box.volume_button.isEnabled()
    assert box.progress.isHidden()


@pytest.mark.slow
def test_a_network_learns_in_a_process_of_its_own() -> None:
    asked = slices_to_fill(Desk(6, 8, 11, 14, 16).session, 1)
    config = PropagateConfig(method="learn", epochs=40, device="cpu")
    found = np.asarray(run_to_end(module._learned(asked, config)).data[...])
    np.testing.assert_array_equal(found[[6, 8, 11]], BALL[[6, 8, 11]])
    between, ball = found[6:17] > 0, BALL[6:17]
    assert dice(between, ball) > 0.85
