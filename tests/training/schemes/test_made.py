"""The schemes with a second network that judges or makes up: the suite of schemes, and what is special to each."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from balls import SHAPE, segmentation, volume
from napari_medseg import Segmentation, iter_train, load_model, train
from napari_medseg.cli import main
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Notice, Pictured, TrainProgress, Validated
from napari_medseg.training.generative.hidden import random_part, without_part
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.descent import is_finite
from napari_medseg.training.schemes.made import adversarial, contest
from napari_medseg.training.schemes.made.acnn import ShapePrior, code_distance
from napari_medseg.training.schemes.made.adversarial import scaled
from napari_medseg.training.schemes.made.cgan import ConditionalGan
from napari_medseg.training.schemes.made.synthesis import Synthesis
from napari_medseg.training.schemes.supervised import Supervised
from napari_medseg.training.state import TrainState
from scheme_suite import SchemeSuite, Staged, notices, pairs

TINY: dict[str, Any] = {
    "val": 0,
    "device": "cpu",
    "precision": "fp32",
    "report": False,
    "arguments": {"channels": (4, 8)},
    "patch_zyx": SHAPE,
}


class TestSynthesis(SchemeSuite):
    scheme = "synthesis"
    kept: ClassVar = {"network"}
    parts: ClassVar = {"loss"}


class TestAdversarial(SchemeSuite):
    """In 2.5D: the critic sees slices."""

    scheme = "adversarial"
    knobs: ClassVar = {"mode": "2.5d"}
    kept: ClassVar = {"network", "critic"}
    parts: ClassVar = {"loss", "critic", "adversary"}


class TestShapePrior(Staged):
    scheme = "acnn"
    knobs: ClassVar = {"ema": 0.9, "first_share": 0.02, "shape_weight": 1e-4}
    kept: ClassVar = {"network", "average", "shapes"}
    parts: ClassVar = {"loss", "shape"}


class TestConditionalGan(Staged):
    scheme = "cgan"
    knobs: ClassVar = {"first_share": 0.02}
    kept: ClassVar = {"network", "maps", "map critic", "images", "image critic"}
    parts: ClassVar = {"loss"}


@pytest.mark.parametrize("scheme", ["acnn", "cgan"])
def test_the_epochs_of_a_model_are_those_of_its_network(scheme: str, tmp_path: Path) -> None:
    """Also where the training was stopped, and where it was resumed."""
    out, seen = tmp_path / "m.safetensors", list[Event]()
    options = {"scheme": scheme, "first_share": 0.5, "epochs": 6, "out": out, **TINY}

    def steps() -> int:
        return sum(isinstance(event, TrainProgress) for event in seen)

    for event in iter_train(pairs(), should_stop=lambda: steps() >= 2, **options):
        seen.append(event)
    assert load_model(out).spec.training.epochs == 0
    seen.extend(iter_train(pairs(), resume=True, **options))
    own = sum(isinstance(event, TrainProgress) and "loss" in event.losses for event in seen)
    assert load_model(out).spec.training.epochs == own * 6 / steps() == 3


def test_a_shape_prior_says_that_patches_show_parts_of_a_label(tmp_path: Path) -> None:
    """The balls have a diameter of 3 voxels along z and 7 along y and x."""
    told = "left ball has 3x7x7 voxels, and a patch {}: scheme acnn learns crops of it, not its shape"
    for patch, wanted in (((8, 8, 8), ""), ((4, 4, 4), told.format("4x4x4"))):
        options = {"scheme": "acnn", "epochs": 1, "out": tmp_path / "m.safetensors", **TINY, "patch_zyx": patch}
        lines = [line for line in notices(list(iter_train(pairs(), **options))) if "crops" in line]
        assert [line.split(";")[0] for line in lines] == ([wanted] if wanted else [])


def test_the_map_that_a_critic_takes_for_real_is_as_soft_as_the_made_one() -> None:
    made = torch.tensor([[0.6, 0.3, 0.1], [0.95, 0.03, 0.02], [0.2, 0.5, 0.3]]).T[None]
    true = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 0]]).T[None]  # nobody annotated the third voxel
    expected = torch.tensor([[0.9, 0.075, 0.025], [0.95, 0.03, 0.02], [0, 0, 0]]).T[None]
    assert torch.allclose(scaled(made, true), expected)


def test_critics_and_those_they_judge_have_opposite_losses() -> None:
    odds = torch.full((2, 1, 3), math.log(3.0))  # "real" with a probability of 3/4
    assert contest.real(odds).item() == pytest.approx(-math.log(0.75))
    assert contest.fake(odds).item() == pytest.approx(-math.log(0.25))
    judged = contest.judged(nn.Identity(), odds, torch.zeros_like(odds))
    assert judged.item() == pytest.approx(0.5 * (-math.log(0.75) + math.log(2)))


def test_the_distance_of_shapes_is_the_squared_distance_of_their_codes() -> None:
    coder = nn.Linear(2, 2, bias=False)
    nn.init.constant_(coder.weight, 1.0)
    found, true = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert code_distance(coder, found, true).item() == pytest.approx((2**2 + 2**2) / 2)


def test_a_network_with_a_shape_prior_sees_images_with_hidden_parts_and_whole_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches, spoil = list[tuple[PatchBatch, PatchBatch]](), ShapePrior._with_artefacts

    def watched(scheme: ShapePrior, batch: PatchBatch, step: int) -> PatchBatch:
        patches.append((batch, spoil(scheme, batch, step)))
        return patches[-1][1]

    monkeypatch.setattr(ShapePrior, "_with_artefacts", watched)
    knobs = TINY | {"scheme": "acnn", "first_share": 0.02, "epochs": 20, "foreground": 1.0}
    train(pairs(), out=tmp_path / "m.safetensors", **knobs)
    assert all(torch.equal(real.classes, shown.classes) for real, shown in patches)
    hidden = [bool((real.images != shown.images)[:, 0][real.classes > 0].any()) for real, shown in patches]
    assert 0 < sum(hidden) < len(hidden)


def test_an_artefact_lies_in_a_part_alone() -> None:
    classes = torch.zeros((9, 10, 11), dtype=torch.long)
    assert random_part(classes, (1.0, 1.0, 1.0), np.random.default_rng(0)) is None
    classes[2:7, 3:8, 3:8] = 1
    image = 3.0 * classes[None] + torch.rand(1, 9, 10, 11)
    for seed in range(20):
        draw = np.random.default_rng(seed)
        part = random_part(classes, (1.0, 1.0, 1.0), draw)
        assert part is not None
        assert 0 < int((part & (classes > 0)).sum()) < 125
        shown = without_part(image, classes, part, draw)
        assert torch.equal(shown[:, ~part], image[:, ~part])
        assert not torch.equal(shown[:, part], image[:, part])


@pytest.mark.parametrize("factor", [1e6, math.nan], ids=["too large", "no number"])
def test_a_network_that_has_diverged_changes_no_weight(factor: float) -> None:
    network = nn.Linear(1, 1)
    before = [parameter.clone() for parameter in network.parameters()]
    loss = network(torch.ones(1, 1)).square().sum() + 1
    assert not is_finite(contest.compete(contest.adam(network), {"a": factor * loss}, 12.0))
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert is_finite(contest.compete(contest.adam(network), {"a": loss}, 12.0))
    assert not any(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_critic_that_diverges_ends_the_training_and_the_weights_before_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count(1)

    def diverging(critic: nn.Module, true: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        return contest.judged(critic, true, made) * (1e6 if next(calls) > 3 else 1)

    monkeypatch.setattr(adversarial, "judged", diverging)
    whole, out = tmp_path / "whole.safetensors", tmp_path / "m.safetensors"
    with pytest.raises(
        InputError,
        match=r"the loss of critic or its gradients were not finite for 10 steps.*m.training.last.safetensors",
    ):
        train(pairs(), out=out, scheme="adversarial", epochs=100, **TINY)
    left = load_model(out.with_suffix(".training") / "last.safetensors")
    monkeypatch.undo()
    count = itertools.count(1)
    healthy = {"scheme": "adversarial", "epochs": 100, "should_stop": lambda: next(count) == 3, **TINY}
    wanted = train(pairs(), out=whole, **healthy).load_network().state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in left.load_network().state_dict().items())


def test_made_up_patches_lack_channels_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, step = list[torch.Tensor](), Supervised.step

    def watched(scheme: Supervised, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        seen.append(batch.images)
        return step(scheme, batch, state)

    monkeypatch.setattr(Supervised, "step", watched)
    knobs = TINY | {"scheme": "synthesis", "made_share": 0.99, "modality_dropout": 0.5}
    train([(volume(2), segmentation())], out=tmp_path / "m.safetensors", **knobs)
    missing = (torch.cat(seen) == 0).flatten(2).all(2)
    assert missing.any()
    assert not missing.all(1).any()


def test_made_up_patches_of_ct_are_on_the_scale_of_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patches, made = list[tuple[torch.Tensor, torch.Tensor]](), Synthesis.made

    def watched(scheme: Synthesis, batch: PatchBatch, step: int) -> PatchBatch:
        found = made(scheme, batch, step)
        patches.extend(zip(batch.images, found.images, strict=True))
        return found

    monkeypatch.setattr(Synthesis, "made", watched)
    ct = replace(volume(), data=np.asarray(volume().data) - 1000)
    knobs = TINY | {"scheme": "synthesis", "made_share": 0.99, "augment": False, "epochs": 3}
    model = train([(ct, segmentation())], out=tmp_path / "m.safetensors", **knobs)
    assert model.spec.normalisation[0].kind == "clip_zscore"
    for real, found in patches:
        assert not torch.equal(real, found)
        # the deformation takes what leaves the patch away, so that the background is not quite the same
        assert found.mean() == pytest.approx(float(real.mean()), rel=0.1)
        assert found[found != 0].std() == pytest.approx(float(real.std()), rel=0.2)
    labels = train([segmentation()], out=tmp_path / "n.safetensors", init=model, **TINY | {"scheme": "synthesis"})
    assert labels.spec.normalisation[0].kind == "zscore", "a made-up image has no Hounsfield units"


@pytest.mark.parametrize("kind", ["zscore", "clip_zscore"])
def test_made_up_cases_of_ct_are_as_the_network_makes_them(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConditionalGan, "_images_of", lambda self, maps, step: self._flat.of(maps[:, :1]) * 2 - 5)
    made, make = list[torch.Tensor](), ConditionalGan._make

    def watched(scheme: ConditionalGan, batch: PatchBatch, count: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        images, classes = make(scheme, batch, count, step)
        made.append(images[(classes >= 0)[:, None]])
        return images, classes

    monkeypatch.setattr(ConditionalGan, "_make", watched)
    monkeypatch.setattr(ConditionalGan, "preparing", lambda scheme, state: "")
    ct = replace(volume(), data=np.asarray(volume().data) - (1000 if kind == "clip_zscore" else 0))
    train([(ct, segmentation())], out=tmp_path / "m.safetensors", **TINY | {"scheme": "cgan", "epochs": 1})
    values = set(made[0].tolist())
    assert values == {-5.0, -3.0} if kind == "clip_zscore" else not values & {-5.0, -3.0}


def test_what_is_trained_first_is_told_and_not_validated(tmp_path: Path) -> None:
    options = TINY | {"val": 0.5, "validations": 10, "first_share": 0.5, "epochs": 8, "scheme": "acnn"}
    both = [(volume(seed=seed), segmentation()) for seed in range(2)]
    events = list(iter_train(both, out=tmp_path / "m.safetensors", **options))
    assert notices(events) == ["step 4: the autoencoder of label maps is trained; now the network"]
    assert min(event.step for event in events if isinstance(event, Validated)) > 4
    count = itertools.count(1)
    early = iter_train(both, out=tmp_path / "n.safetensors", should_stop=lambda: next(count) == 2, **options)
    assert any("the network has learned nothing" in e.message for e in early if isinstance(e, Notice))


def test_labels_alone_train_a_network_and_the_report_shows_what_was_made_up(tmp_path: Path) -> None:
    labels = [Segmentation(segmentation().data, segmentation().grid, name=f"case{k}") for k in range(2)]
    options = TINY | {"epochs": 1, "scheme": "synthesis", "report": True}
    events = list(iter_train(labels, out=tmp_path / "m.safetensors", **options))
    (made,) = [event for event in events if isinstance(event, Pictured)]
    assert made.pictures[0].image.shape == made.pictures[0].labels.shape == SHAPE[1:]
    assert set(made.pictures[0].labels.ravel().tolist()) == {0, 1, 2}
    page = (tmp_path / "m.training" / "report.html").read_text()
    assert page.count("made-up image</figcaption>") == len(made.pictures) == 2
    with pytest.raises(InputError, match="case case0 has no image, which scheme supervised needs"):
        train(labels, out=tmp_path / "n.safetensors", **TINY)
    with pytest.raises(InputError, match="case case0 has no image, others have one"):
        train([labels[0], *pairs()], out=tmp_path / "n.safetensors", **TINY | {"scheme": "synthesis"})


def test_the_command_trains_from_a_folder_of_labels(
    tmp_path: Path, ball_labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--labels", str(ball_labels), "-o", str(tmp_path / "m.safetensors")]
    assert main([*command, "--scheme", "synthesis", "--epochs", "1", "--val", "0", "--device", "cpu"]) == 0
    assert dict(load_model(tmp_path / "m.safetensors").spec.labels).keys() == {1, 2}
    assert main(command) == 2
    assert "give --images and --labels" in capsys.readouterr().err
