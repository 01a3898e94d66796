"""What a training leaves on disk: its best and last checkpoint (model files), its history, and the model at the end."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from napari_medseg.errors import FileError
from napari_medseg.io.disk.files import check_no_file, check_no_folder, make_folder, replace_bytes
from napari_medseg.models.file import SUFFIX, Model, load_model, require_model_name, write_model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.previous import stepping_aside
from napari_medseg.training.validate import mean_of


def require_writable(out: str | Path) -> Path:
    """The path of the model to write; InputError or FileError now rather than after hours of training."""
    path = Path(out)
    require_model_name(path)
    if not path.parent.is_dir():
        raise FileError(f"{path.parent} is not a folder: make it first, or choose another place for the model")
    check_no_folder(path)
    check_no_file(folder_of(path))
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"{path} cannot be written: choose another place for the model")
    return path


def folder_of(out: Path) -> Path:
    """Where the checkpoints of the training of that model lie."""
    return out.with_suffix(".training")


def write_result(out: Path, spec: ModelSpec, weights: Mapping[str, torch.Tensor]) -> Model:
    """Write what a training has made; a model that was there is kept as NAME.previous.safetensors."""
    with stepping_aside(out):
        return write_model(out, spec, weights)


class Checkpoints:
    """The files of one training: OUT, and beside it the folder OUT's-name.training."""

    def __init__(self, out: Path, weights: Callable[[], Mapping[str, torch.Tensor]]) -> None:
        self._out = out
        self._weights = weights
        self._folder = folder_of(out)
        self._losses: list[tuple[int, float]] = []
        self._validations: list[dict[str, object]] = []
        self.best_dice: dict[int, float] = {}
        self.model: Model | None = None

    @property
    def last_path(self) -> Path:
        return self._folder / f"last{SUFFIX}"

    @property
    def best_path(self) -> Path:
        return self._folder / f"best{SUFFIX}"

    def note_step(self, step: int, loss: float) -> None:
        """Remember a step's loss for the history."""
        self._losses.append((step, loss))

    def write_last(self, spec: ModelSpec) -> None:
        """Write the last checkpoint."""
        make_folder(self._folder)
        write_model(self.last_path, spec, self._weights())

    def note_validation(self, step: int, dice: dict[int, float], spec: ModelSpec) -> bool:
        """Write the last checkpoint, and the best where this is it; returns whether it is."""
        self._validations.append({"step": step, "time": time.time(), "dice": {str(k): v for k, v in dice.items()}})
        self.write_last(spec)
        is_best = not self.best_dice or mean_of(dice) > mean_of(self.best_dice)
        if is_best:
            self.best_dice = dict(dice)
            write_model(self.best_path, spec, self._weights())
        self._write_history(spec)
        return is_best

    def load_best(self, network: nn.Module) -> None:
        """Put the best checkpoint's weights into the network."""
        network.load_state_dict(load_model(self.best_path).load_network().state_dict())

    def finish(self, spec: ModelSpec) -> None:
        """Write the model with the weights as they are now."""
        make_folder(self._folder)
        self._write_history(spec)
        self.model = write_result(self._out, spec, self._weights())

    def finish_early(self, spec: ModelSpec) -> None:
        """End without another validation: the best checkpoint where there is one, else the weights as they are."""
        if not self._losses:
            return
        self.write_last(spec)
        if self.best_dice:
            best = load_model(self.best_path)
            self._write_history(best.spec)
            self.model = write_result(self._out, best.spec, {**self._weights(), **best.load_network().state_dict()})
        else:
            self.finish(spec)

    def _write_history(self, spec: ModelSpec) -> None:
        # JSON has no NaN: a step without a finite loss is null.
        losses = [[step, loss if math.isfinite(loss) else None] for step, loss in self._losses]
        content = {"model": json.loads(spec.to_json()), "losses": losses, "validations": self._validations}
        replace_bytes(self._folder / "history.json", json.dumps(content, allow_nan=False).encode())
