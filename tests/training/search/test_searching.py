"""A search over plans: which it tries, how it halves them, what it says, and what is trained then."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets.dints import TopologySearch

from balls import segmentation, volume
from napari_medseg import Model, iter_train, train
from napari_medseg.cases import Case
from napari_medseg.config import TrainConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Finished, Notice, Progress
from napari_medseg.models.spec import ModelSpec
from napari_medseg.registry import network
from napari_medseg.training import plan as make_plan
from napari_medseg.training import train_folds
from napari_medseg.training.cases import as_cases
from napari_medseg.training.planning.facts import facts_of, labels_of
from napari_medseg.training.planning.rules import plan
from napari_medseg.training.search import searching
from napari_medseg.training.search.candidates import AS_PLANNED, Candidate, candidates
from napari_medseg.training.search.searching import Tried, affordable, best_of, rounds_of
from napari_medseg.training.search.topology import arguments_of

FEW: dict[str, Any] = {
    "device": "cpu",
    "precision": "fp32",
    "epochs": 2,
    "val": 0.34,
    "batch_size": 1,
    "report": False,
    "patch_zyx": (8, 16, 16),  # given, so that a search of two plans tries another size of the network
}


def pairs() -> list[Any]:
    return [(volume(seed=seed), segmentation()) for seed in range(3)]


def tried_for(name: str = "unet3d", **knobs: Any) -> list[Candidate]:
    config = configured(TrainConfig, None, knobs)
    facts = [facts_of(case, config.loss, np.random.default_rng(0)) for case in as_cases(pairs())]
    return candidates(plan(facts, name, config, "cpu"), facts, config, "cpu", labels_of(facts))


def test_the_plan_of_the_cases_comes_first_and_no_two_are_the_same() -> None:
    found = tried_for()
    assert found[0].name == AS_PLANNED
    names = [candidate.name for candidate in found]
    assert {"half the features", "twice the features", "one level more", "half the patch", "max-pooling"} <= set(names)
    assert len({(c.spec.patch_zyx, str(c.spec.arguments)) for c in found}) == len(found)
    planned, wide = found[0].spec, found[names.index("twice the features")].spec
    assert wide.arguments["channels"] == tuple(2 * n for n in planned.arguments["channels"])  # type: ignore[union-attr]
    assert all(c.spec.spacing_zyx_mm == planned.spacing_zyx_mm for c in found)
    assert all(c.spec.normalisation == planned.normalisation for c in found)


def test_what_the_user_gave_is_not_varied() -> None:
    found = tried_for(patch_zyx=(8, 8, 8), arguments={"channels": (4, 8), "deep_supervision": False})
    assert {c.spec.patch_zyx for c in found} == {(8, 8, 8)}
    assert {c.spec.arguments["channels"] for c in found} == {(4, 8)}
    assert [c.name for c in found] == [AS_PLANNED, "max-pooling"]


def test_a_network_without_features_per_level_has_candidates_too() -> None:
    assert "a residual encoder" in [c.name for c in tried_for("nnunet")]


def test_each_round_trains_half_of_the_plans() -> None:
    assert rounds_of(9) == [9, 5, 3, 2]
    assert rounds_of(2) == [2]
    assert affordable(9, 3600) == 9
    assert affordable(9, 60) == 4  # two rounds of 30 s: 7.5 s each
    assert affordable(9, 0) == 2


def test_the_plan_of_the_cases_stays_in_every_round_and_wins_where_none_is_better() -> None:
    spec = tried_for()[0].spec

    def tried(**dice: float) -> list[Tried]:
        return [Tried(Candidate(name.replace("_", " "), spec), value) for name, value in dice.items()]

    assert [c.name for c in best_of(tried(as_planned=0.1, a=0.5, b=0.4, c=0.7), 2)] == ["c", AS_PLANNED]
    assert [c.name for c in best_of(tried(a=0.5, as_planned=0.5, b=nan), 3)] == [AS_PLANNED, "a", "b"]
    assert [c.name for c in best_of(tried(as_planned=nan, a=0.0), 2)] == ["a", AS_PLANNED]


def judged_by(monkeypatch: pytest.MonkeyPatch, wide: float) -> None:
    """Let a validation of a search find 0.5 for the plan of the cases, and `wide` for others."""

    def judge(cases: list[Case], spec: ModelSpec, *_: object) -> Generator[Event, None, dict[int, float]]:
        yield Progress(1, 1, "judged")
        return {1: 0.5 if spec.arguments["channels"] == (16, 32) else wide}

    monkeypatch.setattr(searching, "validate", judge)


@pytest.mark.parametrize(("wide", "said"), [(0.6, "half the features is better"), (0.4, "no plan beats that of")])
def test_the_winner_is_trained_and_a_search_that_finds_nothing_says_so(
    wide: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by(monkeypatch, wide)
    events = list(iter_train(pairs(), out=tmp_path / "m.safetensors", search=0.002, **FEW))
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert any(said in notice and "0.5000" in notice and f"{wide:.4f}" in notice for notice in notices)
    assert isinstance(events[-1], Finished)
    assert events[-1].result.spec.arguments["channels"] == ((8, 16) if wide > 0.5 else (16, 32))


class Killed(BaseException):
    """Ends a training where it stands."""


def test_a_killed_training_goes_on_by_the_plan_that_its_search_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by(monkeypatch, 0.6)
    options = FEW | {"checkpoint_minutes": 0, "search": 0.002}
    out = tmp_path / "m.safetensors"
    with suppress(Killed):
        for event in iter_train(pairs(), out=out, **options):
            if getattr(event, "step", 0) == 2:
                raise Killed
    judged_by(monkeypatch, 0.0)  # another search would find the plan of the cases
    resumed = train(pairs(), out=out, resume=True, **options)
    whole = train(pairs(), out=tmp_path / "whole.safetensors", arguments={"channels": (8, 16)}, **FEW)
    assert weights(resumed).keys() == weights(whole).keys()
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(resumed).items())


def weights(model: Model) -> dict[str, torch.Tensor]:
    return model.load_network().state_dict()


def test_what_a_topology_decodes_to_is_a_network_of_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    space = TopologySearch(channel_mul=0.125, num_blocks=2, num_depths=2, spatial_dims=3)
    capsys.readouterr()
    found = network("dints").build(in_channels=1, out_channels=3, spatial_dims=3, **arguments_of(space))
    assert found(torch.zeros(1, 1, 9, 10, 11)).shape == (1, 3, 9, 10, 11)


def test_a_network_is_found_tried_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def judge(cases: list[Case], spec: ModelSpec, *_: object) -> Generator[Event, None, dict[int, float]]:
        yield Progress(1, 1, "judged")
        return {1: float(spec.network == "dints")}

    monkeypatch.setattr(searching, "validate", judge)
    options = FEW | {"search": 0.01, "search_network": "dints", "epochs": 1, "validations": 0}
    model = train(pairs(), out=tmp_path / "m.safetensors", **options)
    assert model.spec.network == "dints"
    assert sum(model.spec.arguments["paths"]) > 0  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"val": 0.0}, "val 0, since validation cases judge the plans: leave one of them out"),
        ({"cascade": "coarse-to-fine"}, "cascade coarse-to-fine"),
        ({"scheme": "synthesis"}, "scheme synthesis"),
        ({"init": "nowhere.safetensors"}, "a model to start from"),
        ({"plan": "nowhere.json"}, "a plan"),
    ],
)
def test_what_a_search_does_not_go_with_is_refused(knobs: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"search tries plans of one network, and does not go with {reason}"):
        train(pairs(), out=tmp_path / "m.safetensors", search=1, **knobs)


def test_a_plan_and_folds_are_made_without_a_search(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give search to the training"):
        make_plan(pairs(), search=1)
    with pytest.raises(InputError, match="folds follow one plan: leave search out"):
        train_folds(pairs(), out=tmp_path / "m.json", folds=3, search=1)


def test_a_network_to_find_needs_minutes() -> None:
    with pytest.raises(InputError, match="search_network is of a search"):
        configured(TrainConfig, None, {"search_network": "dints"})
