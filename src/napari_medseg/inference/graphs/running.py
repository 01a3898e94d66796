"""The networks of a run, by OpenVINO in place of torch.

A network is converted once for each size of window, and kept in the user's cache: $MEDSEG_CACHE, else the system's
place for it. OpenVINO reads the ONNX graph itself: its own converter, which reports over the network, is not used.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_medseg._version import __version__
from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.inference.graphs.converting import Request, converted
from napari_medseg.inference.graphs.network import OpenVinoNetwork
from napari_medseg.io.disk.files import replace_bytes

if TYPE_CHECKING:
    from napari_medseg.config import Precision
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.inference.predictor import Predictor
    from napari_medseg.models.file import Model

KEPT = 8
"""Graphs in the cache: the oldest is removed for a further one."""
_ONE_AT_A_TIME = threading.Lock()
"""Who waits for a conversion finds its graph in the cache."""


def graphs_folder() -> Path:
    """Where converted networks lie: $MEDSEG_CACHE, else the user's cache. May not exist."""
    import platformdirs

    named = os.environ.get("MEDSEG_CACHE")
    return (Path(named) if named else platformdirs.user_cache_path("napari-medseg")) / "graphs"


def with_openvino(predictor: Predictor, model: Model, plan: InferencePlan, *, first: bool = False) -> Predictor:
    """The predictor, with the networks of both stages run by OpenVINO.

    first: whether it is that of a cascade's first stage. Raises NotSupportedError where OpenVINO is not installed, or
    where a network cannot be converted.
    """
    guide = predictor.first
    if guide is not None and plan.first is not None:
        guide = with_openvino(guide, model, plan.first, first=True)
    z, y, x = plan.windows.window
    request = Request(model, first, (1, plan.inputs, z + 2 * plan.halo, y, x))
    try:
        import openvino  # noqa: F401  # before a conversion that would be for nothing
    except ImportError:
        raise NotSupportedError(
            "backend openvino needs the package openvino: install napari-medseg[openvino], or choose backend torch"
        ) from None
    with _ONE_AT_A_TIME:
        network = _network_of(request, plan.precision)
    return replace(predictor, network=network, first=guide)


def _network_of(request: Request, precision: Precision) -> OpenVinoNetwork:
    """The network from the cache; converted and kept where it is not there."""
    key = f"{request.model.sha256} {request.first} {request.shape} {torch.__version__} {__version__}"
    path = graphs_folder() / f"{sha256(key.encode()).hexdigest()[:32]}.onnx"
    try:
        kept = OpenVinoNetwork(path.read_bytes(), precision)
        path.touch()
    except (OSError, RuntimeError):  # not there, or not whole
        graph = converted(request)
        _keep(path, graph)
        return OpenVinoNetwork(graph, precision)
    return kept


def _keep(path: Path, graph: bytes) -> None:
    """Write a graph into the cache, and remove the oldest beyond `KEPT`; on a full disk the run goes on without."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, graph)
        held = sorted(path.parent.glob("*.onnx"), key=lambda graph: graph.stat().st_mtime, reverse=True)
        for old in held[KEPT:]:
            old.unlink(missing_ok=True)
    except (FileError, OSError):
        return
