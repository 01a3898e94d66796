"""Deflated bytes, inflated by ISA-L where it is installed (a quarter of zlib's time), else by zlib; both check the
checksums of gzip and zlib streams.
"""

from __future__ import annotations

import gzip
import zlib
from typing import Any

GzipFile: type[gzip.GzipFile]
ERRORS: tuple[Any, ...]
"""What a damaged stream raises; one that is cut raises EOFError from a file."""

try:
    from isal import igzip, isal_zlib
except ImportError:  # a platform that it has no wheel for
    GzipFile, ERRORS = gzip.GzipFile, (gzip.BadGzipFile, zlib.error)
    _decompressobj: Any = zlib.decompressobj
else:
    GzipFile, ERRORS = igzip.IGzipFile, (gzip.BadGzipFile, zlib.error, isal_zlib.error)
    _decompressobj = isal_zlib.decompressobj

MAX_INFLATION = 1032
"""Deflate cannot make more than this of one byte."""
_EITHER = 47


def inflater(wbits: int = _EITHER) -> Any:
    """A `zlib.decompressobj`, by default for gzip and zlib streams, whichever it is given first."""
    return _decompressobj(wbits=wbits)
