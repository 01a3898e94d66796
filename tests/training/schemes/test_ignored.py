"""What nobody annotated, in a step of every scheme: it is no background, and what lies there is not learned."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from balls import SHAPE, balls, volume
from napari_medseg import Model, Segmentation, iter_train, train
from napari_medseg.architectures.interactive.mem3d import Mem3D
from napari_medseg.errors import InputError
from napari_medseg.interactive.guided.clips import LENGTH, UNKNOWN, Example, clip_losses, clip_of
from napari_medseg.registry import network
from napari_medseg.training import fit
from napari_medseg.training.cases import IGNORE
from napari_medseg.training.loop import batches_of
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.schemes.scheme import Prepares
from napari_medseg.training.schemes.supervised import Supervised
from napari_medseg.training.schemes.table import SCHEMES
from napari_medseg.training.state import Setup, TrainState
from scheme_suite import dark, notices

HIDDEN = np.s_[:, :, 9:]
"""A part of both balls."""
UNET: dict[str, Any] = {"arguments": {"channels": (4, 8), "deep_supervision": False}}
AT_ONCE: dict[str, Any] = {"ramp": 0.01}
KNOBS: dict[str, dict[str, Any]] = {
    "mean-teacher": UNET | AT_ONCE,
    "self-training": UNET | AT_ONCE,
    "copy-paste": UNET | AT_ONCE,
    "sassnet": {"arguments": {"width": 2}, "critic_width": 2, **AT_ONCE},
    "canet": UNET | AT_ONCE | {"network": "unet3d", "critic_width": 2},
    "memory": {"arguments": {"width": 4, "key": 8, "value": 8, "decoder": 8}, "patch_zyx": (12, 20, 32)},
    "clicks": {"arguments": {"width": 4}},
    "supervoxels": {"arguments": {"channels": 8, "kept_percent": (50,)}},
    "mask-rcnn": {"arguments": {"features": (4, 8), "hidden": 8, "roi": 3, "mask": 4, "anchors": (4, 6, 9)}},
    "point-rend": {},
}
IGNORED = 9


class Begun(Exception):  # noqa: N818  # no error: it carries what a training begins with
    def __init__(self, setup: Setup, state: TrainState) -> None:
        super().__init__()
        self.setup, self.state = setup, state


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """From whose errors a refiner learns."""
    out = tmp_path_factory.mktemp("model") / "model.safetensors"
    pair = (volume(), Segmentation(balls(), volume().grid))
    return train([pair], out=out, epochs=1, val=0, device="cpu", report=False, patch_zyx=SHAPE, **UNET)


def begun(scheme: str, model: Model, out: Path, monkeypatch: pytest.MonkeyPatch) -> Begun:
    """A training of the scheme before its first step, whose patch is the whole image."""
    labels = balls()
    labels[HIDDEN] = IGNORED
    spec = SCHEMES[scheme]
    others = [volume(seed=seed) for seed in (5, 6)]

    def stop(setup: Setup, state: TrainState, *_: object) -> None:
        raise Begun(setup, state)

    monkeypatch.setattr(fit, "_run", stop)
    knobs: dict[str, Any] = {
        "epochs": 8,
        "val": 0,
        "augment": False,
        "ignore_label": IGNORED,
        "patch_zyx": SHAPE,
        "unlabelled": others if spec.takes_unlabelled else [],
        "target": [dark(seed) for seed in (5, 6)] if spec.takes_target else [],
        "init": model if spec.learns_errors else None,
        **KNOBS.get(scheme, UNET),
    }
    pair = (volume(), Segmentation(labels, volume().grid))
    with pytest.raises(Begun) as caught:
        list(iter_train([pair], scheme=scheme, out=out, device="cpu", precision="fp32", report=False, **knobs))
    return caught.value


def stepped(begin: Begun, batch: PatchBatch, step: int) -> dict[str, torch.Tensor]:
    """All weights after one step on the batch; the training stays where it is."""
    state = copy.deepcopy(begin.state)
    state.step = step
    state.scheme.step(batch, state)
    networks = state.scheme.networks()
    return {f"{name}.{k}": v for name, net in networks.items() for k, v in net.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("scheme", [name for name, spec in SCHEMES.items() if not spec.makes_images])
def test_what_nobody_annotated_is_no_background(
    scheme: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = begun(scheme, model, tmp_path / "m.safetensors", monkeypatch)
    batch = next(batches_of(begin.setup, begin.state))
    unknown = batch.classes == IGNORE
    assert unknown.any()
    assert (batch.classes > 0).any()
    background = replace(batch, classes=batch.classes.clamp_min(0))
    last = begin.setup.budget.total_steps
    assert last is not None
    for step in (0, last - 1) if isinstance(begin.state.scheme, Prepares) else (last - 1,):
        after = stepped(begin, batch, step)
        reacts = not same(after, stepped(begin, background, step))
        assert reacts or (scheme == "cyclegan" and step == 0), "translators need no labels"
        if batch.objects is not None:
            hidden = replace(batch, objects=torch.where(unknown, 7, batch.objects))
            assert same(after, stepped(begin, hidden, step)), "objects where nobody annotated"


@pytest.mark.parametrize("scheme", ["synthesis", "cgan"])
@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"ignore_label": IGNORED}, f"ignore_label {IGNORED}"),
        ({"unlabelled_slices": "ignore"}, "unlabelled_slices ignore"),
        ({"weak": "scribbles", "background_label": 3}, "weak scribbles"),
    ],
)
def test_no_image_is_made_of_labels_that_are_known_in_part(
    scheme: str, knobs: dict[str, Any], says: str, tmp_path: Path
) -> None:
    pair = (volume(), Segmentation(balls(), volume().grid))
    with pytest.raises(InputError, match=f"scheme {scheme} makes images of labels, of which {says} leaves a part"):
        train([pair], out=tmp_path / "m.safetensors", scheme=scheme, **knobs)
    assert list(tmp_path.iterdir()) == []


def test_the_one_case_that_images_are_made_of_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, step = list[bool](), Supervised.step

    def watched(scheme: Supervised, batch: PatchBatch, state: TrainState) -> dict[str, float]:
        seen.append(bool((batch.classes == IGNORE).any()))
        return step(scheme, batch, state)

    monkeypatch.setattr(Supervised, "step", watched)
    labels = np.where(np.arange(SHAPE[1])[:, None] < 10, balls() > 0, 2).astype(np.uint8)  # in every slice
    knobs = UNET | {"epochs": 1, "val": 0.3, "augment": False, "patch_zyx": SHAPE, "made_share": 0.01}
    pair = (volume(), Segmentation(labels, volume().grid))
    out = tmp_path / "m.safetensors"
    events = list(iter_train([pair], out=out, scheme="synthesis", device="cpu", report=False, **knobs))
    assert any("no slice is kept to validate on" in line for line in notices(events))
    assert seen == [False]


def test_clips_leave_out_what_nobody_annotated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither losses nor gradients depend on what a network says there."""
    labels = balls().astype(np.int16)
    labels[HIDDEN] = UNKNOWN
    example = Example(np.asarray(volume().data[0], np.float32), labels, (2.0, 1.0, 1.0))
    clips = filter(None, (clip_of(example, np.random.default_rng(seed), 16) for seed in range(40)))
    images, masks = next(clip for clip in clips if (clip[1][1:3] == UNKNOWN).flatten(1).any(1).all())
    assert set(np.unique(masks.numpy()).tolist()) == {-1.0, 0.0, 1.0}
    arguments = network("mem3d").arguments(width=4, key=8, value=8, decoder=8, blocks=(1, 1, 1), aspp=False)
    torch.manual_seed(0)
    net = network("mem3d").build_from(arguments)
    assert isinstance(net, Mem3D)
    seen: list[torch.Tensor] = []
    told = net.segment

    def segment(*given: Any) -> Any:
        outputs = told(*given)
        outputs.logits.retain_grad()
        seen.append(outputs.logits)
        return outputs

    monkeypatch.setattr(net, "segment", segment)
    clip_losses(net, [(images, masks)], np.random.default_rng(0), far=False)["mask"].backward()  # type: ignore[no-untyped-call]
    for k, logits in enumerate(seen, start=1):
        assert logits.grad is not None
        unknown = masks[k] == UNKNOWN
        assert not logits.grad[0, :, unknown].any()
        assert logits.grad[0, :, ~unknown].any()


def test_no_clip_has_a_slice_that_nobody_annotated() -> None:
    labels = np.full(SHAPE, UNKNOWN, np.int16)
    labels[5:7] = balls()[5:7]
    example = Example(np.asarray(volume().data[0], np.float32), labels, (2.0, 1.0, 1.0))
    for seed in range(6):
        clip = clip_of(example, np.random.default_rng(seed), 16)
        assert clip is None or all((mask != UNKNOWN).any() for mask in clip[1][:LENGTH])
