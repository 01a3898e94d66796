"""Loading torch without holding up other threads."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

_NAMES = {"linux": "libtorch_python.so", "darwin": "libtorch_python.dylib"}
"""{platform: the library that needs all others of torch}; on other platforms nothing is loaded beforehand."""


def preload() -> None:
    """Load torch's shared libraries before it is imported.

    An import holds the interpreter's lock while it loads a library: for 0.2 s from a warm disk, for more than a second
    from a cold one, no other thread runs. So does ctypes.CDLL. It lets the lock go while it calls a function, which
    dlopen is here. The import then finds the libraries loaded; it says itself what is missing.
    """
    spec = None if "torch" in sys.modules else importlib.util.find_spec("torch")
    name = _NAMES.get(sys.platform)
    if spec is None or spec.origin is None or name is None:
        return
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    dlopen(os.fsencode(Path(spec.origin).parent / "lib" / name), os.RTLD_NOW)
