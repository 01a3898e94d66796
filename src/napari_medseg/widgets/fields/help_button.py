"""Help, how to cite, and where to report: a small menu at the foot of each panel."""

from __future__ import annotations

import platform
from functools import partial
from importlib import metadata

from napari.utils.notifications import show_info
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QApplication, QMenu, QToolButton

from napari_medseg._version import __version__

_PACKAGE = "napari-medseg"


class HelpButton(QToolButton):
    """A button with a menu. The web addresses are those that the installed package states."""

    def __init__(self) -> None:
        super().__init__()
        self.setText("Help")
        self.setToolTip("The guide, how to cite, and what a report of a problem needs.")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        for name, address in project_urls().items():
            menu.addAction(name).triggered.connect(partial(_open, address))
        menu.addAction("How to cite").triggered.connect(partial(_copy, citation(), "the citation"))
        menu.addAction("Copy versions for a report").triggered.connect(partial(_copy, versions(), "the versions"))
        self.setMenu(menu)


def project_urls() -> dict[str, str]:
    """{what it is: web address} of the documentation, the issues ... that the package states; empty for a checkout."""
    try:
        stated = metadata.metadata(_PACKAGE).get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return {}
    return {name.strip(): address.strip() for name, _, address in (text.partition(",") for text in stated)}


def citation() -> str:
    """How to cite this version."""
    return f"The napari-medseg developers. napari-medseg, version {__version__} (BSD-3-Clause). A plugin of napari."


def versions() -> str:
    """What a report of a problem should state."""
    return (
        f"napari-medseg {__version__}, napari {metadata.version('napari')}, Python {platform.python_version()}, "
        f"{platform.platform()}"
    )


def _open(address: str, _checked: bool = False) -> None:
    QDesktopServices.openUrl(QUrl(address))


def _copy(text: str, what: str, _checked: bool = False) -> None:
    QApplication.clipboard().setText(text)
    show_info(f"{what} is in the clipboard: {text}" if what == "the citation" else f"in the clipboard: {text}")
