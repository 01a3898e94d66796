"""Doubts as an image: channels with known values, and what a model cannot do is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from balls import volume
from napari_medseg import doubts, iter_segment, load_model, read, segment
from napari_medseg.config import DoubtConfig
from napari_medseg.doubt.measuring import KINDS
from napari_medseg.doubt.passes import _dropped, _dropping
from napari_medseg.doubt.streaming import Seen, opened, streamed
from napari_medseg.errors import InputError, MedsegError
from napari_medseg.events import Notice
from napari_medseg.inference.predictor import Predictor, variance_of
from napari_medseg.models.file import write_model
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.several import averaged
from napari_medseg.models.trust import Trust


def test_variance_of_two_that_disagree_is_a_half() -> None:
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(variance_of(iter([a, b]))) == 0.5
    assert float(variance_of(iter([a, a, a]))) == 0.0
    assert float(variance_of(iter([a, a, a, b]))) == pytest.approx(2 * 3 / 16)


@pytest.mark.parametrize("orientation", [None, "RIA"])
def test_the_channels_are_those_of_the_uncertainty(ball_model: Path, tmp_path: Path, orientation: str | None) -> None:
    model = load_model(ball_model)
    spec = replace(model.spec, orientation=orientation, trust=Trust(temperature=2.0))
    model = write_model(tmp_path / "m.safetensors", spec, model.load_network().state_dict())
    found = doubts(volume(), model, device="cpu", overlap=0.5, out=tmp_path / "d.zarr")
    assert found.channels == ("entropy", "margin")
    segment(volume(), model, device="cpu", preset="exact", uncertainty=tmp_path / "u.zarr")
    np.testing.assert_allclose(read(tmp_path / "d.zarr").data[...], read(tmp_path / "u.zarr").data[...], atol=1e-5)


def test_a_run_that_mirrors_has_the_variance_over_the_mirrors(ball_model: Path, tmp_path: Path) -> None:
    model = load_model(ball_model)
    spec = replace(model.spec, recipe=Recipe(mirror_axes=(1, 2)), trust=Trust(temperature=2.0))
    model = write_model(tmp_path / "m.safetensors", spec, model.load_network().state_dict())
    expected = doubts(volume(), model, device="cpu", overlap=0.5, kinds=["tta"]).data
    options: dict[str, Any] = {"device": "cpu", "preset": "exact", "uncertainty": tmp_path / "u.zarr"}
    plain = segment(volume(), model, tta=True, device="cpu", preset="exact")
    told = segment(volume(), model, tta=True, **options)
    np.testing.assert_array_equal(np.asarray(told.data), np.asarray(plain.data))
    found = read(tmp_path / "u.zarr")
    assert found.channels == ("entropy", "margin", "tta")
    np.testing.assert_allclose(found.data[2], expected[0], atol=1e-5)
    assert found.data[2].max() > 0.001
    spread = list(iter_segment(volume(), model, tta=True, **{**options, "preset": "balanced"}))
    assert [e.message for e in spread if isinstance(e, Notice) and "no channel tta: preset balanced" in e.message]
    assert read(tmp_path / "u.zarr").channels == ("entropy", "margin")


def test_a_volume_comes_plane_by_plane_and_each_voxel_once(ball_model: Path) -> None:
    model = load_model(ball_model)
    plan, predictor = opened(volume(), model, "cpu", 0.25)
    seen = np.zeros(volume().grid.shape, int)
    for event in streamed(volume(), plan, predictor):
        if isinstance(event, Seen):
            assert event.logits.shape[1] == 1, "no more than a plane is handed out at once"
            seen[event.box] += 1
    assert (seen == 1).all()


def test_models_that_are_the_same_do_not_disagree(ball_model: Path) -> None:
    model = load_model(ball_model)
    found = doubts(volume(), averaged([model, model]), kinds=["ensemble", "margin"], device="cpu")
    assert found.channels == ("margin", "ensemble")
    assert np.abs(found.data[1]).max() < 1e-6


def test_drop_out_drops_by_draws_of_its_own(ball_model: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout3d(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.drop(x))

    network = Net().eval()
    before = torch.random.get_rng_state()
    window = torch.ones(1, 8, 2, 2, 2)
    look = _dropped(load_model(ball_model), Predictor(network, torch.device("cpu"), "fp32"), DoubtConfig(passes=3))
    first, again = list(look(window)), list(look(window))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert set(first[0].flatten().tolist()) <= {0.0, 2.0}
    assert (first[0].flatten(2).std(-1) == 0).all(), "whole channels are dropped"
    assert torch.equal(network(window), window), "and nothing is dropped afterwards"
    with _dropping([network.drop], torch.Generator()):
        pass
    assert not network.drop._forward_hooks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["guess"]}, "choose some of entropy"),
        ({"kinds": []}, "no kind"),
        ({"kinds": ["tta"]}, "mirrored along no axis"),
        ({"kinds": ["dropout"]}, "without drop-out"),
        ({"kinds": ["ensemble"]}, "is one model"),
        ({"out": "d.nii.gz"}, "end it in .zarr"),
        ({"passes": 1}, "passes"),
    ],
)
def test_bad_input_is_refused_in_one_line(ball_model: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(MedsegError, match=message) as caught:
        doubts(volume(), ball_model, device="cpu", **options)
    assert "\n" not in str(caught.value)


def test_every_kind_says_what_it_is() -> None:
    assert list(KINDS) == ["entropy", "margin", "tta", "dropout", "ensemble"]
    assert all(text.endswith(".") for text in KINDS.values())
    with pytest.raises(InputError, match="overlap must be at least 0 and below 1"):
        DoubtConfig(overlap=1.0)
