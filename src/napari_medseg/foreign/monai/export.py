"""Our models for other programs: as a MONAI bundle, and as an ONNX graph.

A bundle holds the preprocessing, windows and outputs as MONAI's own transforms, and our ModelSpec beside them, with
which it is read back as it was. An ONNX graph is the network alone: patches in, outputs out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg import registry
from napari_medseg.errors import FileError, InputError, NotSupportedError
from napari_medseg.foreign.imported import held_by
from napari_medseg.io.disk.files import replace_bytes

if TYPE_CHECKING:
    from torch import nn

    from napari_medseg.models.file import Model
    from napari_medseg.models.pipeline import Step
    from napari_medseg.models.spec import ModelSpec

SPEC_KEY = "napari_medseg_spec"
"""Under which the metadata of a bundle hold our ModelSpec."""
_Transforms = list[dict[str, Any]]


def export_model(model: Model, out: Path) -> tuple[str, ...]:
    """Write a model as *.onnx, or into a folder as a MONAI bundle; what the other program does otherwise is returned.

    Raises NotSupportedError for what cannot be said there, or without the packages of the extra `onnx`; InputError for
    another suffix, or a folder that holds something.
    """
    if out.suffix.lower() == ".onnx":
        return _write_onnx(model, out)
    if out.suffix:
        raise InputError(
            f"{out}: a model is exported as a folder (a MONAI bundle) or as .onnx; got suffix {out.suffix!r}"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: it exists and is not an empty folder: name another one")
    return _write_bundle(model, out)


def _write_onnx(model: Model, out: Path) -> tuple[str, ...]:
    from napari_medseg.architectures.onnx_graph import onnx_graph

    if model.spec.first is not None:
        raise NotSupportedError(f"{model.path}: a cascade is two networks, and cannot be one ONNX graph")
    network = model.load_network()
    patch = model.spec.patch_zyx if model.spec.mode == "3d" else model.spec.patch_zyx[1:]
    channels = model.spec.arguments["in_channels"]
    assert isinstance(channels, int)
    try:
        import onnx

        graph = onnx.ModelProto.FromString(onnx_graph(network, (1, channels, *patch)))
    except ImportError as error:
        raise NotSupportedError(
            f"{out}: ONNX needs the packages onnx and onnxscript: install napari-medseg[onnx] ({error.name} is missing)"
        ) from None
    entry = graph.metadata_props.add()
    entry.key, entry.value = SPEC_KEY, model.spec.to_json()
    replace_bytes(out, graph.SerializeToString())
    return ("an ONNX graph is the network alone: its metadata hold how images are prepared for it",)


def _write_bundle(model: Model, out: Path) -> tuple[str, ...]:
    import torch

    if model.spec.first is not None:
        raise NotSupportedError(f"{model.path}: a cascade cannot be one MONAI bundle")
    if model.spec.mode in ("2.5d", "triplanar") or model.spec.kind == "refiner":
        kind = "refiner" if model.spec.kind == "refiner" else f"model of mode {model.spec.mode}"
        raise NotSupportedError(f"{model.path}: MONAI has no inferer for a {kind}: 2d and 3d are exported")
    transforms, notes = _preprocessing(model.spec)
    inference = _inference(model.spec, transforms)
    try:
        for name in ("configs", "models"):
            (out / name).mkdir(parents=True)
        for name, document in (("inference", inference), ("metadata", _metadata(model.spec))):
            replace_bytes(out / f"configs/{name}.json", json.dumps(document, indent=2).encode())
        torch.save(_state(model.load_network(), model.spec.network), out / "models/model.pt")
    except OSError as error:
        raise FileError(f"{out}: cannot be written: {error.strerror or error}") from error
    return (*notes, *_left_out(model.spec))


def _left_out(spec: ModelSpec) -> Iterator[str]:
    """What of the windows and labels of a model MONAI does not do."""
    if spec.recipe.mirrored:
        yield f"the mean over images mirrored along {spec.recipe.axes_told} is left out"
    if spec.recipe.resampling != "linear" or spec.recipe.statistics != "image":
        yield "images are resampled, or normalised, as MONAI does it, and not as the recipe of the model says"
    if spec.sliding.positions != "fixed":
        yield "windows are placed and weighted as MONAI does it, and not evenly as here"
    if spec.cleaning:
        yield "the cleaning of the labels is left out"
    if spec.output.regions:
        yield "regions stay channels; here they also become one label map"
    if spec.output.regions and spec.output.largest:
        yield "the largest components of the label map are not kept alone"


def _state(network: nn.Module, name: str) -> Mapping[str, Any]:
    holder = held_by(name)
    return {key.removeprefix(holder): tensor for key, tensor in network.state_dict().items()}


def _inference(spec: ModelSpec, transforms: _Transforms) -> dict[str, Any]:
    """The inference config: MONAI's network where the model holds one, else ours, which our package must bring."""
    return {
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": _network_def(spec),
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": transforms},
        "inferer": _inferer(spec),
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(spec)},
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
    }


def _network_def(spec: ModelSpec) -> dict[str, Any]:
    target = registry.network(spec.network).target.replace(":", ".")
    arguments = {k: list(v) if isinstance(v, tuple) else v for k, v in spec.arguments.items()}
    return {"_target_": target, **arguments}


def _preprocessing(spec: ModelSpec) -> tuple[_Transforms, list[str]]:
    """MONAI's transforms, and how they differ from what we do."""
    notes: list[str] = []
    made: _Transforms = [_step("LoadImaged"), _step("EnsureChannelFirstd")]
    if spec.orientation is not None and spec.orientation.isupper():
        made.append(_step("Orientationd", axcodes=spec.orientation, labels=[["L", "R"], ["P", "A"], ["I", "S"]]))
    elif spec.orientation != "xyz":
        order = spec.orientation or "zyx"
        notes.append(f"images are taken as stored, in the order {order}; MONAI takes them in the order xyz")
    for step in _steps(spec, notes):
        made += _transform(spec, step, notes)
    return [*made, _step("EnsureTyped")], notes


def _steps(spec: ModelSpec, notes: list[str]) -> tuple[Step, ...]:
    """The steps of a model, those that its normalisation stands for too; of every channel where all have the same."""
    from napari_medseg.models.pipeline import Step

    if spec.steps:
        return spec.steps
    made: list[Step] = []
    if len(set(spec.normalisation)) > 1:
        notes.append("channels are normalised in different ways, and MONAI's transforms treat them alike")
    rule = spec.normalisation[0]
    if rule.kind == "zscore":
        made.append(Step(kind="zscore"))
    elif rule.kind == "clip_zscore":
        assert rule.mean is not None, "the model file's schema holds all four"
        assert rule.std is not None
        made.append(Step(kind="clip", low=rule.low, high=rule.high))
        made.append(Step(kind="affine", factor=1 / rule.std, offset=-rule.mean / rule.std))
    if spec.spacing_zyx_mm is not None:
        notes.append("MONAI resamples without the filter against aliasing that is used here")
        made.append(Step(kind="resample", method="corners"))
    return tuple(made)


def _transform(spec: ModelSpec, step: Step, notes: list[str]) -> _Transforms:
    if step.channel is not None and len(spec.channels) > 1:
        notes.append(f"a step {step.kind} is of one channel, and MONAI's transforms treat all alike")
    if step.kind == "affine":
        assert step.factor is not None, "checked with the step"
        scale = _step("ScaleIntensityd", minv=None, maxv=None, factor=step.factor - 1)
        return [scale, _step("ShiftIntensityd", offset=step.offset)]
    if step.kind == "clip":
        ends = ((step.low, True), (step.high, False))
        return [_step("ThresholdIntensityd", threshold=v, above=a, cval=v) for v, a in ends if v is not None]
    if step.kind == "minmax":
        return [_step("ScaleIntensityd", minv=step.to_low, maxv=step.to_high, channel_wise=not step.together)]
    if step.kind == "zscore":
        return [_step("NormalizeIntensityd", nonzero=step.over != "all", channel_wise=not step.together)]
    if step.kind == "percentiles":
        ranges = {"lower": step.low, "upper": step.high, "b_min": step.to_low, "b_max": step.to_high}
        whole = not step.together
        return [_step("ScaleIntensityRangePercentilesd", **ranges, clip=step.clipped, channel_wise=whole)]
    if step.kind == "threshold":
        level = step.low if step.low is not None else step.high
        return [_step("ThresholdIntensityd", threshold=level, above=step.low is not None, cval=step.fill)]
    if step.kind == "crop":
        if step.over != "positive":
            notes.append("images are cropped to what is not 0, and MONAI's transform to what is above 0")
        return [_step("CropForegroundd", source_key="image", margin=step.margin, allow_smaller=step.clipped)]
    return [_resample(spec, step, notes)]


def _resample(spec: ModelSpec, step: Step, notes: list[str]) -> dict[str, Any]:
    if spec.size_zyx is not None:
        size = [n or -1 for n in spec.size_zyx][-2 if spec.mode == "2d" else 0 :]
        return _step("Resized", spatial_size=size, mode="area" if step.method == "area" else "bilinear")
    assert spec.spacing_zyx_mm is not None, "a step that resamples needs a spacing or a size"
    if step.method != "corners":
        notes.append("MONAI resamples linearly, with the first voxel where it was")
    pixdim = [-1.0 if axis in step.kept_axes else v for axis, v in enumerate(spec.spacing_zyx_mm)]
    return _step("Spacingd", pixdim=pixdim, mode="bilinear")


def _inferer(spec: ModelSpec) -> dict[str, Any]:
    made: dict[str, Any] = {
        "_target_": "SlidingWindowInferer",
        "roi_size": list(spec.patch_zyx),
        "sw_batch_size": 1,
        "overlap": 0.5 if spec.sliding.overlap is None else spec.sliding.overlap,
        "mode": spec.sliding.blending,
    }
    if spec.sliding.padding == "replicate":
        made["padding_mode"] = "replicate"
    if spec.mode == "2d":
        made |= {"_target_": "SliceInferer", "spatial_dim": 0, "roi_size": list(spec.patch_zyx[1:])}
    return made


def _postprocessing(spec: ModelSpec) -> _Transforms:
    back = {"transform": "@preprocessing", "orig_keys": "image", "nearest_interp": False, "to_tensor": True}
    invert = {"_target_": "Invertd", "keys": "pred", **back}
    active = {"_target_": "Activationsd", "keys": "pred", "sigmoid" if spec.output.regions else "softmax": True}
    way = {"threshold": 0.5} if spec.output.regions else {"argmax": True}
    discrete = {"_target_": "AsDiscreted", "keys": "pred", **way}
    made = {
        "logits": [invert, active, discrete],
        "probabilities": [active, invert, discrete],
        "labels": [active, discrete, {**invert, "nearest_interp": True}],
    }[spec.output.brought_back]
    ids = list(spec.label_ids)
    if not spec.output.regions and ids != list(range(len(ids))):
        made.append(
            {"_target_": "MapLabelValued", "keys": "pred", "orig_labels": list(range(len(ids))), "target_labels": ids}
        )
    kept = [
        {
            "_target_": "KeepLargestConnectedComponentd",
            "keys": "pred",
            "applied_labels": list(group),
            "independent": len(group) == 1,
        }
        for group in (spec.output.largest_regions if spec.output.regions else spec.output.largest)
    ]
    return [*made, *kept, {"_target_": "SaveImaged", "keys": "pred", "output_dir": "$@bundle_root + '/eval'"}]


def _metadata(spec: ModelSpec) -> dict[str, Any]:
    regions = spec.output.regions
    names = [region.name for region in regions] if regions else ["background", *spec.labels.values()]
    channels = {str(k): channel.name for k, channel in enumerate(spec.channels)}
    image = {"modality": spec.channels[0].modality, "num_channels": len(channels), "channel_def": channels}
    answer = {"num_channels": len(names), "channel_def": {str(k): name for k, name in enumerate(names)}}
    return {
        "version": "0.1.0",
        "description": spec.description,
        "copyright": spec.licence,
        "references": spec.citation.split("\n") if spec.citation else [],
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": answer}},
        SPEC_KEY: json.loads(spec.to_json()),
    }


def _step(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name, "keys": "image", **arguments}
