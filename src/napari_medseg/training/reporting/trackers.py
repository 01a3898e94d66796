"""TensorBoard and MLflow: where others watch a training. Both come with the extra `tracking`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from napari_medseg.config import Tracker
from napari_medseg.errors import InputError


class Tracking(Protocol):
    """Where the numbers of a training go."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers of a step, by name."""

    def close(self) -> None:
        """The training is over."""


_MODULES: Mapping[Tracker, str] = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow"}


def require_tracker(kind: Tracker) -> None:
    """Raise InputError for a tracker whose package is not installed: now rather than once all cases are read."""
    if kind != "none":
        _imported(kind)


def tracking_of(kind: Tracker, name: str, folder: Path) -> Tracking | None:
    """What tracks a training under that name. folder: where TensorBoard's files go; MLflow goes where it is set up to.

    Raises InputError where the package is not installed.
    """
    if kind == "none":
        return None
    return TensorBoard(folder / "tensorboard") if kind == "tensorboard" else MLflow(name)


class TensorBoard:
    """Files that TensorBoard shows."""

    def __init__(self, folder: Path) -> None:
        self._writer: Any = _imported("tensorboard").SummaryWriter(str(folder))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A run of MLflow, in the experiment and at the server that its environment variables name."""

    def __init__(self, name: str) -> None:
        self._mlflow: Any = _imported("mlflow")
        self._mlflow.start_run(run_name=name)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(numbers), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


def _imported(kind: Tracker) -> ModuleType:
    try:
        return importlib.import_module(_MODULES[kind])
    except ImportError as error:
        raise InputError(f"{kind} is not installed: pip install napari-medseg[tracking]") from error
