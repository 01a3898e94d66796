"""Loading torch without holding up other threads."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from contextlib import suppress
from pathlib import Path

_NAMES = {"linux": "libtorch_python.so", "darwin": "libtorch_python.dylib"}
"""{platform: the library that needs all others of torch}; on other platforms nothing is loaded beforehand."""


def preload() -> None:
    """Load torch's shared libraries before it is imported.

    An import holds the interpreter's lock while a library is loaded, for more than a second from a cold disk: no other
    thread runs. ctypes lets the lock go. The import then finds the libraries loaded.
    """
    spec = None if "torch" in sys.modules else importlib.util.find_spec("torch")
    name = _NAMES.get(sys.platform)
    if spec is None or spec.origin is None or name is None:
        return
    with suppress(OSError):  # the import itself says what is missing
        ctypes.CDLL(str(Path(spec.origin).parent / "lib" / name))
