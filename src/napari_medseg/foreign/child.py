"""The child process that opens a PyTorch file: limits first, then torch.load(weights_only=True), tensors out.

    python -P -m napari_medseg.foreign.child SOURCE TARGET.safetensors

Prints one JSON object: {"names": [...], in the order of the file, "facts": {...}} or {"error": "..."}.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from napari_medseg.foreign.checkpoint import NUMPY_SCALARS, NUMPY_TYPES

CPU_SECONDS = 300
SPARE_BYTES = 512 * 2**20
#: where training programs keep the weights beside other things
STATE_KEYS = ("network_weights", "state_dict", "model_state_dict", "model", "net", "network")
_FACTS = ("trainer_name", "configuration")


def main(source: str, target: str) -> int:
    """Read `source`, write its tensors to `target`, print what else is told; exit status 0 unless it dies."""
    try:
        limit(Path(source).stat().st_size)
        content = _load(source)
        tensors = state_of(content)
        _save(tensors, target)
        answer: dict[str, object] = {"names": list(tensors), "facts": _facts(content)}
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, EOFError) as error:
        answer = {"error": _line(error)}
    except MemoryError:
        answer = {"error": "it needs more memory than a file of its size should"}
    sys.stdout.write(json.dumps(answer))
    return 0


def limit(file_bytes: int) -> None:
    """Bound this process from now on, where the system can: memory and CPU time by the size of the file."""
    try:
        import resource
    except ImportError:  # Windows: the parent's time limit is all there is
        return
    memory = _data_bytes() + SPARE_BYTES + 4 * file_bytes
    for kind, amount in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, SPARE_BYTES + 4 * file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _data_bytes() -> int:
    """What RLIMIT_DATA counts of this process so far: on Linux its private memory, that of CUDA's libraries too."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 2**34)


class NumpyType:
    """Stands for numpy.dtype in a pickle: remembers the letter code, allocates nothing."""

    def __init__(self, code: str = "f8", *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and the like, which plain numbers do not need."""


def number(kind: NumpyType, raw: bytes) -> float | int | bool:
    """Stands for numpy's scalar: the number of little-endian bytes; ValueError for any but plain kinds."""
    import numpy as np

    if kind.code not in ("f8", "f4", "i8", "i4", "b1"):
        raise ValueError(f"a numpy scalar of type {kind.code[:20]!a} is unsupported")
    value: float | int | bool = np.frombuffer(raw, dtype=np.dtype(f"<{kind.code}"), count=1)[0].item()
    return value


def _load(source: str) -> Any:
    stand_ins: list[Any] = [(number, name.replace(" ", ".")) for name in sorted(NUMPY_SCALARS)]
    stand_ins += [(NumpyType, name.replace(" ", ".")) for name in sorted(NUMPY_TYPES)]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(source, map_location="cpu", weights_only=True)


def state_of(content: Any) -> dict[str, torch.Tensor]:
    """The state dict in a loaded file: the file itself, or what it keeps under one of the usual keys."""
    for candidate in (content, *(content.get(key) for key in STATE_KEYS if isinstance(content, Mapping))):
        if isinstance(candidate, Mapping) and candidate and _all_tensors(candidate):
            return {str(name): tensor for name, tensor in candidate.items()}
    raise ValueError(
        f"no weights found: expected a state dict, or one under {', '.join(STATE_KEYS)}; convert takes weights only"
    )


def _all_tensors(table: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in table.items())


def _save(tensors: dict[str, torch.Tensor], target: str) -> None:
    import safetensors.torch

    # Tied tensors, which a safetensors file cannot hold, become copies.
    safetensors.torch.save_file(
        {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}, target
    )


def _facts(content: Any) -> dict[str, str]:
    if not isinstance(content, Mapping):
        return {}
    told = {**dict(content.get("init_args") or {}), **content}
    return {key: told[key][:200] for key in _FACTS if isinstance(told.get(key), str)}


def _line(error: Exception) -> str:
    """The first line of torch's message; its advice, to switch the check off, is not passed on."""
    text = " ".join(str(error).split("\n\n")[0].split()) if isinstance(error, ValueError) else ""
    return (
        text[:300] or f"PyTorch does not read it as a file of weights ({type(error).__name__}): corrupt or unsupported"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
