"""torch's libraries are loaded while other threads run."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import sys
from napari_medseg.inference.torch_library import preload
preload()
assert "torch" not in sys.modules
maps = open("/proc/self/maps").read()
assert "libtorch_python.so" in maps
import torch
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has loaded is read from /proc")
def test_libraries_are_loaded_before_the_import() -> None:
    subprocess.run([sys.executable, "-c", _CODE], check=True)
