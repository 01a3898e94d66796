"""Networks that OpenVINO runs: the same labels, a cache of what was converted, and one line where it cannot be."""

from __future__ import annotations

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import napari_medseg as ms
from balls import volume
from napari_medseg.architectures.onnx_graph import onnx_graph
from napari_medseg.config import SegmentConfig
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.inference.device import Machine
from napari_medseg.inference.graphs import converting, running
from napari_medseg.inference.graphs.converting import Request, convert, converted
from napari_medseg.inference.graphs.network import OpenVinoNetwork
from napari_medseg.inference.graphs.running import KEPT
from napari_medseg.inference.plan import ImageFacts, InferencePlan, resolve
from napari_medseg.inference.predictor import Predictor, load_predictor
from napari_medseg.models.file import Model, load_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("MEDSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


@pytest.fixture(scope="module")
def graph(ball_model: Path) -> bytes:
    """The graph of the model that these tests share, made as a run makes it: in a process of its own."""
    model = load_model(ball_model)
    return converted(Request(model, False, (1, 1, *model.spec.patch_zyx)))


@pytest.fixture
def conversions(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What was converted; a conversion takes seconds, and each gives the same graph."""
    asked: list[Request] = []

    def convert_again(request: Request) -> bytes:
        asked.append(request)
        return graph

    monkeypatch.setattr(running, "converted", convert_again)
    return asked


def planned(model: Model, **knobs: object) -> InferencePlan:
    config = replace(SegmentConfig(backend="openvino"), **knobs)  # type: ignore[arg-type]  # fields of many types
    return resolve(ImageFacts.of(volume()), model.spec, config, Machine())


def loaded(model: Model, **knobs: object) -> Predictor:
    return load_predictor(model, planned(model, **knobs))


def window_of(model: Model) -> torch.Tensor:
    return torch.randn(2, 1, *model.spec.patch_zyx, generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("conversions")
def test_the_logits_are_those_of_torch(ball_model: Path) -> None:
    model = load_model(ball_model)
    windows = window_of(model)
    found, expected = loaded(model)(windows), loaded(model, backend="torch")(windows)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("conversions")
def test_labels_are_the_same_and_say_what_ran(ball_model: Path) -> None:
    by_torch, by_openvino = (ms.segment(volume(), ball_model, backend=b) for b in ("torch", "openvino"))
    assert np.array_equal(np.asarray(by_torch.data[...]), np.asarray(by_openvino.data[...]))
    assert by_openvino.provenance["backend"] == "openvino"
    assert "backend" not in by_torch.provenance


def test_logits_do_not_depend_on_the_number_of_threads() -> None:
    network = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.Conv3d(8, 2, 1))
    graph, windows = onnx_graph(network, (1, 1, 48, 48, 48), careful_sums=True), torch.randn(1, 1, 48, 48, 48)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(OpenVinoNetwork(graph, "fp32")(windows))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize("norm", [nn.InstanceNorm3d(4, affine=True), nn.GroupNorm(2, 4), nn.BatchNorm3d(4)])
def test_careful_sums_keep_the_digits_of_a_norm(norm: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), norm).eval()
    image = torch.randn(1, 1, 64, 64, 64) + 3
    found = OpenVinoNetwork(onnx_graph(network, tuple(image.shape), careful_sums=True), "fp32")(image)
    with torch.no_grad():
        exact = network.double()(image.double()).float()
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


def test_a_network_is_converted_once(ball_model: Path, cache: Path, conversions: list[Request]) -> None:
    model = load_model(ball_model)
    loaded(model)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    loaded(model)
    assert len(conversions) == 1
    kept.write_bytes(whole[: len(whole) // 2])
    loaded(model)
    assert len(conversions) == 2
    assert kept.read_bytes() == whole


def test_two_runs_at_once_convert_once(ball_model: Path, conversions: list[Request]) -> None:
    """As a window does, which estimates while it segments."""
    model = load_model(ball_model)
    with ThreadPoolExecutor(4) as pool:
        assert len([*pool.map(lambda _: loaded(model), range(4))]) == 4
    assert len(conversions) == 1


@pytest.mark.usefixtures("conversions")
def test_the_cache_holds_some_graphs_at_most(ball_model: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    for k in range(KEPT + 2):
        (cache / f"{k}.onnx").write_bytes(b"old")
    loaded(load_model(ball_model))
    assert len([*cache.iterdir()]) == KEPT


@pytest.mark.usefixtures("conversions")
def test_a_full_disk_stops_no_run(ball_model: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small_disk / "filler").write_bytes(bytes(2**20 - 2**14))
    monkeypatch.setenv("MEDSEG_CACHE", str(small_disk / "cache"))
    model = load_model(ball_model)
    assert loaded(model)(window_of(model)).shape[1] == model.spec.outputs
    assert not [*small_disk.rglob("*.onnx")]


def test_nothing_is_told_to_the_network_of_computers(ball_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    model = load_model(ball_model)
    graph = convert(Request(model, False, (1, 1, *model.spec.patch_zyx)))
    OpenVinoNetwork(graph, "fp32")(window_of(model))


def test_a_missing_package_is_named(ball_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(ball_model)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        with pytest.raises(NotSupportedError, match=r"openvino: install napari-medseg\[openvino\], or choose backend"):
            loaded(model)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(NotSupportedError, match=r"\(onnxscript\): install napari-medseg\[openvino\], or choose"):
        convert(Request(model, False, (1, 1, *model.spec.patch_zyx)))


def test_only_a_cpu_runs_it(ball_model: Path) -> None:
    model = load_model(ball_model)
    with pytest.raises(InputError, match="the device is cuda: choose device cpu, or backend torch"):
        resolve(ImageFacts.of(volume()), model.spec, SegmentConfig(backend="openvino"), Machine("cuda"))


def test_a_graph_that_answers_otherwise_is_refused(ball_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(ball_model)
    shape = (1, 1, *model.spec.patch_zyx)
    other = onnx_graph(nn.Conv3d(1, model.spec.outputs, 1), shape)
    monkeypatch.setattr("napari_medseg.architectures.onnx_graph.onnx_graph", lambda *args, **knobs: other)
    with pytest.raises(NotSupportedError, match=r"balls.safetensors: OpenVINO's logits are off by .* choose backend"):
        convert(Request(model, False, shape))


def test_what_the_process_refuses_is_said_here(ball_model: Path) -> None:
    with pytest.raises(NotSupportedError, match=r"balls.safetensors: UNet3D has no ONNX graph: .* choose backend"):
        converted(Request(load_model(ball_model), False, (1, 3, 8, 16, 16)))  # the network has one channel


def test_a_process_that_dies_is_told_of(ball_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "command_of", lambda *_: [sys.executable, "-c", "raise SystemExit('no memory')"])
    with pytest.raises(NotSupportedError, match=r"ended with status 1 \(no memory\): choose backend torch"):
        converted(Request(load_model(ball_model), False, (1, 1, 8, 16, 16)))


def test_a_network_without_a_graph_is_named() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(NotSupportedError, match="Branches has no ONNX graph"):
        onnx_graph(Branches(), (1, 1, 4, 4, 4))
