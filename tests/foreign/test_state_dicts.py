from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets.vnet import VNet
from torch import nn

from napari_medseg.cli import main
from napari_medseg.errors import InputError, MedsegError, MedsegWarning, ModelFileError
from napari_medseg.foreign import convert_model
from napari_medseg.foreign.tensors import read_weights
from napari_medseg.models.file import load_model
from napari_medseg.registry import network
from network_suite import noise

UNKNOWN = pytest.mark.filterwarnings("ignore:.*says nothing of intensities:napari_medseg.errors.MedsegWarning")


def small_unet() -> nn.Module:
    return network("unet3d").build(channels=(4, 8))


@UNKNOWN
def test_monais_vnet_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer = VNet(2, 1, 3).eval()
    torch.save({"epoch": 3, "state_dict": peer.state_dict()}, tmp_path / "vnet.pt")
    (tmp_path / "labels.json").write_text('{"1": "liver", "7": "tumour"}')
    argv = ["convert", tmp_path / "vnet.pt", "-o", tmp_path / "m.safetensors", "--network", "vnet"]
    assert main([*map(str, argv), "--labels", str(tmp_path / "labels.json")]) == 0
    assert "labels liver, tumour" in capsys.readouterr().out
    model = load_model(tmp_path / "m.safetensors")
    assert model.spec.label_ids == (0, 1, 7)
    assert main([*map(str, argv), "--labels", str(tmp_path / "labels.json")]) == 0
    assert "it is kept as m.previous.safetensors" in capsys.readouterr().err
    assert load_model(tmp_path / "m.previous.safetensors").sha256 == model.sha256
    x = noise(1, 1, (32, 16))
    with torch.inference_mode():
        assert torch.equal(model.load_network()(x), peer(x))


@UNKNOWN
@pytest.mark.parametrize("name", ["unet3d", "segresnet"])
def test_arguments_are_read_off_the_shapes(tmp_path: Path, name: str) -> None:
    small: Mapping[str, Any] = {
        "unet3d": {"channels": (4, 8, 8)},
        "segresnet": {"init_filters": 8, "blocks_down": (1, 2), "blocks_up": (1,)},
    }
    source = network(name).build(in_channels=2, out_channels=4, spatial_dims=2, **small[name]).eval()
    torch.save(nn.DataParallel(source).state_dict(), tmp_path / "w.pth")
    model = convert_model(tmp_path / "w.pth", tmp_path / "m.safetensors", network=name)
    x = noise(1, 2, (16, 16))
    with torch.inference_mode():
        assert torch.equal(model.load_network()(x), source(x))


@UNKNOWN
def test_a_description_beside_the_weights(tmp_path: Path) -> None:
    torch.save(small_unet().state_dict(), tmp_path / "unet.pt")
    description = {
        "format_version": 1,
        "network": "unet3d",
        "weights": "unet.pt",
        "patch_size": [32, 48, 48],
        "spacing": [2.5, 1, 1],
        "classes": 2,
        "labels": {"0": "background", "1": "liver"},
    }
    (tmp_path / "model.json").write_text(json.dumps(description))
    spec = convert_model(tmp_path / "model.json", tmp_path / "m.safetensors").spec
    assert (spec.patch_zyx, spec.spacing_zyx_mm, spec.labels) == ((32, 48, 48), (2.5, 1, 1), {1: "liver"})


def test_the_network_must_be_named_and_fit(tmp_path: Path) -> None:
    torch.save({"z.weight": torch.zeros(2, 1, 3, 3, 3), "b.weight": torch.zeros(2, 2, 1, 1, 1)}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"name it with --network, one of .*vnet"):
        convert_model(tmp_path / "w.pt", tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"does not fit network vnet: tensor 'z.weight' is not one of its"):
        convert_model(tmp_path / "w.pt", tmp_path / "m.safetensors", network="vnet")
    assert list(tmp_path.iterdir()) == [tmp_path / "w.pt"]


def test_a_class_in_the_pickle_is_named(tmp_path: Path) -> None:
    torch.save(nn.Conv3d(1, 1, 1), tmp_path / "whole.pt")
    with pytest.raises(ModelFileError, match=r"names 'torch.nn.modules.conv.Conv3d', which is not allowed"):
        read_weights(tmp_path / "whole.pt")


def test_a_bare_pickle_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(MedsegError, match="bare Python pickle"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_tensor_that_unfolds_to_gigabytes_stays_in_the_child(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(2**10, 2**20)}, tmp_path / "w.pt")
    with pytest.raises(ModelFileError, match=r"w\.pt: PyTorch does not read it as a file of weights"):
        read_weights(tmp_path / "w.pt")


def test_a_tensor_of_several_names_counts_once(tmp_path: Path) -> None:
    """nnU-Net's checkpoints without the state of the optimiser are a quarter of what their tensors add up to."""
    weight = torch.arange(2**22, dtype=torch.float32)
    listed = ("encoder.conv", "encoder.all_modules.0", "decoder.encoder.conv", "decoder.encoder.all_modules.0")
    torch.save(
        {"network_weights": {**dict.fromkeys(listed, weight), "half": weight[:9], "rest": weight[9:]}},
        tmp_path / "w.pth",
    )
    found = read_weights(tmp_path / "w.pth").tensors
    assert list(found) == [*listed, "half", "rest"]
    assert all(torch.equal(found[name], weight) for name in listed)
    assert (torch.equal(found["half"], weight[:9]), torch.equal(found["rest"], weight[9:])) == (True, True)


def test_a_slow_child_is_stopped(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2**24)}, tmp_path / "w.pt")
    with pytest.raises(ModelFileError, match=r"longer than 0\.0+1 s and was stopped"):
        read_weights(tmp_path / "w.pt", seconds=0.001)


def test_what_is_unknown_is_told(tmp_path: Path) -> None:
    torch.save(small_unet().state_dict(), tmp_path / "w.pt")
    with pytest.warns(MedsegWarning, match="says nothing of intensities"):
        convert_model(tmp_path / "w.pt", tmp_path / "m.safetensors", network="unet3d")
