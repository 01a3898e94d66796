"""Fine-tuning a part: adapters and their file, a frozen encoder, other channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from balls import segmentation, volume
from napari_medseg import registry, train
from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.errors import FileError, InputError
from napari_medseg.models.adapters import (
    adapter_path,
    add_low_rank,
    freeze_encoder,
    plain_weights,
    with_adapter,
    without_adapters,
)
from napari_medseg.models.file import Model
from napari_medseg.models.transfer import channels_from

QUICK: dict[str, Any] = {"epochs": 2, "val": 0, "device": "cpu", "batch_size": 1, "precision": "fp32"}


def pairs(*channels: str) -> list[Any]:
    names = channels or ("FLAIR",)
    return [(replace(volume(len(names)), channels=names), segmentation())] * 2


def weights(model: Model) -> dict[str, torch.Tensor]:
    return dict(model.load_network().state_dict())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    return train(pairs(), out=path, arguments={"channels": (8, 16)}, **QUICK | {"epochs": 1})


def test_adapters_leave_a_network_as_it_was_at_first(base: Model) -> None:
    network, image = base.load_network(), torch.from_numpy(np.asarray(volume().data, np.float32))[None]
    before, known = logits_of(network(image)), weights(base)
    add_low_rank(network, base.spec, rank=2)
    assert torch.allclose(logits_of(network(image)), before, atol=1e-4)
    plain = plain_weights(network)
    assert plain.keys() == known.keys()
    assert all(torch.equal(plain[name], known[name]) for name in known)
    learn = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert not any(name.endswith("original") for name in learn)


def test_an_adapter_is_small_and_makes_the_model_of_its_base(base: Model, tmp_path: Path) -> None:
    out = tmp_path / "tuned.safetensors"
    tuned = train(pairs(), out=out, init=base, adapt="low-rank", learning_rate=0.01, **QUICK)
    before, after = weights(base), weights(tuned)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("encoder") and name.endswith("weight") for name in changed)
    adapter = adapter_path(out)
    assert adapter.stat().st_size < out.stat().st_size / 2
    again = weights(with_adapter(base, adapter, tmp_path / "again.safetensors"))
    assert all(torch.allclose(again[name], after[name], atol=1e-6) for name in after)
    with pytest.raises(InputError, match=r"is an adapter of base\.safetensors, not of tuned"):
        with_adapter(tuned, adapter, tmp_path / "no.safetensors")
    with pytest.raises(FileError, match="no adapter of this project"):
        with_adapter(base, base.path, tmp_path / "no.safetensors")


def test_a_frozen_encoder_keeps_its_weights(base: Model, tmp_path: Path) -> None:
    tuned = train(pairs(), out=tmp_path / "m.safetensors", init=base, adapt="decoder", **QUICK)
    before, after = weights(base), weights(tuned)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("encoder")} == same


def test_a_network_without_an_encoder_cannot_freeze_it() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.Conv3d(4, 2, 1))
    with pytest.raises(InputError, match="has no encoder apart"):
        freeze_encoder(network, network, torch.zeros(1, 1, 8, 8, 8))


@pytest.mark.parametrize(
    ("names", "earlier", "expected"),
    [
        (("T1", "FLAIR"), ("FLAIR",), [None, 0]),
        (("flair",), ("T1", "FLAIR"), [1]),
        (("a", "b"), ("c",), [0, None]),
        (("a",), ("b", "c"), [0]),
    ],
)
def test_channels_start_from_those_of_their_name(
    names: tuple[str, ...], earlier: tuple[str, ...], expected: list[int | None]
) -> None:
    assert channels_from(names, earlier) == expected


def test_other_channels_start_from_the_model(base: Model, tmp_path: Path) -> None:
    tuned = train(pairs("T1", "FLAIR"), out=tmp_path / "m.safetensors", init=base, **QUICK | {"learning_rate": 1e-12})
    assert [channel.name for channel in tuned.spec.channels] == ["T1", "FLAIR"]
    before, after = weights(base), weights(tuned)
    (name,) = [name for name in before if before[name].shape != after[name].shape]
    assert torch.allclose(after[name][:, 1:], before[name], atol=1e-6)
    assert torch.allclose(after[name][:, :1], before[name], atol=1e-6)  # the mean of one channel is that channel
    assert all(torch.allclose(before[k], after[k], atol=1e-6) for k in before if k != name)


def test_adapting_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="adapt decoder is for a model to start from"):
        train(pairs(), out=tmp_path / "m.safetensors", adapt="decoder", **QUICK)


def test_a_network_keeps_its_own_parametrizations() -> None:
    network = registry.network("transunet").build(width=4)
    known = network.state_dict()
    assert any(".parametrizations." in name for name in known)
    assert plain_weights(network).keys() == known.keys()
    without_adapters(network)
    assert network.state_dict().keys() == known.keys()
