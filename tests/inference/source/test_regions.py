"""Regions that overlap: as one label map, by their ranks, and each as a layer of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import KeepLargestConnectedComponent
from scipy import ndimage
from torch import nn

import zoo
from napari_medseg import Model, iter_segment, read_segmentation, write
from napari_medseg.cli import main
from napari_medseg.errors import InputError, ModelFileError, NotSupportedError
from napari_medseg.events import Regions
from napari_medseg.foreign import convert_model
from napari_medseg.foreign.documents import Resolver
from napari_medseg.foreign.monai.outputs import output_of, postprocessing_of
from napari_medseg.inference import engine, segment
from napari_medseg.inference.predictor import Predictor
from napari_medseg.inference.results.wanted import region_names, region_paths
from napari_medseg.inference.source import regions
from napari_medseg.inference.source.pipeline import cleaned, largest_kept
from napari_medseg.models.pipeline import Output, Region
from napari_medseg.models.several import ModelSet
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation
from napari_medseg.registry import network
from napari_medseg.volume import Grid, Segmentation, Volume

pytestmark = pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning")


class Levels(nn.Module):
    """Logits of three nested regions of the first channel: above 0.5, above -0.5, above 1.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = x[:, :1]
        return torch.cat([first - 0.5, first + 0.5, first - 1.5], 1)


def test_a_label_map_and_each_region_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = replace(zoo.BUNDLES["brats_mri"], inferer={**zoo.SLIDING, "roi_size": [8, 8, 8]})
    source = zoo.write_bundle(tmp_path / "b", bundle, zoo.source_network(bundle, small=True), small=True)
    model = convert_model(source, tmp_path / "m.safetensors")
    values = np.random.default_rng(0).normal(0, 1, (4, 9, 10, 11)).astype(np.float32)
    values[:, :2] = 0
    volume = Volume(values, Grid((9, 10, 11), np.eye(4)), tuple(c.name for c in model.spec.channels), name="head")
    predictor = Predictor.of(Levels(), model.spec, torch.device("cpu"), "fp32")
    for module in (engine, regions):
        monkeypatch.setattr(module, "load_predictor", lambda *_: predictor)
    inside = values[0] != 0
    normalised = np.where(inside, (values[0] - values[0][inside].mean()) / values[0][inside].std(), 0)
    whole, core, enhancing = normalised > -0.5, normalised > 0.5, normalised > 1.5
    expected = np.where(enhancing, 4, np.where(core, 1, np.where(whole, 2, 0)))
    found = segment(volume, model, device="cpu")
    assert (np.asarray(found.data) == expected).mean() > 0.999
    with pytest.raises(NotSupportedError, match="labels only"):
        segment(volume, model, probabilities=tmp_path / "p.zarr", device="cpu")
    segment(volume, model, out=tmp_path / "l.zarr", resume=True, device="cpu")
    assert np.array_equal(np.asarray(read_segmentation(tmp_path / "l.zarr").data[...]), np.asarray(found.data))
    layers = regions.segment_regions(volume, model, device="cpu")
    assert list(layers) == ["Tumor core", "Whole tumor", "Enhancing tumor"]
    for layer, mask in zip(layers.values(), (core, whole, enhancing), strict=True):
        assert (np.asarray(layer.data) == mask).mean() > 0.999
        assert layer.grid.same_as(volume.grid)
    assert (np.asarray(layers["Whole tumor"].data) & np.asarray(layers["Tumor core"].data)).any()
    for event in iter_segment(volume, model, out=tmp_path / "a.zarr", regions=tmp_path / "parts", device="cpu"):
        if isinstance(event, Regions):
            assert list(event.regions) == list(layers)
    assert np.array_equal(np.asarray(read_segmentation(tmp_path / "a.zarr").data[...]), np.asarray(found.data))
    check_files({name: tmp_path / f"parts/{name.replace(' ', '_')}.zarr" for name in layers}, layers)
    write(tmp_path / "head.nii.gz", volume)
    command = ["segment", str(tmp_path / "head.nii.gz"), "--model", str(model.path), "--device", "cpu", "--resume"]
    command += ["-o", str(tmp_path / "out/"), "--regions"]
    assert main([*command, str(tmp_path / "out")]) == 0
    names = {name: f"head_{name.replace(' ', '_')}.nii.gz" for name in layers}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(["head.nii.gz", *names.values()])
    check_files({name: tmp_path / "out" / file for name, file in names.items()}, layers)
    capsys.readouterr()
    assert main([*command, str(tmp_path / "out")]) == 0
    assert "is done already" in capsys.readouterr().err
    (tmp_path / "out" / names["Whole tumor"]).unlink()
    assert main([*command, str(tmp_path / "out")]) == 0
    check_files({name: tmp_path / "out" / file for name, file in names.items()}, layers)
    for out, told in (("parts.nii.gz", "each region is a file of its own"), ("x{region}.xyz", "no format is written")):
        assert main([*command, str(tmp_path / out)]) == 2
        assert told in capsys.readouterr().err
    with pytest.raises(NotSupportedError, match="neither refined nor numbered"):
        segment(volume, model, regions=tmp_path / "more", instances="components", device="cpu")


def check_files(paths: dict[str, Path], layers: dict[str, Segmentation]) -> None:
    for name, path in paths.items():
        stored = read_segmentation(path)
        assert np.array_equal(np.asarray(stored.data[...]), np.asarray(layers[name].data))
        assert stored.grid.same_as(layers[name].grid)
        assert list(stored.labels.values()) == [name] or path.suffix == ".gz"


def test_names_of_regions_are_safe_and_their_own(tmp_path: Path) -> None:
    model = Model(spec_of_regions(["a/../b", "a/../b", "a/../b 2", ".x"]), tmp_path / "m.safetensors", "0")
    assert region_names(model) == ("a/../b", "a/../b 2", "a/../b 2 2", ".x")
    paths = region_paths(model, str(tmp_path / "{region}.nii.gz"))
    assert [path.name for path in paths.values()] == [
        "a____b.nii.gz",
        "a____b_2.nii.gz",
        "a____b_2_2.nii.gz",
        "_x.nii.gz",
    ]
    with pytest.raises(InputError, match="need names of their own"):
        region_paths(replace(model, spec=spec_of_regions(["a b", "a_b"])), str(tmp_path / "{region}.nii.gz"))


def spec_of_regions(names: list[str]) -> ModelSpec:
    found = tuple(Region(name=name, label=k + 1, rank=k) for k, name in enumerate(names))
    return ModelSpec(
        network="unet3d",
        arguments=network("unet3d").arguments(channels=(4, 8), out_channels=len(names), deep_supervision=False),
        channels=(Channel(name="MR", modality="MR"),),
        labels={k + 1: name for k, name in enumerate(names)},
        patch_zyx=(8, 8, 8),
        normalisation=(Normalisation(kind="none"),),
        output=Output(regions=found),
        deep_supervision=False,
    )


def test_a_model_without_regions_is_refused(tmp_path: Path) -> None:
    bundle = zoo.BUNDLES["spleen_ct"]
    source = zoo.write_bundle(tmp_path / "b", bundle, zoo.source_network(bundle, small=True), small=True)
    model = convert_model(source, tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="no regions that overlap"):
        regions.segment_regions(Volume(np.zeros((1, 4, 4, 4)), Grid((4, 4, 4), np.eye(4)), ("CT",)), model)
    with pytest.raises(InputError, match="no regions that overlap"):
        segment(Volume(np.zeros((1, 4, 4, 4)), Grid((4, 4, 4), np.eye(4))), model, regions=tmp_path / "parts")
    with pytest.raises(NotSupportedError, match="a set of models gives one label per voxel"):
        region_names(ModelSet((), {}))


def test_the_largest_component_of_a_group_is_kept() -> None:
    labels = np.zeros((1, 3, 8), int)
    labels[0, 0] = [1, 1, 2, 0, 1, 0, 2, 2]
    assert largest_kept(labels.copy(), Output(largest=((1, 2),)))[0, 0].tolist() == [1, 1, 2, 0, 0, 0, 0, 0]
    assert largest_kept(labels.copy(), Output(largest=((1,), (2,))))[0, 0].tolist() == [1, 1, 0, 0, 0, 0, 2, 2]


def speckled(seed: int = 0) -> Any:
    """Masks (3, z, y, x) of regions that overlap, in several pieces each."""
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(3, 9, 10, 11)), (0, 1, 1, 1)) > 0.12


@pytest.mark.parametrize(("labels", "each"), [([1], True), ([0, 1, 2], True), ([0, 2], False), (None, True)])
def test_regions_are_cleaned_as_in_monai(labels: list[int] | None, each: bool) -> None:
    kept = [{"_target_": "KeepLargestConnectedComponentd", "applied_labels": labels, "independent": each}]
    activated = [{"_target_": "Activationsd", "sigmoid": True}, {"_target_": "AsDiscreted", "threshold": 0.5}]
    after = postprocessing_of(Path("b"), Resolver(Path("b"), {}), [*activated, *kept])
    names, output = output_of(after, {0: "core", 1: "whole", 2: "active"}, 3)
    masks = speckled()
    expected = KeepLargestConnectedComponent(labels, independent=each)(torch.from_numpy(masks).float()).numpy() > 0
    assert (expected != masks).any()
    found = cleaned(masks, replace(spec_of_regions(list(names.values())), labels=names, output=output))
    assert np.array_equal(masks, expected)
    assert np.array_equal(found, np.where(masks[2], 3, np.where(masks[1], 2, masks[0])))


def test_voxels_that_a_label_map_loses_are_in_no_region() -> None:
    masks = speckled()
    spec = spec_of_regions(["a", "b", "c"])
    before = masks.copy()
    labels = cleaned(masks, replace(spec, output=replace(spec.output, largest=((1, 2, 3),))))
    assert np.array_equal(masks, before & (labels > 0))
    assert (before.any(0) & (labels == 0)).any()


def test_several_largest_components_are_told() -> None:
    kept = {"_target_": "KeepLargestConnectedComponentd", "applied_labels": [1], "num_components": 2}
    after = postprocessing_of(Path("b"), Resolver(Path("b"), {}), [kept])
    assert output_of(after, {}, 3)[1].largest == ()
    assert after.notes == ("the bundle keeps the 2 largest components; here all are kept",)


def test_arguments_of_outputs_that_would_change_labels_are_refused() -> None:
    plain = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True, "dim": 0, "keepdim": True, "logit_thresh": 0.5}
    assert postprocessing_of(Path("b"), Resolver(Path("b"), {}), [plain]).is_discrete
    with pytest.raises(ModelFileError, match=r"'AsDiscreted' cannot be taken: logit_thresh '0\.3' changes what"):
        postprocessing_of(Path("b"), Resolver(Path("b"), {}), [{**plain, "logit_thresh": 0.3}])
