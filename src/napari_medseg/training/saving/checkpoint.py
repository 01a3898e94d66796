"""What a training leaves on disk: its state, its best and last checkpoint (model files), its history, and the model."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from napari_medseg.errors import FileError
from napari_medseg.io.disk.files import check_no_file, check_no_folder, make_folder, replace_bytes
from napari_medseg.io.disk.keeping import stepping_aside
from napari_medseg.models.adapters import adapter_of, adapter_path, changed_by, write_adapter
from napari_medseg.models.file import Model, load_model, write_model
from napari_medseg.models.naming import SUFFIX, require_model_path
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.budget import Budget
from napari_medseg.training.saving import saved
from napari_medseg.training.saving.earlier import folder_of, last_checkpoint
from napari_medseg.training.saving.saved import Saved, Settings
from napari_medseg.training.state import History, TrainState

_HISTORY = "history.json"

Weights = Mapping[str, torch.Tensor]


def require_writable(out: str | Path) -> Path:
    """The path of the model to write; InputError or FileError now rather than after hours of training."""
    path = Path(out)
    require_model_path(path)
    if not path.parent.is_dir():
        raise FileError(f"{path.parent} is not a folder: make it first, or choose another place for the model")
    check_no_folder(path)
    check_no_file(folder_of(path))
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"{path} cannot be written: choose another place for the model")
    return path


def write_result(out: Path, spec: ModelSpec, weights: Weights) -> Model:
    """Write the model that a training has made; an older one is kept as NAME.previous.safetensors."""
    with stepping_aside(out):
        return write_model(out, spec, weights)


@dataclass(frozen=True)
class Checkpoints:
    """The files of one training: `out`, and the folder with its name and the suffix .training beside it."""

    out: Path
    settings: Settings = field(default_factory=dict)
    """What the training was asked for: it is resumed with the same."""

    @property
    def folder(self) -> Path:
        return folder_of(self.out)

    @property
    def last_path(self) -> Path:
        return last_checkpoint(self.out)

    @property
    def best_path(self) -> Path:
        return folder_of(self.out) / f"best{SUFFIX}"

    def write_last(self, spec: ModelSpec, weights: Weights) -> None:
        """Write the weights as they are now."""
        make_folder(folder_of(self.out))
        write_model(self.last_path, spec, weights)

    def write_best(self, spec: ModelSpec, weights: Weights) -> None:
        """Write the weights that validated best so far."""
        write_model(self.best_path, spec, weights)

    def save(self, state: TrainState, budget: Budget) -> None:
        """Write the state, from which the training can be resumed. budget: as much of it as is used."""
        threads, seconds, done = torch.get_num_threads(), budget.elapsed(), budget.fraction(state.step)
        content = Saved(self.settings, seconds, state.written, state.state_dict(), threads, done, budget.reserved)
        saved.save(self.folder, content)

    def require_same(self, found: Saved) -> None:
        """Raise InputError where a state is that of another training."""
        saved.require_same(self.settings, found.settings)

    def write_model(self, spec: ModelSpec, weights: Weights, written: str = "") -> Model:
        """Write the model `out`. An older one is kept under another name, unless `written` is its SHA-256."""
        if written and self.out.exists() and load_model(self.out).sha256 == written:
            return write_model(self.out, spec, weights)
        return write_result(self.out, spec, weights)

    def write_best_adapter(self, base: Model, spec: ModelSpec, network: nn.Module) -> None:
        """Write the adapters that validated best so far."""
        write_adapter(adapter_path(self.best_path), base, spec, adapter_of(network))

    def write_adapter(self, base: Model, spec: ModelSpec, network: nn.Module, *, best: bool) -> None:
        """Write the adapters of the model beside it: the best ones so far, or those of the network."""
        if best:
            replace_bytes(adapter_path(self.out), adapter_path(self.best_path).read_bytes())
        else:
            write_adapter(adapter_path(self.out), base, spec, adapter_of(network))

    def load_best(self) -> Model:
        """The model that validated best."""
        return load_model(self.best_path)

    def best_weights(self, *, adapted: bool) -> Weights:
        """The weights that validated best. adapted: those alone that a training with adapters changes."""
        if adapted:
            return changed_by(adapter_path(self.best_path))
        return self.load_best().load_network().state_dict()

    def finish(self, model: Model, history: History) -> None:
        """The training is over: say so in its history. Its state is not needed any more."""
        self.write_history(model.spec, history, model.sha256)
        saved.forget(self.folder)

    def finished(self) -> Model | None:
        """The model of a training that is over; None where none is, or its model is not at its place any more."""
        history = self.folder / _HISTORY
        if not self.out.exists() or not history.exists():
            return None
        model = load_model(self.out)
        return model if json.loads(history.read_bytes()).get("finished") == model.sha256 else None

    def write_history(self, spec: ModelSpec, history: History, finished: str = "") -> None:
        """Write history.json: the plan, the loss of every step, every validation.

        finished: the SHA-256 of the model, where the training is over.
        """
        # JSON has no NaN: a step without a finite loss is null.
        losses = [[step, loss if math.isfinite(loss) else None] for step, loss in history.losses]
        content = {"model": json.loads(spec.to_json()), "losses": losses, "validations": history.validations}
        content |= {"finished": finished} if finished else {}
        make_folder(folder_of(self.out))
        replace_bytes(self.folder / _HISTORY, json.dumps(content, allow_nan=False).encode())
