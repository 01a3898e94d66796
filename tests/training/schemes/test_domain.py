"""Schemes for images of another domain: what they learn, what they refuse, and that they go on where they stopped."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pytest
import torch

from balls import SHAPE, segmentation, volume
from napari_medseg import iter_train, load_model, segment, train
from napari_medseg.cases import Case
from napari_medseg.config import LossConfig, TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Notice, TrainProgress, Validated
from napari_medseg.training.cases import as_cases
from napari_medseg.training.patches import PatchBatch
from napari_medseg.training.planning.facts import CaseFacts, facts_of
from napari_medseg.training.planning.rules import plan
from napari_medseg.training.saving.saved import load
from napari_medseg.training.schemes.domain import cyclegan
from napari_medseg.training.schemes.domain.adapting import learn_from
from napari_medseg.training.schemes.domain.statistics import in_another_contrast, quantiles, towards
from napari_medseg.training.schemes.domain.target import adapted_spec, renormalised, require_other_images
from scheme_suite import SchemeSuite, Staged, dark

if TYPE_CHECKING:
    from napari_medseg.training.state import TrainState

TINY: dict[str, Any] = {
    "epochs": 4,
    "val": 0,
    "device": "cpu",
    "precision": "fp32",
    "report": False,
    "patch_zyx": SHAPE,
    "batch_size": 1,
}
SCHEMES: dict[str, dict[str, Any]] = {
    "adapt-statistics": {"arguments": {"channels": (4, 8), "norm": "batch"}},
    "cyclegan": {"arguments": {"channels": (4, 8)}, "first_share": 0.5},
}


class TestAdaptStatistics(SchemeSuite):
    """On a network with batch norms."""

    scheme = "adapt-statistics"
    arguments: ClassVar = {"channels": (4, 8), "norm": "batch"}
    kept: ClassVar = {"network", "adapted"}
    parts: ClassVar = {"loss"}


class TestCycleGan(Staged):
    scheme = "cyclegan"
    knobs: ClassVar = {"first_share": 0.02}
    kept: ClassVar = {"network", "to_target", "to_source", "judge_target", "judge_source"}
    parts: ClassVar = {"loss"}


def pairs(channels: int = 1) -> list[Any]:
    return [(volume(channels), segmentation())]


def options(scheme: str, /, **changes: Any) -> dict[str, Any]:
    return {"scheme": scheme, "target": [dark(5), dark(6)], **TINY, **SCHEMES[scheme], **changes}


def test_translators_are_not_validated_and_what_ends_among_them_says_so(tmp_path: Path) -> None:
    both = [(volume(seed=seed), segmentation()) for seed in range(2)]
    knobs = options("cyclegan", val=0.5, validations=2, epochs=8)
    events = list(iter_train(both, out=tmp_path / "m.safetensors", **knobs))
    steps = [set(event.losses) for event in events if isinstance(event, TrainProgress)]
    assert steps == [{"deceive", "cycle", "identity", "judge target", "judge source"}] * 4 + [{"loss"}] * 4
    model = load_model(tmp_path / "m.safetensors")
    assert model.spec.normalisation[0].kind == "zscore"
    assert segment(dark(9), model, device="cpu").data.shape == SHAPE
    told = [event.message for event in events if isinstance(event, Notice)]
    assert told == ["step 4: what translates images is trained; now the network"]
    # The share of the budget between two validations is counted from the network's first step on.
    assert [event.step for event in events if isinstance(event, Validated)] == [8]
    early = iter_train(both, out=tmp_path / "n.safetensors", should_stop=lambda: True, **knobs)
    assert any("the network has learned nothing" in e.message for e in early if isinstance(e, Notice))


def test_translators_see_no_more_of_the_labels_than_judges_of_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, some = list[torch.Tensor](), cyclegan.CycleGan._some

    def watched(scheme: cyclegan.CycleGan, volumes: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
        seen.append(volumes)
        return some(scheme, volumes, draw)

    monkeypatch.setattr(cyclegan.CycleGan, "_some", watched)
    knobs = {"epochs": 1, "first_share": 0.9, "foreground": 1.0, "augment": False, "patch_zyx": (4, 8, 8)}
    train(pairs(), out=tmp_path / "m.safetensors", **options("cyclegan", **knobs))
    shows_a_ball = [bool(source.amax() > 1.5) for source in seen[::2]]
    assert 0 < sum(shows_a_ball) < len(shows_a_ball)


def test_a_network_is_kept_with_the_statistics_of_the_target(tmp_path: Path) -> None:
    out, count = tmp_path / "m.safetensors", itertools.count(1)
    train(pairs(), out=out, **options("adapt-statistics", should_stop=lambda: next(count) >= 2))
    saved = load(tmp_path / "m.training")
    assert saved is not None
    network, adapted = (saved.state["networks"][name] for name in ("network", "adapted"))
    same = {name for name in network if torch.equal(network[name], adapted[name])}
    assert {name for name in network if "running" not in name} <= same
    assert not {name for name in network if "running_mean" in name} & same


def test_an_early_end_keeps_the_last_weights(tmp_path: Path) -> None:
    both, count = [(volume(seed=seed), segmentation()) for seed in range(2)], itertools.count(1)
    knobs = options("adapt-statistics", val=0.5, validations=4, epochs=8, should_stop=lambda: next(count) == 3)
    kept = train(both, out=tmp_path / "m.safetensors", **knobs).load_network().state_dict()
    last = load_model(tmp_path / "m.training" / "last.safetensors").load_network().state_dict()
    assert all(torch.equal(tensor, last[name]) for name, tensor in kept.items()), "labelled cases judge nothing"


def test_a_missing_channel_stays_missing() -> None:
    seen: list[torch.Tensor] = []

    def step(batch: PatchBatch, _: Any) -> dict[str, float]:
        seen.append(batch.images)
        return {}

    images = torch.rand(2, 2, 3, 4, 5)
    images[1, 0] = 0
    batch = PatchBatch(images, torch.zeros((2, 3, 4, 5), dtype=torch.long), ("a", "b"))
    others = images + 1
    learn_from(step, batch, others, state=cast("TrainState", None))
    assert torch.equal(seen[0][0], others[0])
    assert torch.equal(seen[0][1, 1], others[1, 1])
    assert not seen[0][1, 0].any()


def test_intensities_move_towards_the_other_histogram() -> None:
    values = np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32)
    other = 2 * values + 1
    image = torch.from_numpy(values)
    tables = quantiles(values), quantiles(other)
    assert torch.equal(towards(image, *tables, 0.0), image)
    torch.testing.assert_close(towards(image, *tables, 1.0), torch.from_numpy(other), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(towards(image, *tables, 0.5), 1.5 * image + 0.5, atol=1e-4, rtol=1e-4)
    flat = np.zeros_like(values)  # half of an image is often one value
    assert torch.isfinite(towards(torch.from_numpy(flat), quantiles(flat), tables[0], 1.0)).all()


def test_tissues_get_a_random_order_of_brightness_at_intensities_of_the_target() -> None:
    values = np.repeat(np.arange(5, dtype=np.float32), 64).reshape(1, 5, 8, 8)
    other = np.random.default_rng(0).normal(100, 5, (1, 5, 8, 8)).astype(np.float32)
    image, tables = torch.from_numpy(values), (quantiles(values), quantiles(other))
    orders = set[tuple[int, ...]]()
    for seed in range(40):
        made = in_another_contrast(image, *tables, np.random.default_rng(seed))
        assert float(other.min()) <= float(made.min()) < float(made.max()) <= float(other.max())
        tissues = made.flatten(2)[0]
        assert torch.equal(tissues.amin(1), tissues.amax(1)), "a tissue stays one"
        orders.add(tuple(tissues[:, 0].argsort().tolist()))
    assert len(orders) > 10
    flat = np.zeros_like(values)
    tables = quantiles(flat), quantiles(other)
    assert torch.isfinite(in_another_contrast(torch.from_numpy(flat), *tables, np.random.default_rng(0))).all()


@pytest.mark.slow
def test_translators_learn_to_invert(tmp_path: Path) -> None:
    steps = [
        event.losses
        for event in iter_train(
            pairs(), out=tmp_path / "m.safetensors", **options("cyclegan", epochs=200, first_share=0.9, augment=False)
        )
        if isinstance(event, TrainProgress)
    ]
    cycles = [losses["cycle"] for losses in steps if "cycle" in losses]
    fifth = len(cycles) // 5  # a step sees other slices than the last: single losses say little
    assert sum(cycles[-fifth:]) < 0.8 * sum(cycles[:fifth])


def test_a_judge_that_diverges_ends_it_and_a_finite_model_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, calls = cyclegan._distance, itertools.count(1)

    def diverging(judgement: torch.Tensor, wanted: float) -> torch.Tensor:
        return measured(judgement, wanted) * (math.nan if next(calls) > 12 else 1)

    monkeypatch.setattr(cyclegan, "_distance", diverging)
    with pytest.raises(InputError, match="were not finite for 10 steps"):
        train(pairs(), out=tmp_path / "m.safetensors", **options("cyclegan", epochs=60, checkpoint_minutes=0))
    saved = load(tmp_path / "m.training")
    assert saved is not None
    assert saved.state["step"] == 2
    assert all(torch.isfinite(tensor).all() for net in saved.state["networks"].values() for tensor in net.values())
    left = load_model(tmp_path / "m.training" / "last.safetensors").load_network()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in left.state_dict().values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheme": "supervised", "first_share": None}, "scheme supervised takes no target images"),
        ({"target": [dark(channels=2)]}, "target image 0 has 2 channels, the labelled cases have 1"),
        ({"target": [dark(), volume()]}, "target image 1 is the labelled case case 0"),
        ({"target": [replace(dark(), data=np.full((1, *SHAPE), 3))]}, "target image 0 is the same everywhere"),
        ({"cascade": "detect"}, "a cascade is trained on one domain"),
        ({"scheme": "adapt-statistics"}, "scheme adapt-statistics has no use for first_share"),
        ({"fusion": "layer"}, "fusion is for images of several channels"),
        ({"modality_dropout": 0.5}, "modality_dropout is for images of several channels"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(pairs(), out=tmp_path / "m.safetensors", **options("cyclegan", **changes))
    assert not (tmp_path / "m.training").exists()  # no step has been taken


def facts_for(*cases: Case) -> list[CaseFacts]:
    return [facts_of(case, LossConfig(unlabelled_slices="ignore"), np.random.default_rng(0)) for case in cases]


def test_a_labelled_target_is_found_where_a_case_has_no_facts() -> None:
    idle, labelled = as_cases([(volume(seed=1), segmentation()), *pairs()])
    target = replace(labelled, name="again")
    with pytest.raises(InputError, match="target again is the labelled case case 1"):
        require_other_images([idle, labelled], facts_for(labelled), [target], facts_for(target))


def test_a_rule_is_kept_where_both_domains_are_ct() -> None:
    ct = replace(volume(), data=np.asarray(volume().data) - 1000)
    (own,), (other,) = (facts_for(*as_cases([(image, segmentation())])) for image in (ct, dark()))
    spec = plan([own], "unet3d", TrainConfig(), "cpu")
    kept, changed = adapted_spec(spec, [own], [own]), adapted_spec(spec, [own], [other])
    assert spec.normalisation[0].kind == "clip_zscore"
    assert (kept.normalisation, kept.channels) == (spec.normalisation, spec.channels)
    assert (changed.normalisation[0].kind, changed.channels[0].modality) == ("zscore", "other")
    assert list(renormalised(spec, kept)) == []
    (told,) = renormalised(spec, changed)
    assert "normalised by itself" in told
    assert adapted_spec(spec, [own], []) is spec


@pytest.mark.parametrize("fusion", ["layer", "decision"])
def test_a_fused_model_is_a_model_file_like_others(fusion: str, tmp_path: Path) -> None:
    arguments = {"channels": (4, 8)}
    knobs: dict[str, Any] = {**TINY, "epochs": 2, "arguments": arguments, "fusion": fusion, "modality_dropout": 0.5}
    model = train(pairs(2), out=tmp_path / "m.safetensors", **knobs)
    read = load_model(model.path)
    assert read.spec.arguments["fusion"] == fusion
    assert read.spec.training.fingerprint["modality_dropout"] == 0.5
    whole = segment(volume(2, seed=1), read, device="cpu")
    assert whole.data.shape == SHAPE
    name = read.spec.channels[1].name
    assert segment(volume(1, seed=1), read, device="cpu", missing=(name,)).data.shape == SHAPE
    further = train(pairs(2), out=tmp_path / "n.safetensors", init=read, **{**TINY, "epochs": 1})
    assert further.spec.arguments["fusion"] == fusion
    other = "decision" if fusion == "layer" else "layer"
    with pytest.raises(InputError, match=f"fusion {other} does not go with the model to start from"):
        train(pairs(2), out=tmp_path / "o.safetensors", init=read, **{**TINY, "fusion": other})
    with pytest.raises(InputError, match="keep them: give images with the channels"):
        train(pairs(3), out=tmp_path / "o.safetensors", init=read, **TINY)
