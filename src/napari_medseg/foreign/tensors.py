"""The tensors of a PyTorch file, read in a child process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.errors import FileError, ModelFileError
from napari_medseg.foreign.checkpoint import check_checkpoint
from napari_medseg.io.sandbox.parent import Limits, ask

if TYPE_CHECKING:
    import torch

SECONDS = 600.0
_PARSER = "napari_medseg.foreign.torch_parser"


@dataclass(frozen=True)
class Weights:
    """The contents of a PyTorch file that are taken."""

    path: Path
    """The file, for messages."""
    tensors: Mapping[str, torch.Tensor]
    """In the order of the file."""
    facts: Mapping[str, str]
    """What else the file says: trainer_name, configuration and mirror_axes ("012") of nnU-Net."""


def read_weights(path: Path, *, seconds: float = SECONDS) -> Weights:
    """The state dict of a .pt or .pth file: its structure is checked here, torch opens it in a limited child process.

    Raises ModelFileError for a file that holds no weights or takes longer than `seconds`.
    """
    tensors, told = _read(path, seconds, tables=False)
    return Weights(path, tensors, told)


def read_tables(path: Path, *, seconds: float = SECONDS) -> Mapping[str, torch.Tensor]:
    """The tensors and arrays of numbers in a .pt file by name, whatever else it holds. Raises as `read_weights`."""
    return _read(path, seconds, tables=True)[0]


def _read(path: Path, seconds: float, *, tables: bool) -> tuple[Mapping[str, torch.Tensor], Mapping[str, str]]:
    check_checkpoint(path)
    import safetensors.torch

    size = path.stat().st_size
    # The child holds the file, a copy of it, the bytes to send, and once more for tensors that share their storage.
    limits = Limits(memory_bytes=(512 << 20) + 6 * size, seconds=seconds, reply_bytes=(16 << 20) + 2 * size)
    try:
        reply = ask(_PARSER, str(path), {"path": str(path.absolute()), "tables": tables}, limits)
    except FileError as error:
        raise ModelFileError(str(error)) from None
    (blob,) = reply.arrays
    tensors = safetensors.torch.load(blob.tobytes())
    return {name: tensors[sent] for name, sent in reply.facts["names"].items()}, reply.facts["told"]
