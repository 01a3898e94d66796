"""Schemes whose networks take more than an image: each is resumed, validated and saved as any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from balls import balls, segmentation, volume
from napari_medseg import Model, Segmentation, Volume, iter_train, load_model, segment, train
from napari_medseg.architectures.interactive.graph_unet import OnSupervoxels, majority, places, supervoxels
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Notice, TrainProgress, Validated
from napari_medseg.interactive.guided.memory import MemoryView
from napari_medseg.interactive.guided.rounds import Round
from napari_medseg.registry import network
from napari_medseg.training.saving.saved import load
from napari_medseg.training.tasks.folds import train_folds
from napari_medseg.widgets.interacting import guided_box

SCHEMES: Mapping[str, dict[str, Any]] = {
    "memory": {
        "patch_zyx": (12, 16, 32),
        "arguments": {"width": 4, "key": 8, "value": 8, "decoder": 8},
    },
    "clicks": {"patch_zyx": (12, 16, 16), "arguments": {"width": 4}},
    "supervoxels": {"patch_zyx": (12, 16, 16), "arguments": {"channels": 8, "kept_percent": (50,)}},
}
PARTS = {"memory": {"mask", "quality"}, "clicks": {"proposal", "correction"}, "supervoxels": {"loss"}}
NETWORKS = {"memory": "mem3d", "clicks": "deepigeos_rnet", "supervoxels": "graph_unet"}
COMMON: dict[str, Any] = {"epochs": 3, "device": "cpu", "batch_size": 1, "checkpoint_minutes": 0}


def pairs(count: int = 1) -> list[tuple[Volume, Segmentation]]:
    return [(volume(seed=seed), segmentation()) for seed in range(count)]


class Killed(BaseException):
    """Ends a training where it stands, as a kill does: nothing is written after it."""


class Trained:
    """Each scheme, trained once for all tests of this module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: dict[str, list[Event]] = {}

    def __call__(self, scheme: str) -> Model:
        out = self.folder / f"{scheme}.safetensors"
        if scheme not in self.events:
            options = {**COMMON, **SCHEMES[scheme], "val": 0.5, "validations": 1, "decide_cleaning": True}
            self.events[scheme] = list(iter_train(pairs(2), scheme=scheme, out=out, **options))
        return load_model(out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("guided"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_is_validated_reported_and_saved(scheme: str, trained: Trained) -> None:
    state = torch.get_rng_state()
    model = trained(scheme)
    assert torch.equal(state, torch.get_rng_state())
    assert model.spec.network == NETWORKS[scheme]
    assert model.spec.training.cases == 1
    events = trained.events[scheme]
    steps = [event for event in events if isinstance(event, TrainProgress)]
    assert [set(step.losses) for step in steps] == [PARTS[scheme]] * 3
    (*_, last) = [event for event in events if isinstance(event, Validated)]
    assert 0 <= last.mean_dice <= 1
    assert "dice mean" in model.spec.training.validation
    told = [event.message for event in events if isinstance(event, Notice) and "decide_cleaning" in event.message]
    expected = "decide_cleaning decides nothing: the network does not segment by itself"
    assert told == ([] if scheme == "supervoxels" else [expected])
    left = {path.name for path in (trained.folder / f"{scheme}.training").iterdir()}
    assert {"best.safetensors", "last.safetensors", "history.json", "report.html", "log.csv"} <= left
    assert not [event.message for event in events if isinstance(event, Notice) if "not written" in event.message]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_killed_training_goes_on_to_the_same_weights(scheme: str, tmp_path: Path) -> None:
    options = {**COMMON, **SCHEMES[scheme], "val": 0, "scheme": scheme, "report": False}
    calls = iter(range(1, 100))

    def kill(calls: Iterator[int] = calls) -> bool:
        if next(calls) == 2:
            raise Killed
        return False

    with suppress(Killed):
        train(pairs(), out=tmp_path / "m.safetensors", should_stop=kill, **options)
    left = load(tmp_path / "m.training")
    assert left is not None
    assert set(left.state["networks"]) == {"network", *(["proposes"] if scheme == "clicks" else [])}
    found = train(pairs(), out=tmp_path / "m.safetensors", resume=True, **options).load_network().state_dict()
    whole = train(pairs(), out=tmp_path / "whole.safetensors", **options).load_network().state_dict()
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_a_model_is_trained_further(trained: Trained, tmp_path: Path) -> None:
    first = trained("clicks")
    options: dict[str, Any] = {
        "epochs": 1,
        "val": 0,
        "device": "cpu",
        "learning_rate": 1e-9,
        "report": False,
        "decide_cleaning": True,
    }
    out = tmp_path / "m.safetensors"
    events = list(iter_train(pairs(), scheme="clicks", init=first, out=out, patch_zyx=(12, 16, 16), **options))
    told = [event.message for event in events if isinstance(event, Notice)]
    assert "decide_cleaning decides nothing: no case is kept to validate on" in told
    again = load_model(out)
    assert again.spec.arguments == first.spec.arguments
    weights = first.load_network().state_dict()
    for name, tensor in again.load_network().state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"scheme": "memory", "network": "unet3d"}, "scheme memory trains mem3d, not unet3d"),
        ({"network": "mem3d"}, "network mem3d is no network from image to labels: it is trained by scheme memory"),
        ({"scheme": "clicks", "mode": "2d"}, "scheme clicks has no use for mode"),
        ({"scheme": "supervoxels", "cascade": "detect"}, "scheme supervoxels has no use for cascade"),
        ({"scheme": "clicks", "fusion": "layer"}, "scheme clicks has no use for fusion"),
        ({"scheme": "memory", "loss": "focal"}, "scheme memory has a loss of its own"),
        ({"scheme": "clicks", "unlabelled": [volume()]}, "scheme clicks takes no unlabelled images"),
    ],
    ids=["another network", "without its scheme", "mode", "cascade", "fusion", "loss", "unlabelled"],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        train(pairs(), out=tmp_path / "m.safetensors", device="cpu", epochs=1, **options)


def test_memory_takes_one_channel_and_folds_take_none_of_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scheme memory learns from images of one channel; got 2"):
        train([(volume(2), segmentation())], scheme="memory", out=tmp_path / "m.safetensors", device="cpu", epochs=1)
    with pytest.raises(InputError, match="models of scheme clicks cannot be averaged"):
        train_folds(pairs(2), scheme="clicks", folds=2, out=tmp_path / "m.json", device="cpu", epochs=1)


def test_a_batch_without_an_object_teaches_a_memory_nothing(tmp_path: Path) -> None:
    empty = Segmentation(np.zeros_like(balls()), volume().grid)
    options = {**COMMON, **SCHEMES["memory"], "val": 0, "report": False}
    events = list(
        iter_train([*pairs(), (volume(seed=3), empty)], scheme="memory", out=tmp_path / "m.safetensors", **options)
    )
    losses = [event.losses["mask"] for event in events if isinstance(event, TrainProgress)]
    assert losses.count(0) == len(losses) // 2


def test_the_quality_head_chooses_the_second_slice_of_a_validation(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[list[int], int | None]] = []
    propagate = MemoryView.propagate

    def seen(view: MemoryView, masks: Mapping[int, Any], before: Round | None = None) -> Round:
        found = propagate(view, masks, before)
        asked.append((list(masks), found.weakest))
        return found

    monkeypatch.setattr(MemoryView, "propagate", seen)
    options = {**COMMON, **SCHEMES["memory"], "epochs": 1, "val": 0.5, "report": False}
    train(pairs(2), scheme="memory", out=tmp_path / "m.safetensors", **options)
    first, second, *_ = asked
    assert first[0] == [6], "the largest slice of the first ball"
    assert second[0] == [6, first[1]]


def test_the_panel_of_prompts_lists_what_these_schemes_make(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [trained(scheme).path for scheme in SCHEMES]
    monkeypatch.setattr(guided_box, "list_models", lambda: paths)
    assert [model.spec.network for model in guided_box.guided_models()] == ["mem3d", "deepigeos_rnet"]


def test_a_graph_network_segments_images(trained: Trained) -> None:
    labels = segment(volume(), trained("supervoxels"), device="cpu")
    assert labels.grid.same_as(volume().grid)
    assert set(np.unique(np.asarray(labels.data[...]))) <= {0, 1, 2}


def test_supervoxels_learn_what_intensities_tell(tmp_path: Path) -> None:
    bright = np.zeros(volume().grid.shape, bool)
    bright[:, 4:14, 3:12] = True
    image = Volume(100 * bright[None] + np.random.default_rng(0).normal(0, 10, (1, *bright.shape)), volume().grid)
    labels = Segmentation(bright.astype(np.uint8), image.grid, {1: "bright"})
    options = {"epochs": 12, "val": 0, "device": "cpu", "report": False, "learning_rate": 0.05, "augment": False}
    out, arguments = tmp_path / "m.safetensors", {"channels": 16, "kept_percent": (50,)}
    size = {"patch_zyx": bright.shape, "batch_size": 1, "arguments": arguments}
    model = train([(image, labels)], scheme="supervoxels", out=out, **size, **options)
    found = np.asarray(segment(image, model, device="cpu").data[...]) > 0
    assert 2 * (found & bright).sum() / (found.sum() + bright.sum()) > 0.9


def test_supervoxels_are_numbered_and_the_same_each_time() -> None:
    image = torch.from_numpy(np.asarray(volume().data[...]).astype(np.float32))
    image = (image - image.mean()) / image.std()
    parts = supervoxels(image)
    assert torch.equal(parts, supervoxels(image))
    assert sorted(set(parts.flatten().tolist())) == list(range(int(parts.max()) + 1))
    assert torch.equal(supervoxels(torch.zeros(2, 1, 4, 4)), torch.zeros(1, 4, 4, dtype=torch.long))


def test_a_supervoxel_has_the_commonest_class_and_a_place() -> None:
    parts = torch.tensor([[[0, 0, 0, 1], [2, 2, 1, 1]]])
    classes = torch.tensor([[[1, 1, 0, -1], [-1, -1, 0, 2]]])
    assert majority(parts, classes, 3).tolist() == [[[1, 1, 1, 0], [-1, -1, 0, 0]]]
    torch.testing.assert_close(places(parts)[2], torch.tensor([0.0, 1.0, -2 / 3]))


def test_a_voxel_has_the_logits_of_its_supervoxel() -> None:
    torch.manual_seed(0)
    net = (
        network("graph_unet").build(in_channels=network("graph_unet").inputs_for(2), out_channels=3, channels=4).eval()
    )
    x = torch.randn(1, 2, 4, 6, 5)
    parts = torch.arange(120).reshape(4, 6, 5) // 20
    logits = OnSupervoxels(net).on(x, [parts])
    assert logits.shape == (1, 3, 4, 6, 5)
    for part in range(6):
        assert len(logits[0][:, parts == part].unique(dim=1).T) == 1  # type: ignore[no-untyped-call]  # torch
