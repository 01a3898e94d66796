"""The seam between the loop and ways to train: a scheme of a test's own goes through all of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import nn

from balls import segmentation, volume
from napari_medseg import iter_train, train
from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.errors import InputError, UnknownNameError
from napari_medseg.events import TrainProgress
from napari_medseg.training import fit, job, loop
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.saving.saved import load
from napari_medseg.training.schemes import start
from napari_medseg.training.schemes.descent import descend, follow, train_mode
from napari_medseg.training.schemes.scheme import Scheme, SchemeSpec
from napari_medseg.training.schemes.table import SCHEMES, scheme_named
from napari_medseg.training.state import Setup, TrainState

QUICK: dict[str, Any] = {
    "epochs": 2,
    "val": 0,
    "device": "cpu",
    "precision": "fp32",
    "batch_size": 1,
    "arguments": {"channels": (4, 8)},
}
SEEN: list[tuple[int, ...]] = []


class TwoNetworks:
    """Learns a constant beside the network; looks at unlabelled patches."""

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        self._network, self._other = network, nn.Linear(1, 1)
        self._optimisers = {name: torch.optim.SGD(net.parameters(), lr=0.1) for name, net in self.networks().items()}

    def networks(self) -> Mapping[str, nn.Module]:
        return {"segments": self._network, "criticises": self._other}

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return self._optimisers

    def network_to_keep(self) -> nn.Module:
        return self._network

    def step(self, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        assert batch.unlabelled is not None
        SEEN.append(tuple(batch.unlabelled.shape))
        self._network.train()
        agreed = logits_of(self._network(batch.unlabelled)).square().mean()
        first = descend(self._optimisers["segments"], {"agree": agreed}, 12.0)
        return first | descend(
            self._optimisers["criticises"], {"guess": self._other(torch.ones(1)).square().sum()}, 12.0
        )


@pytest.fixture
def with_two(monkeypatch: pytest.MonkeyPatch) -> None:
    supervised = SchemeSpec.build

    def build(spec: SchemeSpec, setup: Setup, network: nn.Module) -> Scheme:
        return TwoNetworks(setup, network) if spec.name == "two" else supervised(spec, setup, network)

    spec = SchemeSpec(name="two", target="tests:TwoNetworks", summary="of a test", takes_unlabelled=True)
    table = MappingProxyType({**SCHEMES, "two": spec})

    def named(name: str) -> SchemeSpec:
        return scheme_named(name, table)

    for module in (fit, job, start):
        monkeypatch.setattr(module, "scheme_named", named)
    monkeypatch.setattr(SchemeSpec, "build", build)


@pytest.mark.usefixtures("with_two")
def test_a_scheme_sees_unlabelled_patches_and_its_parts_are_saved(tmp_path: Path) -> None:
    SEEN.clear()
    out, pairs = tmp_path / "m.safetensors", [(volume(), segmentation())]
    options: dict[str, Any] = {"scheme": "two", "unlabelled": [volume(seed=5)], **QUICK}
    events = list(iter_train(pairs, out=out, should_stop=lambda: len(SEEN) == 2, **options))
    (first, *_) = [event for event in events if isinstance(event, TrainProgress)]
    assert set(first.losses) == {"agree", "guess"}
    assert first.loss == pytest.approx(sum(first.losses.values()))
    assert len(SEEN) == 2
    assert SEEN[0][:2] == (1, 1)
    saved = load(out.with_suffix(".training"))
    assert saved is not None
    assert set(saved.state["networks"]) == set(saved.state["optimisers"]) == {"segments", "criticises"}


@pytest.mark.usefixtures("with_two")
def test_a_scheme_that_needs_unlabelled_images_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scheme two needs unlabelled images"):
        train([(volume(), segmentation())], out=tmp_path / "m.safetensors", scheme="two", **QUICK)


def test_a_scheme_without_use_for_them_refuses_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scheme supervised takes no unlabelled images"):
        train([(volume(), segmentation())], out=tmp_path / "m.safetensors", unlabelled=[volume()], **QUICK)
    with pytest.raises(UnknownNameError, match="unknown scheme 'supervized': did you mean supervised"):
        train([(volume(), segmentation())], out=tmp_path / "m.safetensors", scheme="supervized", **QUICK)


def test_a_skipped_step_leaves_statistics_and_the_average_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = loop.take_step

    def broken(setup: Setup, state: TrainState, batch: PatchBatch) -> dict[str, float]:
        factor = math.nan if state.step == 2 else 1.0
        return take_step(setup, state, replace(batch, images=batch.images * factor))

    monkeypatch.setattr(loop, "take_step", broken)
    arguments = {"channels": (4, 8), "norm": "batch"}
    options = QUICK | {"epochs": 9, "ema": 0.9, "arguments": arguments, "report": False}
    left = []
    for steps in (2, 3):
        out, count = tmp_path / f"{steps}.safetensors", iter(range(1, steps))
        stop = {"should_stop": lambda count=count: next(count, None) is None}
        train([(volume(), segmentation())], out=out, **stop, **options)
        saved = load(out.with_suffix(".training"))
        assert saved is not None
        left.append(saved.state["networks"])
    for name, weights in left[0].items():
        assert any("running_mean" in k for k in weights)
        assert all(torch.equal(tensor, left[1][name][k]) for k, tensor in weights.items())


def test_an_average_follows_faster_at_first() -> None:
    average, network = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        average.weight.fill_(0.0)
        network.weight.fill_(1.0)
    follow(average, network, 0.9, step=0)
    assert average.weight.item() == pytest.approx(0.9)
    follow(average, network, 0.9, step=1000)
    assert average.weight.item() == pytest.approx(0.91)


def test_a_frozen_part_drops_nothing() -> None:
    frozen = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    network = nn.Sequential(frozen, nn.BatchNorm1d(1), nn.Dropout(), nn.Linear(1, 1))
    for part in (frozen, network[1]):
        part.requires_grad_(False)
    train_mode(network)
    assert not any(part.training for part in (frozen, frozen[1], network[1]))
    assert all(part.training for part in (network[2], network[3]))
