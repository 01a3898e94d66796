"""Small pieces that the panels share: rows, buttons, captions, and errors shown as one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QPaintEvent, QResizeEvent, QStandardItem
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QWidget,
)

from napari_medseg.errors import MedsegError

LEAST_FIELD_WIDTH = 80
"""Pixels of a field in a narrow panel."""
_PADDING = 8
"""Pixels that a style may keep free beside the text."""
_LEAST_WIDTH = 330
"""Pixels in which a panel's form needs no horizontal scroll bar."""


@contextmanager
def reporting() -> Iterator[None]:
    """An error that a user can cause becomes a notification of one line; a defect of ours goes on to napari."""
    try:
        yield
    except MedsegError as error:
        show_error(str(error))


def form(**rows: QWidget) -> QFormLayout:
    """Labelled rows: the names with spaces for underscores; fields take the width that is there."""
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
    for name, widget in rows.items():
        add_row(layout, name.replace("_", " "), widget)
    return layout


def add_row(layout: QFormLayout, name: str, widget: QWidget) -> None:
    """A row whose name carries the tooltip of its field."""
    label = QLabel(name)
    label.setToolTip(widget.toolTip())
    label.setBuddy(widget)
    layout.addRow(label, widget)


def show_row(field: QWidget, shown: bool) -> None:
    """Show the row of a field in a form, or hide it with its name."""
    parent = field.parentWidget()
    assert parent is not None, "the form is laid out"
    for rows in _forms_in(parent.layout()):
        label = rows.labelForField(field)
        if label is not None:
            label.setVisible(shown)
            break
    field.setVisible(shown)


def _forms_in(layout: QLayout | None) -> Iterator[QFormLayout]:
    """The forms of a layout; to look for labels in the widgets would take two milliseconds a row."""
    if layout is None:
        return
    if isinstance(layout, QFormLayout):
        yield layout
    for k in range(layout.count()):
        yield from _forms_in(layout.itemAt(k).layout())


def scrolling(content: QWidget) -> QScrollArea:
    """The content in an area that scrolls, so that it never pushes at the window of napari.

    The wheel scrolls; it turns a spin box or a drop-down only after a click on it.
    """
    guard = _WheelGuard(content)
    for kind in (QComboBox, QAbstractSpinBox):
        for field in content.findChildren(kind):
            field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            field.installEventFilter(guard)
    area = QScrollArea()
    area.setWidget(content)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setMinimumWidth(_LEAST_WIDTH)
    return area


class _WheelGuard(QObject):
    """Hands the wheel on from a field without the focus to the area that scrolls."""

    def eventFilter(self, field: QObject, event: QEvent) -> bool:  # noqa: N802  # Qt's name
        if event.type() == QEvent.Type.Wheel and isinstance(field, QWidget) and not field.hasFocus():
            event.ignore()
            return True
        return False


def row(*widgets: QWidget) -> QHBoxLayout:
    """Widgets side by side; those that want to grow do."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return layout


def button(text: str, on_click: Callable[[], None], tooltip: str = "") -> QPushButton:
    """A push button whose slot takes nothing."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    made.clicked.connect(lambda _checked=False: on_click())
    return made


def choice(options: dict[str, str], tooltip: str = "") -> QComboBox:
    """A drop-down of {value: what the user reads}; `currentData()` is the value."""
    box = NarrowBox()
    box.setToolTip(tooltip)
    for value, text in options.items():
        box.addItem(text, value)
    return box


def add_heading(box: QComboBox, text: str) -> None:
    """A line of a drop-down that cannot be chosen."""
    box.addItem(text)
    heading = box.model().item(box.count() - 1)
    assert isinstance(heading, QStandardItem)
    heading.setFlags(Qt.ItemFlag.NoItemFlags)


def choose(box: QComboBox, value: object) -> None:
    """Choose by value, if the drop-down has it."""
    index = box.findData(value)
    if index >= 0:
        box.setCurrentIndex(index)


def caption(text: str = "") -> QLabel:
    """Wrapped text that can be selected and copied, as wide as the panel and never wider."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label


class NarrowBox(QComboBox):
    """A drop-down that may be narrower than its texts: they are cut in the middle, where Qt cuts their ends off."""

    def __init__(self) -> None:
        super().__init__()
        self.view().setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setMinimumWidth(LEAST_FIELD_WIDTH)  # Qt would ask for the width of a placeholder

    def shown_text(self, width: int) -> str:
        """The chosen text, or the placeholder, in `width` pixels. Names of a study differ at their ends."""
        text = self.currentText() if self.currentIndex() >= 0 else self.placeholderText()
        return str(self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideMiddle, width))

    @property
    def text_width(self) -> int:
        """The pixels that a text has."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        field = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
        )
        return int(field.width()) - _PADDING

    def paintEvent(self, _event: QPaintEvent) -> None:  # noqa: N802  # Qt's name
        """Draw as Qt does, but for the text."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        option.currentText = self.shown_text(self.text_width)
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)


class Advice(QLabel):
    """A caption that is never cut: a form that scrolls would give it fewer lines than its text needs."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def setText(self, text: str) -> None:  # noqa: N802  # Qt's name
        super().setText(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  # Qt's name
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        self.setMinimumHeight(0)  # Qt counts the minimum in
        self.setMinimumHeight(self.heightForWidth(self.width()))


def warning_line() -> QLabel:
    """A caption on yellow that is seen on every theme; hidden until it has a text."""
    label = caption()
    label.setStyleSheet("background: #ffe08a; color: black; padding: 4px; border-radius: 3px")
    label.hide()
    return label


def tell(label: QLabel, text: str) -> None:
    """Show a text; hide the label where there is none."""
    label.setText(text)
    label.setVisible(bool(text))
