"""napari-medseg: segment, train and measure 3D medical volumes in napari, in scripts and on the command line.

The public names below are loaded on first use: importing the package loads no torch, no napari and no Qt.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from napari_medseg._version import __version__

if TYPE_CHECKING:
    from napari_medseg.inference import iter_segment, segment
    from napari_medseg.io import read, read_segmentation, write
    from napari_medseg.metrics import Scores, evaluate
    from napari_medseg.models.file import Model, ModelSpec, load_model
    from napari_medseg.registry import NetworkSpec, networks
    from napari_medseg.training import iter_train, train
    from napari_medseg.volume import Grid, Segmentation, Volume

_HOME = {
    "Grid": "volume",
    "Volume": "volume",
    "Segmentation": "volume",
    "NetworkSpec": "registry",
    "networks": "registry",
    "Model": "models.file",
    "ModelSpec": "models.file",
    "load_model": "models.file",
    "read": "io",
    "read_segmentation": "io",
    "write": "io",
    "segment": "inference",
    "iter_segment": "inference",
    "train": "training",
    "iter_train": "training",
    "evaluate": "metrics",
    "Scores": "metrics",
}

__all__ = [
    "Grid",
    "Model",
    "ModelSpec",
    "NetworkSpec",
    "Scores",
    "Segmentation",
    "Volume",
    "__version__",
    "evaluate",
    "iter_segment",
    "iter_train",
    "load_model",
    "networks",
    "read",
    "read_segmentation",
    "segment",
    "train",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
