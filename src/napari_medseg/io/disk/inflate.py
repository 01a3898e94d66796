"""Inflates deflated bytes by ISA-L if it is installed (a quarter of zlib's time), else by zlib.

Both verify the checksums of gzip and zlib streams.
"""

from __future__ import annotations

import gzip
import zlib
from typing import Any

GzipFile: type[gzip.GzipFile]
ERRORS: tuple[Any, ...]
"""The errors of a damaged stream. A file that is cut short raises EOFError."""

try:
    from isal import igzip, isal_zlib
except ImportError:  # a platform without a wheel of ISA-L
    GzipFile, ERRORS = gzip.GzipFile, (gzip.BadGzipFile, zlib.error)
    _decompressobj: Any = zlib.decompressobj
else:
    GzipFile, ERRORS = igzip.IGzipFile, (gzip.BadGzipFile, zlib.error, isal_zlib.error)
    _decompressobj = isal_zlib.decompressobj

MAX_INFLATION = 1032
"""Bytes: deflate makes no more of one byte."""
_EITHER = 47
GZIP = 31
"""For `inflater`: only gzip streams."""


def inflater(wbits: int = _EITHER) -> Any:
    """A `zlib.decompressobj`; by default it finds out whether a stream is gzip or zlib."""
    return _decompressobj(wbits=wbits)
