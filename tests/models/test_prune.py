from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_medseg import registry
from napari_medseg.architectures.blocks.outputs import supervised_logits
from napari_medseg.errors import InputError
from napari_medseg.models.file import FIRST, Channel, Model, ModelSpec, Normalisation, load_model, write_model
from napari_medseg.models.prune import prune_model
from napari_medseg.models.spec import Stage


def write(path: Path, network: str = "unetpp", **arguments: Any) -> Model:
    torch.manual_seed(0)
    full = registry.network(network).arguments("default", **{"channels": (4, 4, 8, 8), **arguments})
    spec = ModelSpec(
        network=network,
        arguments=full,
        channels=(Channel(name="T1", modality="MR"),),
        labels={7: "lesion"},
        patch_zyx=(16, 16, 16),
        mode="3d",
        normalisation=(Normalisation(kind="zscore"),),
        deep_supervision=bool(full["deep_supervision"]),
    )
    return write_model(path, spec, registry.network(network).build_from(full).state_dict())


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_pruned_model_gives_what_its_head_gave(tmp_path: Path, level: int) -> None:
    whole = write(tmp_path / "whole.safetensors")
    pruned = prune_model(whole.path, level, tmp_path / "pruned.safetensors")
    assert load_model(pruned.path) == pruned
    assert pruned.path.stat().st_size < whole.path.stat().st_size
    assert pruned.spec.arguments["channels"] == (4, 4, 8, 8)[: level + 1]
    assert pruned.spec.labels == whole.spec.labels
    x = torch.rand(1, 1, 8, 16, 8)
    with torch.inference_mode():
        outputs = whole.load_network().train()(x)  # instance norm: training changes only what is returned
        heads = supervised_logits(outputs)
        torch.testing.assert_close(pruned.load_network()(x), heads[3 - level])


def test_a_pruned_cascade_keeps_its_first_stage(tmp_path: Path) -> None:
    alone = write(tmp_path / "alone.safetensors")
    weights = alone.load_network().state_dict()
    spec = replace(alone.spec, first=Stage(model=alone.spec, guide="boxes"))
    both = write_model(
        tmp_path / "both.safetensors", spec, weights | {FIRST + k: v.clone() for k, v in weights.items()}
    )
    pruned = prune_model(both, 1, tmp_path / "pruned.safetensors")
    assert pruned.spec.first == spec.first
    assert all(torch.equal(v, weights[k]) for k, v in pruned.load_first().state_dict().items())


@pytest.mark.parametrize(
    ("model", "level", "told"),
    [
        ({"network": "unet"}, 1, "only a unetpp can be pruned; this is a unet"),
        ({"deep_supervision": False}, 1, "only its deepest head exists"),
        ({}, 0, "level must lie in 1 to 3, the depth of the model; got 0"),
        ({}, 4, "level must lie in 1 to 3, the depth of the model; got 4"),
    ],
    ids=["another network", "not supervised", "no level", "deeper than it is"],
)
def test_what_cannot_be_pruned(tmp_path: Path, model: dict[str, Any], level: int, told: str) -> None:
    whole = write(tmp_path / "whole.safetensors", **model)
    with pytest.raises(InputError, match=told):
        prune_model(whole, level, tmp_path / "pruned.safetensors")
    assert not (tmp_path / "pruned.safetensors").exists()
