"""Forms made by magicgui from the config dataclasses.

A panel names the fields that it shows, those that it leaves out, and the words for users. Every other field of the
config lies folded under "Advanced". A new field of a config thus appears in its panel once it is declared.

The widget comes from the field's annotation, its choices from the Literal, its bounds from the field's metadata ("ge",
"gt", "le", "lt" and "step"), its unit from the end of the field's name, and its tooltip from the text under the field.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args, get_origin

from magicgui.widgets import create_widget
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QCheckBox, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_medseg.config import Knob, configured, knobs_of
from napari_medseg.errors import InputError
from napari_medseg.widgets.fields.forms import LEAST_FIELD_WIDTH, form, show_row

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")

_UNITS = {"_mm": "mm", "_ml": "ml"}
"""{end of a field's name: unit that its widget shows}"""
_MOST = 10**9
"""Bound of a number whose field states none."""
_SMALL = 0.01
"""Users vary a number below this by powers of ten."""


@dataclass(frozen=True)
class Words:
    """What users read for a field, and for each of its choices."""

    label: str
    choices: Mapping[Any, str] = field(default_factory=dict)
    """{value: text}, in the order of the list; without them the values themselves are the texts."""


class ConfigForm(QObject, Generic[C]):
    """The widgets of a config's fields; `form[name]` is the magicgui widget of a field.

    shown: fields that are always visible, in that order. hidden: fields without a widget; they keep their defaults.
    `advanced` holds all others, folded. `changed` is emitted when the user or a script changes a value.
    """

    changed = Signal()

    def __init__(
        self, config: type[C], shown: Iterable[str], words: Mapping[str, Words], hidden: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self._config = config
        knobs = {name: knob for name, knob in knobs_of(config).items() if name not in set(hidden)}
        self._knobs = knobs
        self._words = {name: words.get(name) or Words(_label_of(name)) for name in knobs}
        self._widgets = {name: knob_widget(knob, self._words[name]) for name, knob in knobs.items()}
        self._without_use: set[str] = set()
        self.shown = tuple(shown)
        self.folded = tuple(name for name in knobs if name not in self.shown)
        self.advanced = _Fold(self.rows(self.folded)) if self.folded else None
        for widget in self._widgets.values():
            widget.changed.connect(self._on_change)

    def __getitem__(self, name: str) -> Any:
        return self._widgets[name]

    def rows(self, names: Iterable[str] | None = None) -> dict[str, QWidget]:
        """{label: Qt widget} of some fields; of the shown ones by default."""
        return {self._words[name].label: self._widgets[name].native for name in names or self.shown}

    @property
    def values(self) -> dict[str, Any]:
        """{field: value} as the widgets show them. Raises InputError for text that is not a number."""
        return {name: value_of(knob, self._widgets[name], self._words[name]) for name, knob in self._knobs.items()}

    @property
    def config(self) -> C:
        """The config as the widgets show it. Raises InputError where the config refuses it."""
        return self.build()

    def build(self, **others: Any) -> C:
        """The same, with values for hidden fields."""
        return configured(self._config, None, {**self.values, **others})

    def offer(self, name: str, choices: Iterable[Any]) -> None:
        """Offer some of the choices of a field only; where the chosen one is not among them, the first is chosen."""
        texts, widget = self._words[name].choices, self._widgets[name]
        kept = list(choices)
        if list(widget.choices) != kept:
            widget.choices = [(texts.get(one, str(one)), one) for one in kept]

    def show(self, name: str, shown: bool) -> None:
        """Show the row of a field, or hide it; a field that is hidden has its default."""
        if shown == (name not in self._without_use):
            return  # to look for the row takes a millisecond
        widget, knob = self._widgets[name], self._knobs[name]
        self._without_use ^= {name}
        if not shown:
            widget.value = knob.default if _is_plain(knob, self._words[name]) else _text_of(knob.default)
        widget.enabled = shown
        show_row(widget.native, shown)

    def _on_change(self) -> None:
        self.changed.emit()


def knob_widget(knob: Knob, words: Words) -> Any:
    """The magicgui widget of a field."""
    kind, value, options = knob.kind, knob.default, {}
    if get_origin(kind) is Literal or words.choices:
        values = get_args(kind) if get_origin(kind) is Literal else words.choices
        options = {"choices": [(words.choices.get(one, str(one)), one) for one in values], "widget_type": "ComboBox"}
    elif kind in (int, float):
        options = _bounds(knob)
    elif not _is_plain(knob, words):  # a number that may be absent, or several numbers: text that is read as such
        _number_of(kind)
        kind, value = str, _text_of(value)
    widget = create_widget(value=value, annotation=kind, name=knob.name, options=options)
    _finish(widget, knob)
    return widget


def _is_plain(knob: Knob, words: Words) -> bool:
    """Whether the widget holds the field's value itself, not a text of numbers."""
    return knob.kind in (bool, str, int, float) or get_origin(knob.kind) is Literal or bool(words.choices)


def value_of(knob: Knob, widget: Any, words: Words) -> Any:
    """The value that the widget shows. Raises InputError for text that is not the numbers of the field."""
    if knob.kind is float and not words.choices:
        return round(widget.value, widget.native.decimals())
    if not isinstance(widget.value, str) or knob.kind is str or get_origin(knob.kind) is Literal:
        return widget.value
    number = _number_of(knob.kind)
    try:
        found = tuple(number(word) for word in widget.value.replace(",", " ").split())
    except ValueError as error:
        example = "0.5, 0.75" if number is float else "64, 96"
        raise InputError(f"{words.label}: needs numbers such as {example}; got {widget.value!r}") from error
    if not found and NoneType in get_args(knob.kind):
        return None
    is_one = get_origin(_without_none(knob.kind)) is not tuple
    return found[0] if is_one and len(found) == 1 else found


def _finish(widget: Any, knob: Knob) -> None:
    """What magicgui has no option for."""
    native = widget.native
    widget.tooltip = knob.doc
    if knob.kind is float and hasattr(native, "setDecimals"):
        native.setDecimals(_digits(knob))
        native.setValue(knob.default)
        native.setSuffix("".join(f" {unit}" for end, unit in _UNITS.items() if knob.name.endswith(end)))
    if NoneType in get_args(knob.kind):
        native.setPlaceholderText("automatic")
    if isinstance(native, QCheckBox):
        native.setText("")  # the label stands beside it
    native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # a spin box is as wide as its bounds
    native.setMinimumWidth(LEAST_FIELD_WIDTH)


def _bounds(knob: Knob) -> dict[str, Any]:
    """min, max and step of a spin box; an open bound lies a step away."""
    limits = knob.metadata
    whole = knob.kind is int
    step = limits.get("step", 1 if whole else 10.0 ** -_decimals(knob.default))
    small = 1 if whole else 10.0 ** -_digits(knob)
    low = limits["gt"] + small if "gt" in limits else limits.get("ge", -_MOST)
    high = limits["lt"] - step if "lt" in limits else limits.get("le", _MOST)
    return {"min": low, "max": high, "step": step}


def _digits(knob: Knob) -> int:
    """Digits after the point that a spin box shows: some more than the default has, for values between its steps."""
    more = 3 if 0 < abs(knob.default) < _SMALL else 1
    return max(_decimals(knob.default) + more, _decimals(knob.metadata.get("step", 1)))


def _decimals(number: float) -> int:
    """Digits after the point that the number is written with."""
    exponent = Decimal(str(number)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) and math.isfinite(number) else 0


def _number_of(annotation: Any) -> type[int] | type[float]:
    """int or float, which an annotation such as `float | None` or `tuple[int, ...] | None` is made of."""
    kind = _without_none(annotation)
    number = get_args(kind)[0] if get_origin(kind) is tuple else kind
    if number is int or number is float:
        return number
    raise TypeError(f"no widget for a field of type {annotation}: leave it out of the form")


def _without_none(annotation: Any) -> Any:
    """T of `T | None`; any other annotation as it is."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 and NoneType in get_args(annotation) else annotation


def _text_of(default: Any) -> str:
    if default is None:
        return ""
    return ", ".join(f"{number:g}" for number in (default if isinstance(default, tuple) else (default,)))


def _label_of(name: str) -> str:
    """The words of a field that has none: "batch_size" -> "Batch size"."""
    for end in (*_UNITS, "_zyx"):
        name = name.removesuffix(end)
    return name.replace("_", " ").capitalize()


class _Fold(QWidget):
    """Rows under a heading; a click on it unfolds them. superqt's draws its arrow black, also on a dark theme."""

    unfolded = Signal()

    def __init__(self, rows: Mapping[str, QWidget]) -> None:
        super().__init__()
        self.heading = QPushButton()
        self.heading.setToolTip("Show, or hide, the options that are seldom needed.")
        self.heading.setStyleSheet("text-align: left; border: none; background: transparent; padding: 2px")
        self._inside = QWidget()
        inside = form(**rows)
        inside.setContentsMargins(12, 0, 0, 0)
        self._inside.setLayout(inside)
        self.heading.clicked.connect(self._turn)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.heading)
        layout.addWidget(self._inside)
        self.unfold(False)

    def _turn(self) -> None:
        self.unfold(self._inside.isHidden())

    def unfold(self, is_open: bool) -> None:
        self._inside.setVisible(is_open)
        self.heading.setText("▾ Advanced" if is_open else "▸ Advanced")
        if is_open:
            self.unfolded.emit()
