"""Networks that OpenVINO runs in place of torch, on the CPU: the extra `openvino`.

A network is converted once for each size of window, and kept in the user's cache: $MEDSEG_CACHE, else the system's
place for it. OpenVINO reads the ONNX graph itself: its own converter, which reports over the network, is not used.
"""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_medseg._version import __version__
from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.architectures.onnx_graph import onnx_graph
from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.io.disk.files import replace_bytes

if TYPE_CHECKING:
    from napari_medseg.config import Precision
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.inference.predictor import Predictor
    from napari_medseg.models.file import Model

KEPT = 8
"""Graphs in the cache: the oldest is removed for a further one."""
AGREES = 1e-3
"""Largest difference of the logits on noise from torch's, as a share of their largest."""


def graphs_folder() -> Path:
    """Where converted networks lie: $MEDSEG_CACHE, else the user's cache. May not exist."""
    import platformdirs

    named = os.environ.get("MEDSEG_CACHE")
    return (Path(named) if named else platformdirs.user_cache_path("napari-medseg")) / "graphs"


class OpenVinoNetwork(nn.Module):
    """A network for windows of one shape (1, C, z, y, x), in fp32 or bf16; windows run one after the other."""

    def __init__(self, graph: bytes, precision: Precision) -> None:
        """Raises ImportError without OpenVINO, RuntimeError for bytes that are no graph."""
        super().__init__()
        import openvino

        core = openvino.Core()
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "SNIPPETS_MODE": "DISABLE",  # with them the logits of UNETR are off by 2 % (OpenVINO 2026.4)
        }
        self._request: Any = core.compile_model(core.read_model(graph), "CPU", hints).create_infer_request()

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, C, z, y, x) -> (B, K, z, y, x)."""
        return torch.cat([self._one(window[None]) for window in windows])

    def _one(self, window: torch.Tensor) -> torch.Tensor:
        self._request.infer({0: window.contiguous().numpy()}, share_inputs=True)
        return torch.from_numpy(self._request.get_output_tensor(0).data.copy())


def with_openvino(predictor: Predictor, model: Model, plan: InferencePlan, stage: str = "") -> Predictor:
    """The predictor, with the networks of both stages run by OpenVINO.

    stage: "first" for the first stage of a cascade. Raises NotSupportedError where OpenVINO is not installed, or where
    a network cannot be converted.
    """
    first = predictor.first
    if first is not None and plan.first is not None:
        first = with_openvino(first, model, plan.first, "first")
    z, y, x = plan.windows.window
    shape = (1, plan.inputs, z + 2 * plan.halo, y, x)
    try:
        network = _graph_of(predictor.network, f"{model.sha256} {stage}", shape, plan.precision)
    except ImportError as error:
        raise NotSupportedError(
            f"backend openvino needs a package that is not here ({error.name}): install napari-medseg[openvino], or "
            "choose backend torch"
        ) from None
    return replace(predictor, network=network, first=first)


def _graph_of(network: nn.Module, name: str, shape: tuple[int, ...], precision: Precision) -> OpenVinoNetwork:
    """The network from the cache; converted, compared with torch's and kept where it is not there."""
    key = f"{name} {shape} {torch.__version__} {__version__}"
    path = graphs_folder() / f"{sha256(key.encode()).hexdigest()[:32]}.onnx"
    try:
        kept = OpenVinoNetwork(path.read_bytes(), precision)
    except (OSError, RuntimeError):  # not there, or not whole
        pass
    else:
        path.touch()
        return kept
    graph = onnx_graph(network, shape, careful_sums=True)
    _require_agreement(network, graph, shape)
    _keep(path, graph)
    return OpenVinoNetwork(graph, precision)


def _require_agreement(network: nn.Module, graph: bytes, shape: tuple[int, ...]) -> None:
    """Raise NotSupportedError where OpenVINO's logits on noise are not those of torch."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = logits_of(network(noise)).float()
    found = OpenVinoNetwork(graph, "fp32")(noise)
    off = float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-6)
    if not off <= AGREES:
        raise NotSupportedError(
            f"OpenVINO's logits of {type(network).__name__} are off by {off:.2g} of their largest: choose backend torch"
        )


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
