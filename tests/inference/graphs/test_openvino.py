"""Networks that OpenVINO runs: the same labels, a cache of what was converted, and one line where it cannot be."""

from __future__ import annotations

import os
import subprocess
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
from napari_medseg import registry
from napari_medseg.architectures.onnx_graph import onnx_graph
from napari_medseg.config import SegmentConfig
from napari_medseg.errors import InputError, MedsegWarning, NotSupportedError
from napari_medseg.inference.device import Machine
from napari_medseg.inference.graphs import converting, running
from napari_medseg.inference.graphs.converting import Request, convert, converted
from napari_medseg.inference.graphs.network import OpenVinoNetwork
from napari_medseg.inference.graphs.running import _key_of
from napari_medseg.inference.plan import ImageFacts, InferencePlan, resolve
from napari_medseg.inference.predictor import Predictor, load_predictor
from napari_medseg.io.disk.child import environment
from napari_medseg.models.file import Model, load_model, write_model
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation


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


def test_what_decides_a_graph_decides_its_place(ball_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(ball_model)
    asked = Request(model, False, (1, 1, 8, 16, 16))
    others = [replace(asked, first=True), replace(asked, shape=(1, 1, 8, 16, 32))]
    others.append(replace(asked, model=replace(model, sha256="0" * 64)))
    keys = [_key_of(request) for request in (asked, *others)]
    monkeypatch.setattr(running, "openvino_version", lambda: "another")
    keys.append(_key_of(asked))
    assert len({*keys}) == 5


@pytest.mark.usefixtures("conversions")
def test_the_oldest_of_too_many_graphs_go(ball_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    for k in range(4):
        (cache / f"{k}.onnx").write_bytes(b"old")
        os.utime(cache / f"{k}.onnx", (k, k))
    model = load_model(ball_model)
    loaded(model)
    (new,) = {path for path in cache.iterdir() if not path.stem.isdigit()}
    new_bytes = new.stat().st_size
    assert len([*cache.iterdir()]) == 5
    new.unlink()
    monkeypatch.setattr(running, "MOST_BYTES", new_bytes + 6)
    loaded(model)
    assert {path.name for path in cache.iterdir()} == {new.name, "2.onnx", "3.onnx"}


def test_threads_that_share_a_network_take_turns(graph: bytes, ball_model: Path) -> None:
    network, model = OpenVinoNetwork(graph, "fp32"), load_model(ball_model)
    windows = [torch.full((1, 1, *model.spec.patch_zyx), float(k)) + window_of(model)[:1] for k in range(4)]
    alone = [network(window) for window in windows]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            together = [*pool.map(network, windows)]
            assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


@pytest.mark.usefixtures("conversions")
def test_a_full_disk_stops_no_run(ball_model: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small_disk / "filler").write_bytes(bytes(2**20 - 2**14))
    monkeypatch.setenv("MEDSEG_CACHE", str(small_disk / "cache"))
    model = load_model(ball_model)
    with pytest.warns(MedsegWarning, match="cannot be kept there, and is converted in each run"):
        assert loaded(model)(window_of(model)).shape[1] == model.spec.outputs
    assert not [*small_disk.rglob("*.onnx")]


def test_nothing_is_told_to_others(tmp_path: Path) -> None:
    """OpenVINO reports each import, and leaves a folder with a number for the user; here it does neither."""
    script = (
        "from napari_medseg.inference.graphs.network import openvino_package\n"
        "assert openvino_package().Core().available_devices\n"
        "import sys\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])\n"
    )
    home = {**environment(), "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=home, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    assert [*tmp_path.iterdir()] == []


def test_a_missing_package_is_named(ball_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(ball_model)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        with pytest.raises(NotSupportedError, match=r"package openvino: install napari-medseg\[openvino\], or"):
            loaded(model)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(NotSupportedError, match=r"package onnxscript: install napari-medseg\[openvino\], or choose"):
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


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["2d", "2.5d", "triplanar"])
def test_modes_and_mirrors_and_ensembles(tmp_path: Path, mode: str) -> None:
    spec = registry.network("unet3d")
    channels = 3 if mode == "2.5d" else 1
    arguments = spec.arguments(
        in_channels=channels, out_channels=2, spatial_dims=2, channels=(4, 8), deep_supervision=False
    )
    patch = {"2d": (1, 16, 16), "2.5d": (3, 16, 16), "triplanar": (16, 16, 16)}[mode]
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        kinds = ModelSpec(
            network="unet3d",
            arguments=arguments,
            channels=(Channel(name="CT", modality="CT"),),
            labels={1: "ball"},
            patch_zyx=patch,
            mode=mode,  # type: ignore[arg-type]  # one of the modes
            normalisation=(Normalisation(kind="zscore"),),
            recipe=Recipe(mirror_axes=(1, 2)),
            deep_supervision=False,
        )
        path = tmp_path / f"{mode} {seed}.safetensors"
        models.append(write_model(path, kinds, spec.build_from(arguments).state_dict()))
    by_torch, by_openvino = (
        ms.segment(volume(), models, tta=True, preset="exact", backend=backend) for backend in ("torch", "openvino")
    )
    labels = np.asarray(by_torch.data[...])
    assert 0 < np.count_nonzero(labels) < labels.size
    assert np.array_equal(labels, np.asarray(by_openvino.data[...]))


def test_what_the_process_refuses_is_said_here(ball_model: Path) -> None:
    with pytest.raises(NotSupportedError, match=r"balls.safetensors: UNet3D has no ONNX graph: .* choose backend"):
        converted(Request(load_model(ball_model), False, (1, 3, 8, 16, 16)))  # the network has one channel


def test_a_process_that_dies_is_told_of(ball_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "command_of", lambda *_: [sys.executable, "-c", "raise SystemExit('no memory')"])
    with pytest.raises(NotSupportedError, match=r"ended with status 1: no memory: choose backend torch"):
        converted(Request(load_model(ball_model), False, (1, 1, 8, 16, 16)))


def test_a_network_without_a_graph_is_named() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(NotSupportedError, match="Branches has no ONNX graph"):
        onnx_graph(Branches(), (1, 1, 4, 4, 4))
