from __future__ import annotations

import copy
import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_medseg.errors import MedsegError, MedsegWarning, NotSupportedError
from napari_medseg.foreign import convert_model
from napari_medseg.inference import segment
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Normalisation
from napari_medseg.volume import Grid, Volume
from network_suite import noise
from nnunet_peer import ARCH_KWARGS, DATASET, PLANS, PlainConvUNet, write_folder

NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"
pytestmark = pytest.mark.filterwarnings("ignore:.*nnU-Net:napari_medseg.errors.MedsegWarning")


@pytest.fixture
def peer() -> PlainConvUNet:
    torch.manual_seed(1)
    return PlainConvUNet(1, 3).eval()


def changed(table: Any, change: Callable[[Any], object]) -> Any:
    copied = copy.deepcopy(table)
    change(copied)
    return copied


def test_logits_and_preprocessing_are_the_sources(tmp_path: Path, peer: PlainConvUNet) -> None:
    model = convert_model(write_folder(tmp_path / NAME, peer), tmp_path / "m.safetensors")
    x = noise(1, 1, (8, 16, 24))
    with torch.inference_mode():
        assert torch.equal(model.load_network()(x), peer(x))
    spec = model.spec
    assert spec.normalisation == (Normalisation(kind="clip_zscore", low=-20, high=180, mean=80, std=40),)
    assert spec.recipe == Recipe(mirror_axes=(0, 1, 2), mirrored=True, resampling="nnunet", statistics="box")
    assert not spec.has_pipeline, "streamed"
    assert spec.labels == {1: "liver", 2: "tumour"}
    assert spec.channels[0].modality == "CT"
    assert (spec.patch_zyx, spec.spacing_zyx_mm, spec.orientation) == ((8, 16, 16), (2.5, 1.0, 1.0), None)


def test_a_renamed_folder_is_known_by_its_checkpoint(tmp_path: Path, peer: PlainConvUNet) -> None:
    folder = write_folder(tmp_path / "renamed", peer, trainer="nnUNetTrainerOther")
    with pytest.raises(NotSupportedError, match="trainer 'nnUNetTrainerOther'"):
        convert_model(folder, tmp_path / "m.safetensors")


def test_it_segments_as_the_source_network_does(tmp_path: Path, peer: PlainConvUNet) -> None:
    model = convert_model(write_folder(tmp_path / NAME, peer), tmp_path / "m.safetensors")
    hu = np.random.default_rng(0).integers(-100, 300, (8, 16, 16)).astype(np.int16)
    grid = Grid((8, 16, 16), np.diag([2.5, 1, 1, 1]))
    normalised = (np.clip(hu, -20, 180).astype(np.float32) - 80) / 40
    x = torch.from_numpy(normalised)[None, None]
    with torch.inference_mode():
        mirrors = [dims for n in range(4) for dims in itertools.combinations((2, 3, 4), n)]
        total = torch.stack([peer(x.flip(dims)).flip(dims) for dims in mirrors]).sum(0)
    expected = total.argmax(1)[0].numpy()
    found = segment(Volume(hu[None], grid, ("CT",)), model, device="cpu")
    assert (np.asarray(found.data) == expected).mean() > 0.999, "equal but for ties within rounding"
    assert len(np.unique(expected)) == 3


def test_what_is_left_out_is_told(tmp_path: Path, peer: PlainConvUNet) -> None:
    folder = write_folder(tmp_path / NAME, peer)
    (folder / "fold_1").mkdir()
    (folder / "postprocessing.pkl").write_bytes(b"")
    with pytest.warns(MedsegWarning) as told:
        convert_model(folder, tmp_path / "m.safetensors")
    text = " ".join(str(w.message) for w in told)
    assert "no checkpoint is in fold_1" in text
    assert "postprocessing.pkl is a pickle and is not opened" in text


def test_reoriented_and_transposed_images(tmp_path: Path, peer: PlainConvUNet) -> None:
    plans = changed(PLANS, lambda p: p.update(image_reader_writer="NibabelIOWithReorient", transpose_forward=[1, 0, 2]))
    model = convert_model(write_folder(tmp_path / NAME, peer, plans=plans), tmp_path / "m.safetensors")
    assert model.spec.orientation == "ASR"
    plain = changed(PLANS, lambda p: p.update(transpose_forward=[1, 0, 2]))
    folder = write_folder(tmp_path / "x" / NAME, peer, plans=plain)
    assert convert_model(folder, tmp_path / "plain.safetensors").spec.orientation == "yzx"


def test_plans_of_older_versions(tmp_path: Path, peer: PlainConvUNet) -> None:
    old = {
        "patch_size": [8, 16, 16],
        "spacing": [2.5, 1.0, 1.0],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "conv_kernel_sizes": ARCH_KWARGS["kernel_sizes"],
        "pool_op_kernel_sizes": ARCH_KWARGS["strides"],
    }
    plans = changed(PLANS, lambda p: p["configurations"].update({"3d_fullres": old}))
    model = convert_model(write_folder(tmp_path / NAME, peer, plans=plans), tmp_path / "m.safetensors")
    x = noise(1, 1, (8, 16, 16))
    with torch.inference_mode():
        assert torch.equal(model.load_network()(x), peer(x))


def _architecture(plans: Any) -> Any:
    return plans["configurations"]["3d_fullres"]["architecture"]


REFUSED: dict[str, tuple[Any, Any, str, str, str]] = {
    "cascade": (PLANS, DATASET, "3d_cascade_fullres", "nnUNetTrainer", "its first, '3d_lowres', must lie beside it"),
    "trainer": (PLANS, DATASET, "3d_fullres", "nnUNetTrainerUMambaBot", "trainer 'nnUNetTrainerUMambaBot'"),
    "architecture": (
        changed(PLANS, lambda p: _architecture(p).update(network_class_name="my.evil.Net")),
        DATASET,
        "3d_fullres",
        "nnUNetTrainer",
        "network 'Net' cannot be taken",
    ),
    "normalisation": (
        changed(
            PLANS,
            lambda p: p["configurations"]["3d_fullres"].update(normalization_schemes=["MyNormalization"]),
        ),
        DATASET,
        "3d_fullres",
        "nnUNetTrainer",
        "normalisation 'MyNormalization' cannot be taken",
    ),
    "norm": (
        changed(PLANS, lambda p: _architecture(p)["arch_kwargs"].update(norm_op="torch.nn.GroupNorm")),
        DATASET,
        "3d_fullres",
        "nnUNetTrainer",
        "norm_op 'torch.nn.GroupNorm'",
    ),
}


@pytest.mark.parametrize(("plans", "dataset", "configuration", "trainer", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_taken_is_named(
    tmp_path: Path, peer: PlainConvUNet, plans: Any, dataset: Any, configuration: str, trainer: str, told: str
) -> None:
    name = f"{trainer}__nnUNetPlans__{configuration}"
    folder = write_folder(tmp_path / name, peer, plans=plans, dataset=dataset)
    with pytest.raises(MedsegError, match=told):
        convert_model(folder, tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "not a name": (lambda a: a.update(conv_op=[]), r"conv_op \[\] cannot be taken"),
    "features": (lambda a: a.update(features_per_stage=[4, 8, 10**9]), "features must lie in"),
    "strides": (lambda a: a.update(strides=[[1, 1, 1]] * 2), "strides needs 9 numbers"),
    "kernel": (lambda a: a.update(kernel_sizes="$exec"), "whole numbers is expected"),
    "missing": (lambda a: a.pop("n_conv_per_stage"), "lacks 'n_conv_per_stage'"),
    "other features": (
        lambda a: a.update(features_per_stage=[4, 8, 16]),
        r"tensor 'encoder.stages.2.0.convs.0.conv.weight'",
    ),
}


@pytest.mark.parametrize(("change", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_plans_out_of_bounds_are_refused(
    tmp_path: Path, peer: PlainConvUNet, change: Callable[[Any], object], told: str
) -> None:
    plans = changed(PLANS, lambda p: change(_architecture(p)["arch_kwargs"]))
    with pytest.raises(MedsegError, match=told):
        convert_model(write_folder(tmp_path / NAME, peer, plans=plans), tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_logits_equal_those_of_nnunets_own_network(tmp_path: Path, name: str) -> None:
    unet = pytest.importorskip(
        "dynamic_network_architectures.architectures.unet", reason="nnU-Net's networks are not here"
    )
    kwargs = dict(ARCH_KWARGS)
    if name == "ResidualEncoderUNet":
        kwargs["n_blocks_per_stage"] = kwargs.pop("n_conv_per_stage")
    classes = {
        key: getattr(importlib.import_module(kwargs[key].rsplit(".", 1)[0]), kwargs[key].rsplit(".", 1)[1])
        for key in ("conv_op", "norm_op", "nonlin")
    }
    torch.manual_seed(2)
    peer = getattr(unet, name)(**{**kwargs, **classes, "input_channels": 1, "num_classes": 3}).eval()
    plans = changed(
        PLANS,
        lambda p: _architecture(p).update(
            network_class_name=f"dynamic_network_architectures.architectures.unet.{name}", arch_kwargs=kwargs
        ),
    )
    model = convert_model(write_folder(tmp_path / NAME, peer, plans=plans), tmp_path / "m.safetensors")
    x = noise(1, 1, (8, 16, 24))
    with torch.inference_mode():
        torch.testing.assert_close(model.load_network()(x), peer(x), rtol=0, atol=1e-6)
