"""The command line: `napari-medseg`, a thin rim over the functions that scripts use."""

from napari_medseg.cli.main import main

__all__ = ["main"]
