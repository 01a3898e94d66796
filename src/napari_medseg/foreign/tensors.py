"""The tensors of a PyTorch file, read in a child process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from napari_medseg.errors import ModelFileError
from napari_medseg.foreign.checkpoint import check_checkpoint

if TYPE_CHECKING:
    import torch

WALL_SECONDS = 600.0
_CHILD = "napari_medseg.foreign.child"


@dataclass(frozen=True)
class Weights:
    """What was taken from a PyTorch file."""

    path: Path
    """The file, for messages."""
    tensors: Mapping[str, torch.Tensor]
    """In the order of the file."""
    facts: Mapping[str, str]
    """What else it tells: trainer_name and configuration of nnU-Net."""


def read_weights(path: Path, *, seconds: float = WALL_SECONDS) -> Weights:
    """The state dict of a .pt or .pth file: its structure is checked here, torch opens it in a limited child process.

    Raises ModelFileError for whatever is not a file of weights, or takes longer than `seconds`.
    """
    check_checkpoint(path)
    import safetensors.torch

    with TemporaryDirectory(prefix="medseg-") as scratch:
        target = Path(scratch) / "weights.safetensors"
        answer = _ask_child(path, target, seconds)
        tensors = safetensors.torch.load(target.read_bytes())
    return Weights(path, {name: tensors[name] for name in answer["names"]}, answer["facts"])


def _ask_child(path: Path, target: Path, seconds: float) -> dict[str, Any]:
    # -P: nothing is imported from the folder that the user happens to be in.
    command = [sys.executable, "-P", "-W", "ignore", "-m", _CHILD, str(path.absolute()), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise ModelFileError(f"{path}: reading it took longer than {seconds:g} s and was stopped") from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ModelFileError(
            f"{path}: the process that read it died (status {done.returncode}): corrupt, or it needs more memory than "
            f"a file of its size should"
        ) from None
    if "error" in answer:
        raise ModelFileError(f"{path}: {answer['error']}")
    return answer
