"""The state of a training on disk: a `.safetensors` file of tensors, and the rest as JSON in its metadata.

Nothing is pickled. Two files take turns: the new state is complete on the disk before it takes the name of the last,
which becomes the previous. A kill at any moment leaves one that is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from napari_medseg.errors import FileError, InputError
from napari_medseg.io.disk.files import make_folder, os_errors_as_file_errors, replace_bytes
from napari_medseg.training.saving.earlier import states_in
from napari_medseg.training.state import History

_KEY = "napari_medseg_training"
"""Under which the metadata holds the plain values."""
_TENSOR = "tensor:"
"""Before the name of a tensor, where the plain values have it in a tensor's place."""
_CHANGEABLE = frozenset({"epochs", "minutes", "device", "checkpoint_minutes", "report", "tracker", "mirror"})
"""Settings that a training may be resumed with another value of: they change how long or where it runs, and what it
leaves to read. What earlier versions have of mirroring is in the plan now."""

Settings = Mapping[str, Any]
"""What a training was asked for and what it works on, as JSON holds it."""


@dataclass(frozen=True)
class Saved:
    """A training as it was at one moment."""

    settings: Settings
    seconds: float
    """Used so far, of a budget in minutes."""
    written: str
    """SHA-256 of the model that this training wrote when it was stopped; empty where it wrote none."""
    state: Mapping[str, Any]
    """Of `TrainState.state_dict`."""
    threads: int | None = None
    """Of torch on the CPU; None where the version that saved the state did not say."""
    done: float | None = None
    """The fraction of the budget that was used; None where the version that saved the state did not say."""
    reserved: float = 0.0
    """Seconds of a budget in minutes that were kept for the last validation."""


def save(folder: Path, saved: Saved) -> None:
    """Write the state as the last one in the folder; FileError where the system refuses, and the last one stays."""
    tensors: dict[str, torch.Tensor] = {}
    history: History = saved.state["history"]
    losses = torch.tensor(history.losses, dtype=torch.float64).reshape(-1, 2)
    content = {
        **saved.state,
        "history": {"losses": losses, "validations": history.validations},
    }
    plain = {
        "settings": saved.settings,
        "seconds": saved.seconds,
        "written": saved.written,
        "threads": saved.threads,
        "done": saved.done,
        "reserved": saved.reserved,
        "state": _plain(content, "", tensors),
    }
    blob = safetensors.torch.save(tensors, metadata={_KEY: json.dumps(plain)})
    make_folder(folder)
    fresh, last, previous = states_in(folder)
    replace_bytes(fresh, blob)
    with os_errors_as_file_errors(last, fresh):
        if last.exists():
            last.replace(previous)
        fresh.replace(last)


def load(folder: Path) -> Saved | None:
    """The newest whole state in the folder; None where there is none. Raises FileError where all are damaged."""
    found = [path for path in states_in(folder) if path.exists()]
    for path in found:
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            if path == found[-1]:
                raise FileError(
                    f"{path}: the state of the training is damaged ({error}): train without resuming, or start from "
                    f"last.safetensors beside it"
                ) from error
    return None


def forget(folder: Path) -> None:
    """Remove the states of a training that is over."""
    for path in states_in(folder):
        with os_errors_as_file_errors(path, path):
            path.unlink(missing_ok=True)


def require_same(now: Settings, before: Settings) -> None:
    """Raise InputError for the first setting in which a training differs from the one that it should resume."""
    plain: Settings = json.loads(json.dumps(now))
    for name in (*plain, *before):
        if name not in _CHANGEABLE and plain.get(name) != before.get(name):
            where, had, has = _first_difference(name, before.get(name), plain.get(name))
            raise InputError(
                f"the training to resume differs in {where}: it had {_shown(had)}, now it is {_shown(has)}: give what "
                f"it had, or train without resuming"
            )


def _read(path: Path) -> Saved:
    with safetensors.safe_open(path, "pt") as file:
        content = json.loads(file.metadata()[_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    state = _restored(content["state"], tensors)
    losses = [(int(step), float(loss)) for step, loss in state["history"]["losses"].tolist()]
    history = History(losses, state["history"]["validations"])
    return Saved(
        content["settings"],
        content["seconds"],
        content["written"],
        {**state, "history": history},
        content.get("threads"),
        content.get("done"),
        content.get("reserved", 0.0),
    )


def _plain(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The value as JSON holds it. Tensors go to `tensors` by their path; mappings become lists of pairs, since their
    keys may be numbers."""
    if torch.is_tensor(value):
        tensors[path] = value.detach().cpu().contiguous()
        return f"{_TENSOR}{path}"
    if isinstance(value, Mapping):
        return {"pairs": [[key, _plain(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]
    return value


def _restored(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, str) and value.startswith(_TENSOR):
        return tensors[value.removeprefix(_TENSOR)]
    if isinstance(value, dict):
        return {key: _restored(item, tensors) for key, item in value["pairs"]}
    return [_restored(item, tensors) for item in value] if isinstance(value, list) else value


def _first_difference(name: str, one: object, other: object) -> tuple[str, object, object]:
    """(its name, value, value) of the first entry in which two tables differ; the values themselves otherwise."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in (*one, *other):
            if one.get(key) != other.get(key):
                return _first_difference(f"{name}, {key}", one.get(key), other.get(key))
    return name, one, other


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
