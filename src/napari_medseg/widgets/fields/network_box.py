"""The drop-down of networks, by family, with a sentence on when to use the chosen one."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_medseg import registry
from napari_medseg.registry import NetworkSpec
from napari_medseg.widgets.fields.forms import Advice, add_heading, choice, choose


class NetworkBox(QWidget):
    """The networks that can be trained, by family; below, when to use the chosen one."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.box = choice({}, "The architecture. The tooltip of each name says what it is and where it was published.")
        self.box.setMaxVisibleItems(24)
        self.advice = Advice()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.box)
        layout.addWidget(self.advice)
        self.setToolTip(self.box.toolTip())
        specs = [spec for spec in registry.networks().values() if spec.takes == "image"]
        for family in registry.FAMILIES:
            _add_family(self.box, family, [spec for spec in specs if spec.family == family])
        self.box.currentIndexChanged.connect(self._show_advice)
        choose(self.box, "unet3d")
        self._show_advice()

    @property
    def name(self) -> str:
        """The registry's name of the chosen network."""
        return str(self.box.currentData())

    def _show_advice(self) -> None:
        spec = registry.network(self.name)
        self.advice.setText(f"{spec.when} {' and '.join(f'{d}D' for d in spec.dims)}, {spec.year}.")
        self.changed.emit()


def _add_family(box: QComboBox, family: str, specs: list[NetworkSpec]) -> None:
    """A heading that cannot be chosen, and the networks under it."""
    if not specs:
        return
    add_heading(box, family)
    for spec in sorted(specs, key=lambda s: s.name):
        box.addItem(f"  {spec.name}", spec.name)
        box.setItemData(box.count() - 1, f"{spec.summary}\n{spec.reference}", Qt.ItemDataRole.ToolTipRole)
