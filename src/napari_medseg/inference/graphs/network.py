"""A network that OpenVINO runs on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from napari_medseg.config import Precision


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
