"""The semi-supervised schemes: the suite of schemes, and what is special to each."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import napari_medseg as ms
from balls import segmentation, volume
from clock import Clock
from napari_medseg import Grid, Segmentation, Volume, iter_train, train
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.config import TrainConfig, configured
from napari_medseg.events import Event, Progress, TrainProgress, result_of, run_to_end
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation
from napari_medseg.training.cases import IGNORE, PreparedCase, as_case, as_cases
from napari_medseg.training.fit import iter_job
from napari_medseg.training.job import Job
from napari_medseg.training.losses.context import Context
from napari_medseg.training.losses.distance import signed_distance
from napari_medseg.training.losses.guesses import towards
from napari_medseg.training.losses.masked import Masked
from napari_medseg.training.losses.supervised import deeply_supervised
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.learner import Learner, inner, part
from napari_medseg.training.schemes.semi import mean_teacher, self_training, shape_aware
from napari_medseg.training.schemes.semi.base import unlabelled_of
from napari_medseg.training.schemes.semi.critic import Critic, distances_of
from napari_medseg.training.schemes.semi.pseudo import labels_of_image, pseudo_labels
from napari_medseg.training.state import TrainState
from scheme_suite import SchemeSuite, notices, pairs

HYBRID = {"features": 4, "width": 4, "planar_growth": 2, "planar_blocks": (1, 1, 1, 1), "growth": 2, "blocks": (1,) * 4}
AT_ONCE: dict[str, Any] = {"ramp": 0.01}
"""What is learned without labels counts from the first step on."""


class TestMeanTeacher(SchemeSuite):
    scheme = "mean-teacher"
    knobs: ClassVar = {"ramp": 0.5, "doubt_passes": 2}
    parts: ClassVar = {"loss", "consistency"}


class TestSelfTraining(SchemeSuite):
    scheme = "self-training"
    knobs: ClassVar = {"ramp": 0.4, "confidence": 0.3}
    kept: ClassVar = {"network", "average", "labeller"}
    parts: ClassVar = {"loss", "pseudo_labels"}


class TestCopyPaste(SchemeSuite):
    scheme = "copy-paste"
    knobs: ClassVar = {"ramp": 0.5, "mode": "2.5d"}
    parts: ClassVar = {"loss", "pseudo_labels"}


class TestSASSNet(SchemeSuite):
    scheme = "sassnet"
    knobs: ClassVar = AT_ONCE | {"critic_width": 2}
    network = "sassnet"
    arguments: ClassVar = {"width": 2}
    kept: ClassVar = {"network", "discriminator"}
    parts: ClassVar = {"loss", "adversarial", "discriminator"}


class TestCANet(SchemeSuite):
    """On a network without a head for distances, slice by slice, with an average."""

    scheme = "canet"
    knobs: ClassVar = AT_ONCE | {"critic_width": 2, "mode": "2d", "ema": 0.9}
    kept: ClassVar = {"network", "average", "discriminator"}
    parts: ClassVar = {"loss", "distances", "adversarial", "discriminator"}


def test_a_scheme_names_its_network_and_a_plan_of_it_is_followed(tmp_path: Path) -> None:
    options: dict[str, Any] = {"scheme": "sassnet", "val": 0.0, "device": "cpu"}
    plan = ms.plan(pairs(), arguments={"width": 2}, pace=lambda spec, device: 1e9, **options)
    assert plan.spec.network == "sassnet"
    assert plan.spec.arguments["sdf"] is True
    others = [volume(seed=5)]
    events = ms.iter_train(
        pairs(), plan=plan, unlabelled=others, out=tmp_path / "m.safetensors", epochs=1, critic_width=2, **options
    )
    assert result_of(events).spec.arguments["width"] == 2


def test_a_shape_aware_network_also_guesses_between_painted_slices(tmp_path: Path) -> None:
    labels = segmentation()
    painted = np.zeros_like(np.asarray(labels.data))
    painted[[5, 7]] = np.asarray(labels.data)[[5, 7]]
    events = ms.iter_train(
        [(volume(), replace(labels, data=painted))],
        scheme="sassnet",
        network="unet3d",
        arguments={"channels": (4, 8)},
        unlabelled_slices="ignore",
        unlabelled=[volume(seed=5)],
        out=tmp_path / "m.safetensors",
        epochs=1,
        val=0.0,
        critic_width=2,
        device="cpu",
        report=False,
    )
    steps = [event for event in events if isinstance(event, TrainProgress)]
    assert steps[-1].losses["guesses"] > 0


@pytest.mark.parametrize("labels", [1, 2])
def test_a_head_for_distances_learns_with_any_number_of_labels(labels: int, tmp_path: Path) -> None:
    ids = np.asarray(segmentation().data)
    few = Segmentation(ids * (ids <= labels), segmentation().grid, name="a")
    seen = list[dict[str, float]]()
    for event in iter_train([(volume(), few)], out=tmp_path / "m.safetensors", **TestSASSNet().options(epochs=2)):
        seen += [dict(event.losses)] if isinstance(event, TrainProgress) else []
    assert set(seen[-1]) == TestSASSNet.parts
    assert all(math.isfinite(loss) for losses in seen for loss in losses.values())


def test_the_discriminator_sees_labelled_patches_that_lie_as_the_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are the same ones: what is said to be labelled shows as much of a label."""
    judged = shape_aware.SASSNet._judged
    seen: dict[bool, list[float]] = {True: [], False: []}

    def watched(self: Any, outputs: Any, images: torch.Tensor, state: TrainState, *, real: bool, **how: Any) -> Any:
        if how.get("learns", True):
            seen[real] += [float(image.max()) for image in images]
        return judged(self, outputs, images, state, real=real, **how)

    monkeypatch.setattr(shape_aware.SASSNet, "_judged", watched)
    options = TestSASSNet().options(patch_zyx=(4, 4, 4), foreground=1.0, augment=False, epochs=2)
    others = [replace(image, data=np.asarray(image.data) + 1) for image, _ in pairs()]  # z-scored, they are the same
    train(pairs(), out=tmp_path / "m.safetensors", **options | {"unlabelled": others})
    assert len(seen[True]) == len(seen[False]) > 50
    assert seen[True] == pytest.approx(seen[False], abs=1e-4)


def test_where_the_network_says_nothing_finite_the_discriminator_learns_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = Learner.outputs

    def broken(self: Learner, images: torch.Tensor, state: TrainState) -> Any:
        found = outputs(self, images, state)
        assert isinstance(found, Outputs)
        return found.map(lambda tensor: tensor * math.nan) if state.step == 2 else found

    monkeypatch.setattr(Learner, "outputs", broken)
    events = iter_train(pairs(), out=tmp_path / "m.safetensors", **TestSASSNet().options(epochs=4))
    steps = [set(event.losses) for event in events if isinstance(event, TrainProgress)]
    assert steps == [{"loss"}, TestSASSNet.parts, {"loss", "adversarial"}, TestSASSNet.parts]


@pytest.mark.parametrize(("attention", "count"), [(False, 11_020_290), (True, 11_085_826)])
def test_the_discriminators_have_the_published_counts(attention: bool, count: int) -> None:
    with torch.device("meta"):
        critic = Critic(distances=1, channels=1, spatial_dims=3, width=64, attention=attention)
    assert sum(parameter.numel() for parameter in critic.parameters()) == count


def test_the_attention_of_a_discriminator_is_one_layer_that_learns() -> None:
    critic = Critic(distances=2, channels=1, spatial_dims=3, width=4, attention=True)
    names = {name for name, _ in critic.named_parameters() if name.startswith("excite")}
    assert len(names) == 2
    critic(torch.rand(2, 2, 5, 17, 6), torch.rand(2, 1, 5, 17, 6)).sum().backward()
    assert all(parameter.grad is not None for parameter in critic.parameters())
    gradient = dict(critic.named_parameters())["excite.0.weight"].grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_distances_are_those_of_the_head_or_of_the_logits() -> None:
    logits = torch.randn(2, 3, 4, 5, 6)
    read = distances_of(logits)
    sure = torch.tensor([0.0, 50.0, 0.0]).reshape(1, 3, 1, 1, 1).expand_as(logits)
    assert torch.equal(distances_of(sure)[:, 0], -torch.ones(2, 4, 5, 6))
    head = torch.zeros(2, 2, 4, 5, 6)
    assert torch.equal(distances_of(Outputs(logits, (), {"sdf": head})), head)
    classes = torch.zeros((2, 4, 5, 6), dtype=torch.long)  # empty: the wanted distance is 0 everywhere
    lost = signed_distance(Masked.of(logits, classes), Context())
    assert lost == pytest.approx(float(read.square().mean()), rel=1e-5)


def test_pseudo_labels_are_sure_and_no_specks() -> None:
    classes = torch.zeros((1, 6, 12, 12), dtype=torch.long)
    classes[0, 1:5, 1:7, 1:7] = 1
    classes[0, 3, 10, 10] = 1
    logits = torch.nn.functional.one_hot(classes, 2).movedim(-1, 1).float() * 4
    logits[0, :, 2, 3, 3] = 0
    found = pseudo_labels(logits, 0.9)
    wanted = classes.clone()
    wanted[0, 3, 10, 10] = IGNORE  # small beside the other part
    wanted[0, 2, 3, 3] = IGNORE  # unsure
    assert torch.equal(found, wanted)
    assert not (pseudo_labels(logits, 0.0) == IGNORE)[0, 2, 3, 3]
    assert (pseudo_labels(logits, 0.99) == IGNORE).all()


def test_losses_see_the_mixtures_that_the_network_sees_of_all_labelled_patches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed, seen = list[torch.Tensor](), list[torch.Tensor]()
    outputs, context = Learner.outputs, Learner.context

    def watched(self: Learner, images: torch.Tensor, state: TrainState) -> Any:
        fed.append(images)
        return outputs(self, images, state)

    def told(self: Learner, images: torch.Tensor, state: TrainState) -> Context:
        seen.append(images)
        return context(self, images, state)

    monkeypatch.setattr(Learner, "outputs", watched)
    monkeypatch.setattr(Learner, "context", told)
    knobs = {"ramp": 0.01, "mode": "3d", "batch_size": 2, "epochs": 2, "unlabelled": [volume(seed=5)]}
    train(pairs() * 2, out=tmp_path / "m.safetensors", **TestCopyPaste().options(**knobs))
    assert [len(images) for images in fed] == [2, 4]
    assert all(torch.equal(images, fed[1]) for images in seen[-2:])


def test_nothing_is_learned_around_an_image_that_is_smaller_than_a_patch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = list[torch.Tensor]()

    def followed(logits: torch.Tensor, wanted: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        where.append(there[:, 0] > 0)
        return towards(logits, wanted, there)

    def counted(outputs: Any, classes: torch.Tensor, context: Context) -> torch.Tensor:
        where.append(classes != IGNORE)
        return deeply_supervised(outputs, classes, context)

    monkeypatch.setattr(mean_teacher, "towards", followed)
    grid = Grid.from_spacing((12, 20, 8), (2.0, 1.0, 1.0))
    narrow = as_case(Volume(np.asarray(volume(seed=5).data)[..., 4:12], grid), 0)
    for suite, loss in ((TestMeanTeacher(), None), (TestCopyPaste(), counted)):
        options = suite.options(ramp=0.01, augment=False, epochs=2, mode="3d", doubt_passes=0)
        config = configured(
            TrainConfig, None, {k: options[k] for k in options if k not in ("unlabelled", "target", "network")}
        )
        job = Job(as_cases(pairs()), "unet3d", tmp_path / "m.safetensors", config, unlabelled=[narrow], loss=loss)
        list(iter_job(job))
        assert not where[-1][..., :4].any()
        assert not where[-1][..., 12:].any()
        assert where[-1][..., 4:12].any()


def test_there_are_as_many_patches_without_labels_as_with() -> None:
    five, two = torch.arange(5.0), torch.arange(2.0)
    for few, many, found in ((five, two, [0, 1, 0, 1, 0]), (two, five, [0, 1])):
        batch = PatchBatch(few, few.long(), (), unlabelled=many, unlabelled_plain=many + 1)
        changed, plain = unlabelled_of(batch)
        assert changed.tolist() == (plain - 1).tolist() == found


def test_a_teacher_doubts_no_missing_channel_into_being(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, taught = list[torch.Tensor](), Learner.taught

    def watched(self: Learner, images: torch.Tensor, state: TrainState) -> torch.Tensor:
        seen.append(images)
        return taught(self, images, state)

    monkeypatch.setattr(Learner, "taught", watched)
    knobs = {"ramp": 0.01, "doubt_passes": 1, "modality_dropout": 0.5, "epochs": 3}
    others = [volume(2, seed=seed) for seed in range(5, 9)]
    options = TestMeanTeacher().options(**knobs, unlabelled=others, batch_size=4)
    train([(volume(2, seed=seed), segmentation()) for seed in range(4)], out=tmp_path / "m.safetensors", **options)
    missing = [(images == 0).flatten(2).all(2) for images in seen]
    assert any(each.any() for each in missing)
    assert all(torch.equal(a, b) for a, b in zip(missing[::2], missing[1::2], strict=True))
    assert not torch.equal(seen[0], seen[1])


def test_a_discriminator_that_is_asked_drops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trains, forward = list[tuple[bool, bool]](), Critic.forward

    def watched(self: Critic, distances: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        trains.append((self.training, self.judge.weight.requires_grad))
        return forward(self, distances, images)

    monkeypatch.setattr(Critic, "forward", watched)
    train(pairs(), out=tmp_path / "m.safetensors", **TestSASSNet().options(epochs=2))
    assert trains == [(False, False), (True, True), (True, True)]


def test_parts_of_a_batch_and_inner_slices() -> None:
    outputs = Outputs(torch.arange(4.0).reshape(4, 1, 1, 1, 1), (torch.arange(4.0),), {"sdf": torch.arange(4.0)})
    first = part(outputs, 1, 3)
    assert isinstance(first, Outputs)
    assert first.logits.flatten().tolist() == first.auxiliary[0].tolist() == first.heads["sdf"].tolist() == [1.0, 2.0]
    seen = torch.from_numpy(np.arange(5.0)).reshape(1, 5, 1, 1)
    assert inner(seen, torch.zeros(1, 2, 3, 1, 1)).flatten().tolist() == [1.0, 2.0, 3.0]


def of_self_training(**changes: Any) -> dict[str, Any]:
    """Of a training of 6 steps, in which 2 images are labelled after the third and after the fifth."""
    return TestSelfTraining().options(**{"ramp": 0.5, "rounds": 2, "batch_size": 2, **changes})


def test_stopped_while_images_are_labelled_it_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = train(pairs(), out=tmp_path / "whole.safetensors", **of_self_training()).load_network().state_dict()
    out, events = tmp_path / "m.safetensors", list[Event]()

    def labels() -> bool:
        return isinstance(events[-1], Progress) and events[-1].message == "labelling images"

    for event in iter_train(pairs(), out=out, should_stop=labels, **of_self_training()):
        events.append(event)
    assert sum(isinstance(event, TrainProgress) for event in events) == 3
    again = train(pairs(), out=out, resume=True, **of_self_training()).load_network().state_dict()
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_labels_are_made_again_by_the_phase_that_made_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = list[tuple[str, int]]()

    def watched(image: PreparedCase, predictor: Predictor, *inputs: Any) -> Generator[Event, None, Any]:
        found = yield from labels_of_image(image, predictor, *inputs)
        labelled.append((type(predictor.network).__name__, int(found.sum())))
        return found

    monkeypatch.setattr(self_training, "labels_of_image", watched)
    out, taken = tmp_path / "m.safetensors", list[Event]()
    knobs = of_self_training(network="hdenseunet", arguments=HYBRID, confidence=0.0, ramp=0.3, rounds=1)
    for event in iter_train(pairs(), out=out, should_stop=lambda: len(taken) == 4, **knobs):
        taken.extend([event] if isinstance(event, TrainProgress) else [])
    first = labelled.copy()
    labelled.clear()
    list(iter_train(pairs(), out=out, resume=True, **knobs))
    assert {name for name, _ in first} == {"PlanarPart"}
    assert labelled == first


def test_a_labeller_of_before_has_the_first_phase() -> None:
    labeller = self_training._Labeller(torch.nn.Linear(1, 1))
    state = labeller.state_dict()
    del state["phase"]
    labeller.phase.fill_(1)
    labeller.load_state_dict(state)
    assert int(labeller.phase) == 0


def test_images_are_labelled_anew_and_a_step_stays_as_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, outputs = list[int](), Learner.outputs

    def counted(self: Learner, images: torch.Tensor, state: TrainState) -> Any:
        seen.append(len(images))
        return outputs(self, images, state)

    monkeypatch.setattr(Learner, "outputs", counted)
    events = list(iter_train(pairs() * 2, out=tmp_path / "m.safetensors", **of_self_training()))
    assert [line for line in notices(events) if "labelled" in line] == [
        f"step {step}: 2 of 2 images are labelled, to learn from" for step in (3, 5)
    ]
    assert set(seen) == {2}


def test_images_that_take_too_long_stay_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def slow(*inputs: Any) -> Generator[Event, None, Any]:
        clock.seconds += 60
        return (yield from labels_of_image(*inputs))

    def loss(*inputs: Any) -> torch.Tensor:
        clock.seconds += 60
        return deeply_supervised(*inputs)

    monkeypatch.setattr(self_training, "labels_of_image", slow)
    options = of_self_training(epochs=None, minutes=10)
    del options["target"]
    others = [as_case(image, number) for number, image in enumerate(options.pop("unlabelled"))]
    out, network = tmp_path / "m.safetensors", options.pop("network")
    config = configured(TrainConfig, None, options)
    job = Job(as_cases(pairs()), network, out, config, unlabelled=others, now=clock, loss=loss)
    told = [line for line in notices(list(iter_job(job))) if "labelled" in line]
    assert len(told) == 2
    assert all("1 of 2 images are labelled" in line for line in told)


def test_a_whole_image_is_labelled_from_its_windows() -> None:
    image = np.full((1, 9, 12, 20), -4, np.float32)
    image[0, 2:7, 2:10, 3:17] = 4
    image[0, 4, 5, 5] = 0.1  # unsure
    image[0, 8, 11, 19] = 4  # a speck
    case = PreparedCase("a", image, np.full(image.shape[1:], IGNORE, np.int16), {})
    spec = ModelSpec(
        network="unet3d",
        arguments={"deep_supervision": False},
        channels=(Channel(name="T1", modality="MR"),),
        labels={1: "ball"},
        patch_zyx=(6, 8, 8),
        normalisation=(Normalisation(kind="zscore"),),
        deep_supervision=False,
    )
    predictor = Predictor(Ahead(), torch.device("cpu"), "fp32")
    found = run_to_end(labels_of_image(case, predictor, spec, 0.9, Progress(0, 1)))
    wanted = (image[0] > 0).astype(np.int64)
    wanted[4, 5, 5] = wanted[8, 11, 19] = IGNORE
    assert np.array_equal(found, wanted)


class Ahead(nn.Module):
    """Says foreground where the image is above 0, the surer the more it is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-x, x], 1)
