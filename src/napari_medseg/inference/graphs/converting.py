"""The conversion of a model's network into an ONNX graph, in a process of its own.

torch's export changes what the whole process shares (its modes, warnings and loggers), and two at once end it. The
process: ``python -m napari_medseg.inference.graphs.converting OUT``. A pickle of our own comes in, the graph goes to
OUT; why there is none is said in a line.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.errors import MedsegError, NotSupportedError
from napari_medseg.io.disk.child import command_of, environment, how_it_ended

if TYPE_CHECKING:
    from torch import nn

    from napari_medseg.models.file import Model

AGREES = 1e-3
"""Largest difference of OpenVINO's logits on noise from torch's, as a share of their largest."""


@dataclass(frozen=True)
class Request:
    """What is converted."""

    model: Model
    first: bool
    """Whether it is the network of a cascade's first stage."""
    shape: tuple[int, ...]
    """Of the windows: (1, C, z, y, x)."""


def missing(package: str | None) -> NotSupportedError:
    """What is said where a package is not installed."""
    return NotSupportedError(
        f"backend openvino needs the package {package}: install napari-medseg[openvino], or choose backend torch"
    )


def converted(request: Request) -> bytes:
    """The graph. Raises NotSupportedError where there is none, where it answers otherwise, or without a package."""
    with tempfile.TemporaryDirectory(prefix="medseg-") as scratch, tempfile.TemporaryFile() as complaints:
        out = Path(scratch) / "graph.onnx"
        with subprocess.Popen(
            command_of(__name__, str(out)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=environment(),
            start_new_session=True,  # Ctrl-C in the terminal reaches us alone; the process ends with us
        ) as process:
            assert process.stdin is not None, "started with PIPE"
            assert process.stdout is not None, "started with PIPE"
            try:
                with suppress(BrokenPipeError):
                    process.stdin.write(pickle.dumps(request))
                    process.stdin.flush()
                said = process.stdout.read().decode(errors="replace").strip()
                status = process.wait()
            except BaseException:
                process.kill()
                raise
        if status == 0 and out.exists():
            return out.read_bytes()
        ended = how_it_ended(status, complaints)
    if status == 0 and said:
        raise NotSupportedError(said)
    raise NotSupportedError(
        f"{request.model.path}: the process that converts it for OpenVINO {ended}: choose backend torch"
    )


def convert(request: Request) -> bytes:
    """As `converted`, in this process."""
    from napari_medseg.architectures.modes import in_mode
    from napari_medseg.architectures.onnx_graph import onnx_graph

    model = request.model
    if request.first:
        assert model.spec.first is not None, "a cascade has a first stage"
        network, spec = model.load_first(), model.spec.first.model
    else:
        network, spec = model.load_network(), model.spec
    network = in_mode(network, spec.mode, spec.patch_zyx[0])
    try:
        graph = onnx_graph(network, request.shape, careful_sums=True)
    except ImportError as error:
        raise missing(error.name) from None
    except NotSupportedError as error:
        raise NotSupportedError(f"{model.path}: {error}: choose backend torch") from None
    _require_agreement(network, graph, request)
    return graph


def _require_agreement(network: nn.Module, graph: bytes, request: Request) -> None:
    """Raise NotSupportedError where OpenVINO's logits on noise are not those of torch."""
    import torch

    from napari_medseg.architectures.blocks.outputs import logits_of
    from napari_medseg.inference.graphs.network import OpenVinoNetwork

    noise = torch.randn(request.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = logits_of(network(noise)).float()
    found = OpenVinoNetwork(graph, "fp32")(noise)
    off = float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-6)
    if not off <= AGREES:
        raise NotSupportedError(
            f"{request.model.path}: OpenVINO's logits are off by {off:.2g} of their largest: choose backend torch"
        )


def main() -> None:
    """Convert what the parent sends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # where libraries print
    request: Request = pickle.load(sys.stdin.buffer)  # made by our own process
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        Path(sys.argv[1]).write_bytes(convert(request))
    except MedsegError as error:
        print(error, file=answers, flush=True)


def _end_with_the_parent() -> None:
    """Its end of the pipe closes, however it ends."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
