"""Forms from config dataclasses: the widget follows the annotation, and a new knob needs no line in a panel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, SpinBox
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_medseg.config import InstancesConfig, MetricsConfig, SegmentConfig, TrainConfig, knobs_of
from napari_medseg.errors import InputError
from napari_medseg.widgets.fields.config_form import ConfigForm, Words
from napari_medseg.widgets.fields.forms import form


# A panel of five fields, whole: its config, and the widget.
@dataclass(frozen=True, kw_only=True)
class SmoothConfig:
    """How a surface is smoothed."""

    method: Literal["gaussian", "taubin"] = "gaussian"
    """gaussian or taubin, which keeps the volume."""
    sigma_mm: float = field(default=1.5, metadata={"gt": 0, "le": 20, "step": 0.5})
    """Width of the kernel in mm."""
    rounds: int = field(default=3, metadata={"ge": 1})
    """How often the surface is smoothed."""
    keep_ends: bool = True
    """Leave the first and the last slice as they are."""
    only: tuple[int, ...] | None = None
    """Label ids that are smoothed; empty for all."""


class SmoothPanel(QWidget):  # type: ignore[misc]  # Qt comes untyped
    """Shows two fields; the others are folded."""

    def __init__(self) -> None:
        super().__init__()
        words = {"method": Words("Method", {"gaussian": "Gaussian", "taubin": "Taubin"})}
        self.options = ConfigForm(SmoothConfig, ("method", "sigma_mm"), words)
        layout = QVBoxLayout(self)
        layout.addLayout(form(**self.options.rows()))
        layout.addWidget(self.options.advanced)


@pytest.fixture
def panel(qtbot: Any) -> SmoothPanel:
    made = SmoothPanel()
    qtbot.addWidget(made)
    made.show()
    return made


def test_a_panel_of_five_fields(panel: SmoothPanel) -> None:
    options = panel.options
    assert options.config == SmoothConfig()
    kinds = {"method": ComboBox, "sigma_mm": FloatSpinBox, "rounds": SpinBox, "keep_ends": CheckBox, "only": LineEdit}
    assert {name: type(options[name]) for name in kinds} == kinds
    values = {"method": "taubin", "sigma_mm": 2.25, "rounds": 5, "keep_ends": False, "only": "3, 5"}
    for name, value in values.items():
        options[name].value = value
    assert options.config == SmoothConfig(method="taubin", sigma_mm=2.25, rounds=5, keep_ends=False, only=(3, 5))


def test_words_units_bounds_and_tooltips(panel: SmoothPanel) -> None:
    sigma, method = panel.options["sigma_mm"], panel.options["method"]
    assert sigma.native.text() == "1.50 mm"
    assert (sigma.min, sigma.max, sigma.step) == (pytest.approx(0.01), 20, 0.5)
    assert sigma.native.toolTip() == "Width of the kernel in mm."
    assert [method.native.itemText(i) for i in range(method.native.count())] == ["Gaussian", "Taubin"]
    assert list(panel.options.rows(("sigma_mm", "keep_ends"))) == ["Sigma", "Keep ends"]
    with pytest.raises(ValueError, match="outside of the allowed range"):
        panel.options["rounds"].value = 0


def test_fields_that_are_not_shown_lie_folded(panel: SmoothPanel, qtbot: Any) -> None:
    options = panel.options
    assert options.folded == ("rounds", "keep_ends", "only")
    assert options["method"].native.visibleRegion().isEmpty() is False
    assert options["rounds"].native.visibleRegion().isEmpty()
    assert options.advanced is not None
    options.advanced.heading.click()
    qtbot.waitUntil(lambda: not options["rounds"].native.visibleRegion().isEmpty())


def test_a_change_is_announced(panel: SmoothPanel, qtbot: Any) -> None:
    with qtbot.waitSignal(panel.options.changed):
        panel.options["rounds"].native.setValue(7)


def test_text_that_is_no_number_is_refused_by_the_label(panel: SmoothPanel) -> None:
    panel.options["only"].value = "liver"
    with pytest.raises(InputError, match="Only: needs numbers such as 64, 96; got 'liver'"):
        _ = panel.options.config


CONFIGS: Mapping[type, tuple[str, ...]] = {
    SegmentConfig: ("missing",),
    TrainConfig: ("arguments",),
    MetricsConfig: (),
    InstancesConfig: (),
}
"""{config of a panel: fields without a widget}"""


@pytest.mark.parametrize(("config", "hidden"), CONFIGS.items(), ids=lambda value: getattr(value, "__name__", None))
def test_every_knob_has_a_widget_that_shows_its_default(config: Any, hidden: tuple[str, ...], qtbot: Any) -> None:
    made = ConfigForm(config, (), {}, hidden)
    qtbot.addWidget(made.advanced)
    assert made.folded == tuple(name for name in knobs_of(config) if name not in hidden)
    assert made.config == config()
    assert all(made[name].tooltip for name in made.folded)


def test_a_type_without_a_widget_is_a_defect(qtbot: Any) -> None:
    with pytest.raises(TypeError, match="no widget for a field of type"):
        ConfigForm(TrainConfig, (), {})


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A group."""

    steps: int = 2
    """Steps."""


@dataclass(frozen=True, kw_only=True)
class Outer:
    """A config with a group."""

    name: str = "a"
    """A name."""
    inner: Inner = field(default_factory=Inner)
    """The group."""


def test_the_fields_of_a_group_have_flat_names(qtbot: Any) -> None:
    made = ConfigForm(Outer, ("name", "steps"), {})
    for widget in made.rows().values():
        qtbot.addWidget(widget)
    assert made.advanced is None
    made["steps"].value = 5
    assert made.config == Outer(inner=Inner(steps=5))
