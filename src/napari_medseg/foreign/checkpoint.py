"""Checks a PyTorch file without torch and without unpickling: which classes it names, whether its sizes are possible.

A file of torch.save (since 1.6) is a zip archive: ROOT/data.pkl, a pickle that describes the tensors, and ROOT/data/N,
their bytes. The pickle's instructions are listed, never followed.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_medseg.errors import ModelFileError
from napari_medseg.foreign.archive import DAMAGE, checked_members
from napari_medseg.io.disk.files import check_regular

MAX_PICKLE_BYTES = 16 * 2**20
_PICKLE, _DATA = "data.pkl", "/data/"
_STORAGES = frozenset(
    f"torch {kind}Storage"
    for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "Untyped")
)
_REBUILD = frozenset(f"torch._utils {name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"))
NUMPY_SCALARS = frozenset({"numpy.core.multiarray scalar", "numpy._core.multiarray scalar"})
NUMPY_TYPES = frozenset(
    {"numpy dtype", *(f"numpy.dtypes {kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32", "Bool"))}
)
NUMPY_ARRAYS = frozenset({"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct", "numpy ndarray"})
_ALLOWED = (
    _STORAGES
    | NUMPY_ARRAYS
    | _REBUILD
    | NUMPY_SCALARS
    | NUMPY_TYPES
    | {"collections OrderedDict", "torch Size", "torch device", "_codecs encode", "torch.serialization _get_layout"}
)
_INDIRECT = frozenset({"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"})
"""Instructions that name code in other ways than GLOBAL; torch.save does not write them."""
_NUMBERS = frozenset({"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4"})


def check_checkpoint(path: Path) -> None:
    """Raise ModelFileError unless torch.save wrote the file and it holds only weights and plain values."""
    check_regular(path)
    if not zipfile.is_zipfile(path):
        raise ModelFileError(f"{path}: {_what_else(path)}")
    members = checked_members(path)
    pickles = [name for name in members if name.endswith(f"/{_PICKLE}") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ModelFileError(f"{path}: a zip archive without the one data.pkl that a PyTorch file has")
    if any("/code/" in name for name in members):
        raise ModelFileError(f"{path}: a TorchScript file, which is code: only weights (a state dict) are taken")
    if members[pickles[0]].file_size > MAX_PICKLE_BYTES:
        raise ModelFileError(f"{path}: its data.pkl has an unlikely size of {members[pickles[0]].file_size} bytes")
    largest = max((entry.file_size for name, entry in members.items() if _DATA in name), default=0)
    with zipfile.ZipFile(path) as archive:
        _check_pickle(path, _opcodes(path, archive, members[pickles[0]]), largest)


def is_checkpoint(path: Path) -> bool:
    """Whether a zip archive has the layout of a PyTorch file."""
    return any(name.endswith(f"/{_PICKLE}") for name in checked_members(path))


def _what_else(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(b"PK"):
        return "a corrupt or truncated zip archive: a PyTorch file that was not completely written or copied"
    if start.startswith(b"\x80"):
        return (
            "a bare Python pickle, which is unsafe to open because opening it can run code: only files of "
            "torch.save in its zip format (PyTorch >= 1.6) are taken"
        )
    return "not a PyTorch file, which is a zip archive; corrupt, or another format"


def _opcodes(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[tuple[str, Any]]:
    """(name, argument) of the instructions of a pickle; no instruction is executed."""
    try:
        for opcode, argument, _ in pickletools.genops(archive.read(entry)):
            yield opcode.name, argument
    except DAMAGE as error:
        raise ModelFileError(f"{path}: its data.pkl is corrupt: {str(error)[:120]}") from None


def _check_pickle(path: Path, opcodes: Iterator[tuple[str, Any]], largest_bytes: int) -> None:
    number = 0
    for name, argument in opcodes:
        if name == "GLOBAL" and argument not in _ALLOWED:
            raise ModelFileError(
                f"{path}: unsafe: its pickle names {str(argument)[:80].replace(' ', '.')!a}, which is not allowed: "
                f"only weights and plain values are taken (torch.save(network.state_dict(), ...))"
            )
        if name in _INDIRECT:
            raise ModelFileError(f"{path}: unsafe: its pickle uses {name}, which is not allowed in a file of weights")
        if name in _NUMBERS:
            number = argument
        if name == "BINPERSID" and not 0 <= number <= largest_bytes:
            raise ModelFileError(
                f"{path}: corrupt: it claims a storage of {number} elements, but its largest has a size of "
                f"{largest_bytes} bytes"
            )
