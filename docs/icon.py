"""Draw the icon as pixels: `QT_QPA_PLATFORM=offscreen python docs/icon.py` writes icon.png beside icon.svg.

napari's manifest takes a square PNG. The drawing is src/napari_medseg/icon.svg, which is made by hand.
"""

from __future__ import annotations

from pathlib import Path

from qtpy.QtGui import QImage, QPainter
from qtpy.QtSvg import QSvgRenderer
from qtpy.QtWidgets import QApplication

ICON = Path(__file__).resolve().parents[1] / "src" / "napari_medseg" / "icon.svg"
SIDE = 256
"""Pixels along an edge."""


def main() -> None:
    app = QApplication.instance() or QApplication([])
    image = QImage(SIDE, SIDE, QImage.Format.Format_ARGB32)
    image.fill(0)
    painter = QPainter(image)
    QSvgRenderer(str(ICON)).render(painter)
    painter.end()
    image.save(str(ICON.with_suffix(".png")))
    del app


if __name__ == "__main__":
    main()
