"""The networks of a run, by OpenVINO in place of torch.

A network is converted once for each size of window, and kept in the user's cache: $MEDSEG_CACHE, else the system's
place for it. OpenVINO reads the ONNX graph itself; its own converter reports over the network, and is not used.
"""

from __future__ import annotations

import platform
import threading
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_medseg._version import __version__
from napari_medseg.errors import FileError, NotSupportedError, warn
from napari_medseg.inference.graphs.converting import Request, converted, missing
from napari_medseg.inference.graphs.network import OpenVinoNetwork, openvino_package
from napari_medseg.io.disk.cache import cache_folder
from napari_medseg.io.disk.files import replace_bytes

if TYPE_CHECKING:
    from napari_medseg.config import Precision
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.inference.predictor import Predictor
    from napari_medseg.models.file import Model

MOST_BYTES = 2 * 2**30
"""Of the graphs in the cache together: the oldest are removed for a further one."""
_FORM = 1
"""Of the graphs: raise it where `onnx_graph` writes them otherwise."""
_ONE_AT_A_TIME = threading.Lock()
"""Who waits for a conversion finds its graph in the cache."""


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
        openvino_package()  # before a conversion that would be for nothing
    except ImportError:
        raise missing("openvino") from None
    with _ONE_AT_A_TIME:
        network = _network_of(request, plan.precision)
    return replace(predictor, network=network, first=guide)


def openvino_version() -> str:
    """The version that is installed, or "none"."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return "none"


def _network_of(request: Request, precision: Precision) -> OpenVinoNetwork:
    """The network from the cache; converted and kept where it is not there."""
    path = cache_folder("graphs") / f"{_key_of(request)}.onnx"
    try:
        kept = OpenVinoNetwork(path.read_bytes(), precision)
        path.touch()
    except (OSError, RuntimeError):  # not there, or not whole
        graph = converted(request)
        _keep(path, graph)
        try:
            return OpenVinoNetwork(graph, precision)
        except RuntimeError as error:
            first_line = str(error).strip().partition("\n")[0]
            raise NotSupportedError(
                f"{request.model.path}: OpenVINO cannot run it ({first_line}): choose backend torch"
            ) from error
    return kept


def _key_of(request: Request) -> str:
    """All that decides a graph, and whether OpenVINO's answer is that of torch: the comparison is kept with it."""
    what = (request.model.sha256, request.first, request.shape, _FORM, __version__)
    on = (torch.__version__, openvino_version(), platform.machine(), torch.backends.cpu.get_cpu_capability())
    return sha256(repr((*what, *on)).encode()).hexdigest()[:32]


def _keep(path: Path, graph: bytes) -> None:
    """Write a graph into the cache, and remove the oldest of too many. Where it cannot be written the run goes on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, graph)
        held = sorted(path.parent.glob("*.onnx"), key=lambda graph: graph.stat().st_mtime, reverse=True)
        for old, so_far in zip(held, accumulate(graph.stat().st_size for graph in held), strict=True):
            if so_far > MOST_BYTES and old != path:
                old.unlink(missing_ok=True)
    except (FileError, OSError) as error:
        warn(f"{path.parent}: a converted network cannot be kept there, and is converted in each run: {error}")
