"""The Columns button: which columns of a table are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QMenu, QPushButton

from napari_medseg.metrics.pairwise.columns import Column
from napari_medseg.widgets.views.record_table import RecordTable


class ColumnMenu(QPushButton):
    """A menu with a tick for each column. `changed` carries `value` when the user changes a tick.

    shown: the columns that are shown before the user chooses.
    """

    changed = Signal(str)

    def __init__(self, table: RecordTable, shown: Iterable[str]) -> None:
        super().__init__("Columns")
        self.setToolTip("Which columns the table shows. Exports hold all of them.")
        self._table = table
        self._shown = list(shown)
        self.setMenu(QMenu(self))
        self.setEnabled(False)

    @property
    def value(self) -> str:
        """The names of the columns that are shown, with commas between them."""
        return ",".join(self._shown)

    @value.setter
    def value(self, names: str) -> None:
        self._shown = names.split(",") if names else []
        self._apply()

    def offer(self, columns: Mapping[str, Column]) -> None:
        """List the columns of the table, and hide those without a tick."""
        menu = self.menu()
        if [action.data() for action in menu.actions()] != list(columns):
            menu.clear()
            for name, column in columns.items():
                action = menu.addAction(column.heading)
                action.setData(name)
                action.setCheckable(True)
                action.triggered.connect(self._on_tick)
        self.setEnabled(True)
        self._apply()

    def _on_tick(self, _checked: bool = False) -> None:
        self._shown = [action.data() for action in self.menu().actions() if action.isChecked()]
        self._apply()
        self.changed.emit(self.value)

    def _apply(self) -> None:
        for action in self.menu().actions():
            action.setChecked(action.data() in self._shown)
        for section, name in enumerate(self._table.records.columns):
            self._table.setColumnHidden(section, name not in self._shown)
