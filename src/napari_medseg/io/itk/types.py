"""ITK's pixel types and the core of its messages, for reading and writing."""

from __future__ import annotations

import re
from typing import Any

import numpy as np


def pixel_type(itk: Any, dtype: np.dtype[Any], *, several: bool) -> Any:
    """The same type, or the next one that ITK's Python has and that holds every value (to 2^53)."""
    same = {"u1": itk.UC, "i2": itk.SS, "u2": itk.US, "f4": itk.F, "f8": itk.D}
    scalar_only = {"i4": itk.SI, "u4": itk.UI}
    code = f"{dtype.kind}{dtype.itemsize}"
    if code == "i1":
        return itk.SS
    return same.get(code) or (None if several else scalar_only.get(code)) or itk.D


def reason(error: RuntimeError) -> str:
    """The reason in ITK's message, without source files and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith("/") and "ITK ERROR" not in line]
    return " ".join(kept[-2:]) or re.sub(r"\(0x[0-9a-f]+\)", "", lines[-1] if lines else "unknown")
