"""What a fresh interpreter loads: the light commands and the package itself load nothing heavy."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import napari_medseg

HEAVY = (
    "torch",
    "monai",
    "napari",
    "qtpy",
    "PyQt6",
    "magicgui",
    "itk",
    "dask",
    "pandas",
    "scipy",
    "matplotlib",
    "numba",
)
LIGHT = {
    "package": "import napari_medseg",
    "nouns": "from napari_medseg import Grid, Volume, Segmentation, networks; networks()",
    "prompts": "from napari_medseg import Point; Point((0, 0, 0), label=1)",
    "version": "from napari_medseg.cli import main; exit_with(main, ['--version'])",
    "help": "from napari_medseg.cli import main; exit_with(main, ['segment', '--help'])",
    "networks": "from napari_medseg.cli import main; assert main(['networks']) == 0",
    "networks_json": "from napari_medseg.cli import main; assert main(['networks', '--json']) == 0",
    "model_file": "from napari_medseg import load_model",
}
PREPARE = """
import sys
def exit_with(main, argv):
    try:
        main(argv)
    except SystemExit as leave:
        assert leave.code == 0
"""


@pytest.mark.parametrize("statement", LIGHT.values(), ids=LIGHT.keys())
def test_nothing_heavy_is_loaded_for(statement: str) -> None:
    report = f"sys.stderr.write(' '.join(m for m in {HEAVY} if m in sys.modules))"
    code = f"{PREPARE}\n{statement}\n{report}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_every_public_name_is_there() -> None:
    for name in napari_medseg.__all__:
        assert getattr(napari_medseg, name) is not None
    assert set(dir(napari_medseg)) == set(napari_medseg.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="No napari_medseg attribute segmentt"):
        importlib.import_module("napari_medseg").__getattr__("segmentt")
