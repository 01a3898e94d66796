"""A network that OpenVINO runs on the CPU."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from napari_medseg.config import Precision

_TELEMETRY = "openvino_telemetry"


def openvino_package() -> Any:
    """The package openvino; ImportError where it is not installed.

    Each import of it reports to a server, in a process of its own, where its package for that is found. Here it is not
    found meanwhile, and OpenVINO does without for as long as this process runs.
    """
    if sys.modules.get("openvino") is None:
        held = sys.modules.get(_TELEMETRY)
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # so that an import of it fails
        try:
            import openvino  # noqa: F401
        finally:
            if held is None:
                del sys.modules[_TELEMETRY]
            else:
                sys.modules[_TELEMETRY] = held
    return sys.modules["openvino"]


class OpenVinoNetwork(nn.Module):
    """A network for windows of one shape (1, C, z, y, x), in fp32 or bf16; windows run one after the other."""

    def __init__(self, graph: bytes, precision: Precision) -> None:
        """Raises ImportError without OpenVINO, RuntimeError for bytes that are no graph."""
        super().__init__()
        core = openvino_package().Core()
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # several processes would be bound to the same cores
            "SNIPPETS_MODE": "DISABLE",  # with them the logits of UNETR are off by 2 % (OpenVINO 2026.4)
        }
        self._request: Any = core.compile_model(core.read_model(graph), "CPU", hints).create_infer_request()
        self._turn = threading.Lock()
        """A request holds the arrays of one run: threads that share the network take turns."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, C, z, y, x) -> (B, K, z, y, x)."""
        return torch.cat([self._one(window[None]) for window in windows])

    def _one(self, window: torch.Tensor) -> torch.Tensor:
        with self._turn:
            self._request.infer({0: window.contiguous().numpy()}, share_inputs=True)
            return torch.from_numpy(self._request.get_output_tensor(0).data.copy())
