"""nnU-Net folders of more than one network: folds, cascades, regions, and the parts of TotalSegmentator."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.transform import resize

from napari_medseg import read
from napari_medseg.cli import main
from napari_medseg.errors import MedsegError, ModelFileError
from napari_medseg.foreign import convert_model
from napari_medseg.foreign.asked import Asked
from napari_medseg.foreign.convert import understood, write
from napari_medseg.foreign.look import look
from napari_medseg.foreign.nnunet.trainers import has_batch_norm, keeps_architecture, mirrors
from napari_medseg.geometry import Shape3, Triple
from napari_medseg.inference import engine, segment
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.file import load_model
from napari_medseg.models.pipeline import Region
from napari_medseg.volume import Grid, Volume
from nnunet_peer import PLANS, PlainConvUNet, write_folder

NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"
pytestmark = pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning")


def changed(table: Any, change: Callable[[Any], object]) -> Any:
    copied = copy.deepcopy(table)
    change(copied)
    return copied


def peer(classes: int = 3, channels: int = 1, *, seed: int | None = None) -> PlainConvUNet:
    torch.manual_seed(classes if seed is None else seed)
    return PlainConvUNet(channels, classes).eval()


def test_folds_become_a_set_that_is_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / NAME, peer())
    add_fold(folder, peer(seed=7))
    assert main(["convert", str(folder), "-o", str(tmp_path / "balls.safetensors")]) == 0
    document = json.loads((tmp_path / "balls.json").read_text())
    assert [member["model"] for member in document["members"]] == ["balls_fold0.safetensors", "balls_fold1.safetensors"]
    assert document["combine"] == "average"
    specs = [load_model(tmp_path / member["model"]).spec for member in document["members"]]
    assert [dict(spec.labels) for spec in specs] == [{1: "liver", 2: "tumour"}] * 2
    assert "a set of these 2 models" in capsys.readouterr().out
    image, logits = noise_of((9, 18, 17), (2.5, 1.0, 1.0)), []
    for name in ("balls_fold0", "balls_fold1"):
        labels, store = tmp_path / f"{name}_labels.zarr", tmp_path / f"{name}.zarr"
        segment(image, tmp_path / f"{name}.safetensors", out=labels, probabilities=store, device="cpu")
        logits.append(np.log(np.asarray(read(store).data[...])))
    found = np.asarray(segment(image, tmp_path / "balls.json", device="cpu").data[...])
    assert len(np.unique(found)) == 3
    assert (found == (logits[0] + logits[1]).argmax(0)).mean() > 0.999
    assert (found == logits[0].argmax(0)).mean() < 0.99


def add_fold(folder: Path, network: PlainConvUNet, **options: Any) -> None:
    """Give a results folder a second fold."""
    second = write_folder(folder.parent / "second", network, **options)
    (second / "fold_0").rename(folder / "fold_1")
    shutil.rmtree(second)


def noise_of(shape: Shape3, spacing: Triple) -> Volume:
    values = np.random.default_rng(0).normal(80, 60, (1, *shape)).astype(np.float32)
    return Volume(values, Grid.from_spacing(shape, spacing), ("CT",))


def leaving_background(network: PlainConvUNet) -> PlainConvUNet:
    """The network with a leaning towards the background, which its random weights would hardly find."""
    head = network.decoder.seg_layers[-1]
    assert isinstance(head, torch.nn.Conv3d)
    assert head.bias is not None
    head.bias.data[0] += 1
    return network


def total_segmentator(root: Path) -> Path:
    """Folders named as TotalSegmentator's, with two short parts, the 3 mm model and the 6 mm one of its crop."""
    parts = {
        "Dataset291_TotalSegmentator_part1_organs_1559subj": ["spleen", "kidney_right", "kidney_left"],
        "Dataset292_TotalSegmentator_part2_vertebrae_1532subj": ["sacrum", "vertebrae_S1"],
        "Dataset297_TotalSegmentator_total_3mm_1559subj": ["spleen", "kidney_right", "kidney_left", "sacrum"],
    }
    for name, labels in parts.items():
        fast = "3mm" in name
        trainer = "nnUNetTrainer_4000epochs_NoMirroring" if fast else "nnUNetTrainerNoMirroring"
        spacing = [3.0] * 3 if fast else [1.5] * 3

        def plan(plans: Any, name: str = name, spacing: list[float] = spacing) -> None:
            plans.update(dataset_name=name, image_reader_writer="NibabelIOWithReorient")
            plans["configurations"]["3d_fullres"].update(
                spacing=spacing,
                resampling_fn_data="resample_data_or_seg_to_shape",
                resampling_fn_data_kwargs={"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
            )

        dataset = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, **{n: k + 1 for k, n in enumerate(labels)}},
        }
        write_folder(
            root / name / f"{trainer}__nnUNetPlans__3d_fullres",
            leaving_background(peer(len(labels) + 1)),
            plans=changed(PLANS, plan),
            dataset=dataset,
            trainer=trainer,
        )
    return root


def test_the_parts_of_totalsegmentator_become_one_set(tmp_path: Path) -> None:
    root = total_segmentator(tmp_path / "results")
    with understood(root, Asked()) as found:
        written = write(found, tmp_path / "total.safetensors")
    labels = [dict(model.spec.labels) for model in written.models]
    assert labels == [{1: "spleen", 2: "kidney_right", 3: "kidney_left"}, {4: "sacrum", 5: "vertebrae_S1"}]
    assert written.set_path is not None
    document = json.loads(written.set_path.read_text())
    assert document == {
        "napari_medseg_set": 1,
        "members": [
            {"model": "total_part1_organs.safetensors", "labels": {"1": 1, "2": 2, "3": 3}},
            {"model": "total_part2_vertebrae.safetensors", "labels": {"4": 4, "5": 5}},
        ],
    }
    assert all(model.spec.recipe.mirror_axes == () for model in written.models)
    assert all(model.spec.orientation == "SAR" for model in written.models)
    image = noise_of((9, 17, 16), (1.5, 1.5, 1.5))
    organs, bones = (np.asarray(segment(image, model, device="cpu").data[...]) for model in written.models)
    merged = segment(image, written.set_path, device="cpu")
    assert np.array_equal(np.asarray(merged.data[...]), np.where(organs > 0, organs, bones))
    assert dict(merged.labels) == labels[0] | labels[1]
    assert np.unique(bones[organs == 0]).size > 1, "the second part labels what the first one leaves"


def test_what_a_part_keeps_the_largest_component_of_has_the_ids_of_the_set(tmp_path: Path) -> None:
    root = total_segmentator(tmp_path / "results")
    (second,) = root.glob("Dataset292*/*")
    document = {
        "postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"],
        "postprocessing_kwargs": [{"labels_or_regions": [1]}],
    }
    (second / "postprocessing.json").write_text(json.dumps(document))
    with understood(root, Asked()) as found:
        models = write(found, tmp_path / "total.safetensors").models
    assert [model.spec.output.largest for model in models] == [(), ((4,),)]
    document["postprocessing_kwargs"] = [{"labels_or_regions": [4]}]
    (second / "postprocessing.json").write_text(json.dumps(document))
    with (
        pytest.raises(ModelFileError, match=r"labels_or_regions names \[4\], which dataset\.json has not"),
        understood(root, Asked()) as found,
    ):
        write(found, tmp_path / "again.safetensors")


def test_the_folds_of_a_part_are_averaged_and_the_parts_merged(tmp_path: Path) -> None:
    root = total_segmentator(tmp_path / "results")
    for number, classes in ((291, 4), (292, 3)):
        (folder,) = root.glob(f"Dataset{number}_*/*")
        add_fold(folder, leaving_background(peer(classes, seed=number)))
    assert main(["convert", str(root), "-o", str(tmp_path / "total.safetensors")]) == 0
    document = json.loads((tmp_path / "total.json").read_text())
    assert document["members"] == [
        {
            "model": [f"total_part1_organs_fold{k}.safetensors" for k in (0, 1)],
            "labels": {"1": 1, "2": 2, "3": 3},
        },
        {"model": [f"total_part2_vertebrae_fold{k}.safetensors" for k in (0, 1)], "labels": {"4": 4, "5": 5}},
    ]
    image, parts, firsts = noise_of((9, 17, 16), (1.5, 1.5, 1.5)), [], []
    for member, ids in zip(document["members"], ([0, 1, 2, 3], [0, 4, 5]), strict=True):
        logits = []
        for name in member["model"]:
            labels, store = tmp_path / "labels.zarr", tmp_path / f"{name}.zarr"
            segment(image, tmp_path / name, out=labels, probabilities=store, device="cpu")
            logits.append(np.log(np.asarray(read(store).data[...])))
        parts.append(np.asarray(ids)[(logits[0] + logits[1]).argmax(0)])
        firsts.append(np.asarray(ids)[logits[0].argmax(0)])
    found = np.asarray(segment(image, tmp_path / "total.json", device="cpu").data[...])
    assert set(np.unique(found)) & {4, 5}
    assert (found == np.where(parts[0] > 0, *parts)).mean() > 0.999
    assert (found == np.where(firsts[0] > 0, *firsts)).mean() < 0.99


def test_the_crop_of_totalsegmentator_is_found_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = total_segmentator(tmp_path / "results")
    body = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "body_trunc": 1, "body_extremities": 2}}
    results = write_folder(root / "Dataset300_body_6mm_1559subj" / NAME, peer(), dataset=body)
    assert main(["convert", str(root), "-o", str(tmp_path / "total.safetensors")]) == 0
    crop = {"model": "total_crop.safetensors", "role": "crop", "margin_mm": 3.0}
    assert json.loads((tmp_path / "total.json").read_text())["members"][2] == crop
    assert list(load_model(tmp_path / "total_crop.safetensors").spec.labels.values()) == [
        "body_trunc",
        "body_extremities",
    ]
    assert "Dataset300_body_6mm_1559subj looks first" in capsys.readouterr().err
    rows = dict(look(root, Asked()).summary)
    assert rows["Models"] == "2, merged: part1_organs, part2_vertebrae"
    assert rows["Labels"] == "of the first part, 3 labels: spleen, kidney_right, kidney_left"
    assert rows["Where"] == "in the box that Dataset300_body_6mm_1559subj finds, and 3 mm around it"
    image = noise_of((9, 17, 16), (1.5, 1.5, 1.5))
    assert np.unique(segment(image, tmp_path / "total.json", device="cpu").data[...]).size > 1
    assert main(["convert", str(root), "--crop", "none", "-o", str(tmp_path / "all.safetensors")]) == 0
    assert len(json.loads((tmp_path / "all.json").read_text())["members"]) == 2
    add_fold(results, peer(seed=7), dataset=body)
    for source, models, margin in (
        (tmp_path / "total_crop.safetensors", "one_crop.safetensors", 20.0),
        (results, ["one_crop_fold0.safetensors", "one_crop_fold1.safetensors"], 3.0),
        (results.parent, ["one_crop_fold0.safetensors", "one_crop_fold1.safetensors"], 3.0),
    ):
        fast = str(root / "Dataset297_TotalSegmentator_total_3mm_1559subj")
        assert main(["convert", fast, "--crop", str(source), "-o", str(tmp_path / "one.safetensors")]) == 0
        document = json.loads((tmp_path / "one.json").read_text())
        assert document["members"][1] == {"model": models, "role": "crop", "margin_mm": margin}
        assert document["members"][0]["model"] == "one_model.safetensors"
    assert main(["convert", fast, "--crop", str(root), "-o", str(tmp_path / "two.safetensors")]) == 2
    assert "a crop is one model" in capsys.readouterr().err


def test_parts_of_two_labellings_are_refused(tmp_path: Path) -> None:
    for name in ("Dataset291_TotalSegmentator_part1_organs", "Dataset850_TotalSegMRI_part1_organs"):
        write_folder(tmp_path / name / NAME, peer())
    with pytest.raises(MedsegError, match="it holds several models"):
        convert_model(tmp_path, tmp_path / "m.safetensors")


@pytest.mark.parametrize("given", ["", "fold_0", ".."])
def test_the_first_version_is_refused_with_the_way_out(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "Task003_Liver/nnUNetTrainerV2__nnUNetPlansv2.1"
    (results / "fold_0").mkdir(parents=True)
    (results / "plans.pkl").write_bytes(b"\x80\x04.")
    (results / "fold_0/model_final_checkpoint.model").write_bytes(b"\x80\x02.")
    out = tmp_path / "m.safetensors"
    assert main(["convert", str((results / given).resolve()), "-o", str(out)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    for words in (str(results / "plans.pkl"), "a pickle, which is not opened", "no trained models: train again there"):
        assert words in told
    assert main(["convert", str(results / "fold_0/model_final_checkpoint.model"), "-o", str(out)]) == 2
    assert "a checkpoint of nnU-Net v1" in capsys.readouterr().err


def test_the_3_mm_model_is_one_file(tmp_path: Path) -> None:
    root = total_segmentator(tmp_path / "results")
    spec = convert_model(root / "Dataset297_TotalSegmentator_total_3mm_1559subj", tmp_path / "fast.safetensors").spec
    assert spec.spacing_zyx_mm == (3.0, 3.0, 3.0)
    assert list(spec.labels.values()) == ["spleen", "kidney_right", "kidney_left", "sacrum"]


def test_several_models_that_are_no_parts_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "results"
    for number in (1, 2):
        write_folder(root / f"Dataset00{number}_Balls" / NAME, peer())
    with pytest.raises(
        MedsegError, match=r"several models \(Dataset001_Balls, Dataset002_Balls\): give the folder of one"
    ):
        convert_model(root, tmp_path / "m.safetensors")


def cascade(root: Path) -> Path:
    lowres = {**PLANS["configurations"]["3d_fullres"], "spacing": [5.0, 2.0, 2.0], "next_stage": "3d_cascade_fullres"}
    plans = changed(PLANS, lambda p: p["configurations"].update({"3d_lowres": lowres}))
    for name, channels in (("3d_lowres", 1), ("3d_cascade_fullres", 3)):
        write_folder(root / f"nnUNetTrainer__nnUNetPlans__{name}", peer(3, channels), plans=plans, configuration=name)
    return root / "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres"


def test_a_cascade_sees_the_labels_of_its_first_step(tmp_path: Path) -> None:
    model = convert_model(cascade(tmp_path), tmp_path / "m.safetensors")
    spec = load_model(model.path).spec
    assert spec == model.spec
    assert spec.first is not None
    assert (spec.first.guide, spec.first.model.spacing_zyx_mm, spec.spacing_zyx_mm) == (
        "labels",
        (5.0, 2.0, 2.0),
        (2.5, 1.0, 1.0),
    )
    assert spec.arguments["in_channels"] == 3
    values = np.random.default_rng(0).integers(-50, 150, (1, 9, 17, 18)).astype(np.int16)
    found = segment(Volume(values, Grid((9, 17, 18), np.diag([2.5, 1, 1, 1])), ("CT",)), model, device="cpu")
    assert len(np.unique(found.data[...])) >= 2
    (tmp_path / "nnUNetTrainer__nnUNetPlans__3d_lowres/plans.json").unlink()
    with pytest.raises(ModelFileError, match="its first, '3d_lowres', must lie beside it"):
        convert_model(cascade_folder(tmp_path), tmp_path / "m.safetensors")


def test_the_folds_of_a_cascade_are_averaged(tmp_path: Path) -> None:
    folder = cascade(tmp_path)
    first = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_lowres"
    one = convert_model(folder, tmp_path / "one.safetensors")
    for stage in (first, folder):
        shutil.copytree(stage / "fold_0", stage / "fold_1")
    with understood(folder, Asked()) as found:
        written = write(found, tmp_path / "both.safetensors")
    assert written.set_path is not None
    image = noise_of((8, 17, 16), (2.5, 1.0, 1.0))
    both = np.asarray(segment(image, written.set_path, device="cpu").data[...])
    assert len(np.unique(both)) > 1
    assert (both == np.asarray(segment(image, one, device="cpu").data[...])).mean() > 0.999


def cascade_folder(root: Path) -> Path:
    return root / "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres"


def test_regions_overlap_and_the_later_one_stays(tmp_path: Path) -> None:
    dataset = {
        "channel_names": {"0": "FLAIR"},
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4},
        "regions_class_order": [1, 2, 3],
    }
    folder = write_folder(tmp_path / NAME, peer(3), dataset=dataset)
    document = {  # regions by the ids that they consist of
        "postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"],
        "postprocessing_kwargs": [{"labels_or_regions": [[1, 2, 3], [2, 3], 3]}],
    }
    (folder / "postprocessing.json").write_text(json.dumps(document))
    model = convert_model(folder, tmp_path / "m.safetensors")
    assert model.spec.output.largest == ((1, 2, 3),)
    assert model.spec.output.regions == tuple(
        Region(name=name, label=k + 1, rank=k) for k, name in enumerate(("whole", "core", "enhancing"))
    )
    assert model.spec.channels[0].modality == "MR"


def test_the_file_of_post_processing_is_taken(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / NAME, peer())
    (folder / "crossval_results_folds_0").mkdir()
    document = {
        "postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"] * 2,
        "postprocessing_kwargs": [{"labels_or_regions": [1, 2]}, {"labels_or_regions": 2}],
    }
    path = folder / "crossval_results_folds_0/postprocessing.json"
    path.write_text(json.dumps(document))
    assert convert_model(folder, tmp_path / "m.safetensors").spec.output.largest == ((1, 2), (2,))
    path.write_text(json.dumps({**document, "postprocessing_fns": ["os.system", "os.system"]}))
    with pytest.raises(MedsegError, match=r"postprocessing\.json: the post-processing 'os\.system' cannot be taken"):
        convert_model(folder, tmp_path / "m.safetensors")


def test_a_checkpoint_of_weights_alone(tmp_path: Path) -> None:
    folder, network = write_folder(tmp_path / NAME, peer()), peer()
    torch.save({"network_weights": network.state_dict()}, folder / "fold_0/checkpoint_final.pth")
    assert convert_model(folder, tmp_path / "m.safetensors").spec.recipe.mirror_axes == (0, 1, 2)
    content = {"network_weights": network.state_dict(), "inference_allowed_mirroring_axes": None}
    torch.save(content, folder / "fold_0/checkpoint_final.pth")
    assert convert_model(folder, tmp_path / "m.safetensors").spec.recipe.mirror_axes == ()
    folder.rename(tmp_path / "renamed")
    with pytest.raises(ModelFileError, match="neither the checkpoint nor the folder's name says trainer"):
        convert_model(tmp_path / "renamed", tmp_path / "m.safetensors")


KEPT = """nnUNetTrainer nnUNetTrainer_1epoch nnUNetTrainer_5epochs nnUNetTrainer_10epochs nnUNetTrainer_20epochs
nnUNetTrainer_50epochs nnUNetTrainer_100epochs nnUNetTrainer_250epochs nnUNetTrainer_500epochs nnUNetTrainer_750epochs
nnUNetTrainer_2000epochs nnUNetTrainer_4000epochs nnUNetTrainer_8000epochs nnUNetTrainer_250epochs_NoMirroring
nnUNetTrainer_2000epochs_NoMirroring nnUNetTrainer_4000epochs_NoMirroring nnUNetTrainer_8000epochs_NoMirroring
nnUNetTrainerNoMirroring nnUNetTrainer_onlyMirror01 nnUNetTrainer_onlyMirror01_1500ep
nnUNetTrainer_onlyMirror01_DASegOrd0 nnUNetTrainerDA5 nnUNetTrainerDA5ord0 nnUNetTrainerDA5Segord0
nnUNetTrainerDA5_10epochs nnUNetTrainerDAOrd0 nnUNetTrainer_DASegOrd0 nnUNetTrainer_DASegOrd0_NoMirroring
nnUNetTrainerNoDA nnUNetTrainer_noDummy2DDA nnUNetTrainer_fasterDA nnUNetTrainerCELoss nnUNetTrainerCELoss_5epochs
nnUNetTrainerDiceLoss nnUNetTrainerDiceCELoss_noSmooth nnUNetTrainerTopk10Loss nnUNetTrainerTopk10LossLS01
nnUNetTrainerDiceTopK10Loss nnUNetTrainerFocalLoss nnUNetTrainerFLandCELoss nnUNetTrainer_DiceUseClip
nnUNetTrainer_switchToDice nnUNetTrainerAdam nnUNetTrainerVanillaAdam nnUNetTrainerVanillaAdam1en3
nnUNetTrainerVanillaAdam3en4 nnUNetTrainerAdam1en3 nnUNetTrainerAdam3en4 nnUNetTrainerAdan nnUNetTrainerAdan1en3
nnUNetTrainerAdan3en4 nnUNetTrainerAdan1en1 nnUNetTrainerAdanCosAnneal nnUNetTrainerCosAnneal nnUNetTrainer_warmup
nnUNetTrainer_probabilisticOversampling nnUNetTrainer_probabilisticOversampling_033
nnUNetTrainer_probabilisticOversampling_010 nnUNetTrainerBenchmark_5epochs nnUNetTrainerBenchmark_5epochs_noDataLoading
nnUNetTrainerNoDeepSupervision nnUNetTrainerBN nnUNetTrainer_betterIgnoreSampling nnUNetTrainer_fixCEAggr"""


@pytest.mark.parametrize("trainer", KEPT.split())
def test_trainers_that_keep_the_architecture(trainer: str) -> None:
    assert keeps_architecture(trainer)
    assert has_batch_norm(trainer) == (trainer == "nnUNetTrainerBN")


@pytest.mark.parametrize(
    "trainer",
    ["nnUNetTrainerUMambaBot", "nnUNetTrainer_Primus_S", "STUNetTrainer", "nnUNetTrainer_HRNet18", "", "evil"],
)
def test_trainers_with_networks_of_their_own(trainer: str) -> None:
    assert not keeps_architecture(trainer)


def test_mirrors_by_the_trainers_name() -> None:
    assert mirrors("nnUNetTrainer", 3) == (0, 1, 2)
    assert mirrors("nnUNetTrainer", 2) == (1, 2)
    assert mirrors("nnUNetTrainer_onlyMirror01", 3) == (0, 1)
    assert mirrors("nnUNetTrainer_250epochs_NoMirroring", 3) == ()


class Bright(torch.nn.Module):
    """Logits that follow the image, so that a voxel's label is not decided by rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        smooth = torch.nn.functional.avg_pool3d(x, 3, 1, 1)
        return torch.cat([-smooth, torch.full_like(smooth, 0.5), smooth], 1)


def by_the_book(values: Any, spacing: list[float], target: list[float]) -> Any:
    """nnU-Net's published steps on whole arrays: crop, z-score inside the mask, splines, windows, mirrors, back."""
    mask = ndimage.binary_fill_holes(values != 0)
    (box,) = ndimage.find_objects(mask.astype(int))
    image, inside = values[box].astype(np.float32), mask[box]
    image[inside] = (image[inside] - image[inside].mean()) / image[inside].std()
    shape = [round(n * a / b) for n, a, b in zip(image.shape, spacing, target, strict=True)]
    flat = np.stack([resize(plane, shape[1:], order=3, mode="edge", anti_aliasing=False) for plane in image])
    nearest = np.floor((np.arange(shape[0]) + 0.5) * len(flat) / shape[0]).astype(int)
    logits = Bright()(torch.from_numpy(flat[nearest].astype(np.float32))[None, None])[0].numpy()
    planes = np.stack(
        [[resize(p, image.shape[1:], order=1, mode="edge", anti_aliasing=False) for p in c] for c in logits]
    )
    at = np.round((np.arange(len(image)) + 0.5) * shape[0] / len(image) - 0.5).clip(0, shape[0] - 1).astype(int)
    labels = np.zeros(values.shape, int)
    labels[box] = planes[:, at].argmax(0)
    return labels


def test_thick_slices_are_resampled_apart_and_normalised_inside_the_mask(tmp_path: Path) -> None:
    plans = changed(
        PLANS,
        lambda p: p["configurations"]["3d_fullres"].update(
            normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[True], spacing=[5.0, 1.3, 1.3]
        ),
    )
    model = convert_model(write_folder(tmp_path / NAME, peer(), plans=plans), tmp_path / "m.safetensors")
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (12, 40, 36)), indexing="ij")
    values = np.where(z**2 + y**2 + x**2 < 0.8, 100 + 80 * np.sin(4 * x) * np.cos(3 * y) + 20 * z, 0).astype(np.float32)
    spacing = [4.0, 1.0, 1.0]
    expected = by_the_book(values, spacing, [5.0, 1.3, 1.3])
    predictor = Predictor.of(Bright(), model.spec, torch.device("cpu"), "fp32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "load_predictor", lambda *_: predictor)
        volume = Volume(values[None], Grid(values.shape, np.diag([*spacing, 1])), ("MR",))
        found = np.asarray(segment(volume, model, device="cpu").data)
    for label in (1, 2):
        a, b = found == label, expected == label
        assert a.any()
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.99
