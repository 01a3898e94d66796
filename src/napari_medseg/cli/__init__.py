"""The command line: `napari-medseg`, a thin rim over the functions that scripts use."""

from napari_medseg.cli.parser import main

__all__ = ["main"]
