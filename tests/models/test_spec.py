from __future__ import annotations

import json
import pickle
import string
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.errors import InputError, UnknownNameError
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Channel, Guide, ModelSpec, Normalisation, Seen, Stage, TrainingRecord

names = st.text(string.ascii_letters + "éß日 -", min_size=1, max_size=20)
finite = st.floats(-1e6, 1e6)
labels = st.dictionaries(st.integers(1, 2**31 - 1), names, min_size=1, max_size=5)
channels = st.builds(Channel, name=names, modality=st.sampled_from(["CT", "MR", "other"]))
clipping = st.tuples(finite, st.floats(1, 1e6), finite, st.floats(1e-3, 1e6)).map(
    lambda v: Normalisation(kind="clip_zscore", low=v[0], high=v[0] + v[1], mean=v[2], std=v[3])
)
normalisations = st.sampled_from([Normalisation(kind="none"), Normalisation(kind="zscore")]) | clipping
records = st.builds(
    TrainingRecord,
    fingerprint=st.dictionaries(names, finite, max_size=3),
    cases=st.integers(0, 10**6),
    seed=st.integers(0, 2**63 - 1),
    epochs=st.floats(0, 1e4),
    minutes=st.floats(0, 1e4),
    versions=st.dictionaries(names, names, max_size=3),
    validation=st.dictionaries(names, finite, max_size=3),
)
triples = st.tuples(*[st.floats(0.001, 1000)] * 3)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Any valid ModelSpec of a 3D network, or of a cascade of two."""
    inputs = draw(st.lists(channels, min_size=1, max_size=4))
    orientation = draw(st.sampled_from([None, "SPL", "SAR", "LPI"]))
    first = draw(networks_of(inputs, orientation, None)) if draw(st.booleans()) else None
    guide: Guide = draw(st.sampled_from(["channel", "boxes"]))
    margin = draw(st.floats(0, 1000))
    stage = None if first is None else Stage(model=first, guide=guide, margin_mm=margin)
    return draw(networks_of(inputs, orientation, stage))


@st.composite
def networks_of(draw: st.DrawFn, inputs: list[Channel], orientation: str | None, first: Stage | None) -> ModelSpec:
    """A ModelSpec for these channels and axes."""
    named = draw(labels)
    network = draw(st.sampled_from(["unet3d", "vnet"]))
    seen = len(inputs) + (first.channels if first else 0)
    return ModelSpec(
        network=network,
        arguments={"in_channels": seen, "out_channels": len(named) + 1},
        channels=tuple(inputs),
        labels=named,
        patch_zyx=draw(st.tuples(*[st.integers(1, 1024)] * 3)),
        spacing_zyx_mm=draw(st.none() | triples),
        orientation=orientation,
        first=first,
        normalisation=tuple(draw(normalisations) for _ in inputs),
        deep_supervision=network == "unet3d",
        bf16_ok=draw(st.booleans()),
        training=draw(records),
        licence=draw(names),
        citation=draw(names),
        description=draw(names),
    )


SEEN = Seen(
    intensity=((-1000.0, 1200.0),),
    spacing_zyx_mm=((1.0, 0.5, 0.5), (5.0, 1.0, 1.0)),
    extent_zyx_mm=(90.0, 200.0, 200.0),
)
T1 = Channel(name="T1", modality="MR")
ZSCORE = Normalisation(kind="zscore")


def spec(**changes: Any) -> ModelSpec:
    """A small valid ModelSpec, but for the changes."""
    members: dict[str, Any] = {
        "network": "unet3d",
        "arguments": {"in_channels": 1, "out_channels": 3},
        "channels": (T1,),
        "labels": {1: "anterior", 2: "posterior"},
        "patch_zyx": (32, 48, 32),
        "normalisation": (ZSCORE,),
        "deep_supervision": True,
    }
    return ModelSpec(**{**members, **changes})


def document(**changes: Any) -> dict[str, Any]:
    """The JSON document of `spec()`, but for the changes."""
    return {**json.loads(spec().to_json()), **changes}


@given(specs())
def test_json_brings_back_the_same_spec(expected: ModelSpec) -> None:
    assert ModelSpec.from_json(expected.to_json()) == expected


@given(specs())
def test_survives_pickling_between_our_processes(expected: ModelSpec) -> None:
    assert pickle.loads(pickle.dumps(expected)) == expected


def test_arguments_left_out_have_their_defaults() -> None:
    assert spec().arguments["channels"] == (32, 64, 128, 256, 320)
    assert spec().arguments["spatial_dims"] == 3


def test_labels_are_the_output_channels_by_ascending_id() -> None:
    sorted_ = spec(labels={20: "b", 3: "a"})
    assert list(sorted_.labels.items()) == [(3, "a"), (20, "b")]
    assert sorted_.label_ids == (0, 3, 20)
    assert ModelSpec.from_json(sorted_.to_json()).label_ids == (0, 3, 20)


def test_is_read_only() -> None:
    with pytest.raises(TypeError, match="item assignment"):
        spec().labels[9] = "x"  # type: ignore[index]


def test_takes_numpy_numbers() -> None:
    taken = spec(patch_zyx=tuple(np.array([32, 48, 32])), spacing_zyx_mm=tuple(np.array([1, 1, 2], np.float32)))
    assert ModelSpec.from_json(taken.to_json()) == taken


@pytest.mark.parametrize(
    ("mode", "in_channels", "patch_zyx"),
    [pytest.param("2d", 1, (1, 64, 64), id="2d"), pytest.param("2.5d", 5, (5, 64, 64), id="2.5d")],
)
def test_slice_modes(mode: str, in_channels: int, patch_zyx: tuple[int, int, int]) -> None:
    arguments = {"in_channels": in_channels, "out_channels": 3, "spatial_dims": 2}
    assert spec(mode=mode, arguments=arguments, patch_zyx=patch_zyx).mode == mode


def unet(**arguments: object) -> Mapping[str, object]:
    return {"arguments": {"in_channels": 1, "out_channels": 3, **arguments}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param(unet(channels=(32, 64, 2**40)), "channels must lie in 1 to 2048", id="features too many"),
        pytest.param(unet(channels=[32] * 9), "channels must hold 2 to 8 numbers; got 9", id="levels too many"),
        pytest.param(unet(channels=[[32], 64]), "channels must be of type tuple.*got a tuple", id="features nested"),
        pytest.param(unet(norm="os.system"), "norm is one of instance, batch; got 'os.system'", id="unknown norm"),
        pytest.param(unet(width=3), "no argument 'width': its arguments are in_channels", id="unknown argument"),
        pytest.param(unet(preset="paper"), "arguments hold no preset", id="preset"),
        pytest.param(unet(spatial_dims=True), "spatial_dims must be of type int", id="truth as a number"),
        pytest.param({"network": "vnet", **unet(dropout=10**400)}, "dropout must lie in 0 to 0.95", id="huge dropout"),
        pytest.param({"arguments": [1]}, "arguments must be a table", id="arguments are a list"),
        pytest.param({"network": ""}, "network must be a text of 1 to 200", id="no network"),
        pytest.param({"channels": ()}, "channels must hold 1 to 64 of Channel", id="no channels"),
        pytest.param({"channels": ("T1",)}, "channels must hold 1 to 64 of Channel", id="channel is a text"),
        pytest.param({"channels": (T1, T1)}, "2 channels need as many normalisations; got 1", id="normalisations few"),
        pytest.param(
            {"channels": (T1, T1), "normalisation": (ZSCORE,) * 2}, "need in_channels 2; got 1", id="channels many"
        ),
        pytest.param({"labels": {}}, "labels must hold 1 to 4096", id="no labels"),
        pytest.param({"labels": {0: "air", 1: "x"}}, "label id must be a whole number from 1 to", id="label 0"),
        pytest.param(
            {"labels": {2**31: "a", 1: "b"}}, "label id must be a whole number from 1 to 2147483647", id="2^31"
        ),
        pytest.param({"labels": {1: "a", 2: ""}}, "name of label 2 must be a text", id="label without a name"),
        pytest.param({"labels": {1: "a", 2: "\x1b[2J"}}, "label 2 must hold no control characters", id="escape codes"),
        pytest.param({"labels": {1: "a", 2: "\ud800"}}, "no control characters", id="half a surrogate pair"),
        pytest.param({"labels": {1: "a"}}, "1 labels and the background need out_channels 2; got 3", id="labels few"),
        pytest.param({"patch_zyx": (0, 1, 1)}, "patch_zyx must be a whole number from 1 to 1024; got 0", id="patch 0"),
        pytest.param({"patch_zyx": (1025, 1, 1)}, "from 1 to 1024; got 1025", id="patch too large"),
        pytest.param({"patch_zyx": (32, 32)}, "patch_zyx needs three numbers", id="patch of two"),
        pytest.param({"patch_zyx": (32.5, 1, 1)}, "patch_zyx must be a whole number", id="patch fractional"),
        pytest.param({"spacing_zyx_mm": (1, 1, 0)}, "spacing_zyx_mm must be a number from 0.001", id="spacing 0"),
        pytest.param({"spacing_zyx_mm": (1, 1, float("nan"))}, "spacing_zyx_mm must be a number", id="spacing NaN"),
        pytest.param({"spacing_zyx_mm": (1, 1, 10**400)}, "spacing_zyx_mm must be a number", id="spacing huge"),
        pytest.param({"spacing_zyx_mm": "111"}, "spacing_zyx_mm needs three numbers", id="spacing is a text"),
        pytest.param({"orientation": "SSL"}, "orientation needs one letter each", id="axis twice"),
        pytest.param({"orientation": "spl"}, "orientation needs one letter each", id="lower case"),
        pytest.param({"orientation": 3}, "orientation needs one letter each", id="orientation is a number"),
        pytest.param({"mode": "4d"}, "mode is one of 2d, 2.5d, triplanar, 3d; got '4d'", id="unknown mode"),
        pytest.param({"mode": "2d", "patch_zyx": (1, 8, 8)}, "mode 2d does not go with spatial_dims 3", id="2d in 3D"),
        pytest.param({"mode": "2.5d", "patch_zyx": (3, 8, 8)}, "in mode 2.5d need in_channels 3; got 1", id="slices"),
        pytest.param(
            {"mode": "2.5d", "patch_zyx": (4, 8, 8), **unet(in_channels=4, spatial_dims=2)},
            r"mode 2.5d needs a patch with an odd z.*got \(4, 8, 8\)",
            id="slices without a middle",
        ),
        pytest.param({"mode": "2d", **unet(spatial_dims=2)}, "mode 2d needs a patch with z = 1", id="thick 2d patch"),
        pytest.param({"deep_supervision": 1}, "deep_supervision must be true or false", id="flag is a number"),
        pytest.param({"deep_supervision": False}, "the network's argument says True", id="supervision disagrees"),
        pytest.param({"bf16_ok": None}, "bf16_ok must be true or false; got None", id="flag is None"),
        pytest.param({"training": {}}, "training must be a TrainingRecord; got dict", id="training is a dict"),
        pytest.param({"licence": "x" * 1001}, "licence must be a text of 0 to 1000", id="long licence"),
        pytest.param({"citation": None}, "citation must be a text", id="citation is None"),
    ],
)
def test_refuses(changes: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        spec(**changes)
    assert len(str(refused.value)) < 300


def test_refuses_an_unknown_network_and_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"'os\.system': choose one of .*unet3d, .*vnet"):
        spec(network="os.system")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        pytest.param({"kind": "minmax"}, "kind is one of none, zscore, clip_zscore; got 'minmax'", id="unknown kind"),
        pytest.param(
            {"kind": "zscore", "mean": 3.0}, "zscore takes no low, high, mean or std", id="zscore with a mean"
        ),
        pytest.param({"kind": "clip_zscore"}, "normalisation low must be a number", id="clip without numbers"),
        pytest.param(
            {"kind": "clip_zscore", "low": 1, "high": 1, "mean": 0, "std": 1}, "needs low < high", id="empty range"
        ),
        pytest.param({"kind": "clip_zscore", "low": 0, "high": 1, "mean": 0, "std": 0}, "std > 0", id="std 0"),
        pytest.param(
            {"kind": "clip_zscore", "low": 0, "high": float("inf"), "mean": 0, "std": 1}, "high must be", id="infinite"
        ),
    ],
)
def test_normalisation_refuses(members: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Normalisation(**members)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        pytest.param({"validation": {"dice": float("nan")}}, "validation dice must be a number", id="NaN"),
        pytest.param({"fingerprint": {"": 1.0}}, "name in training fingerprint must be a text", id="no name"),
        pytest.param({"fingerprint": [1.0]}, "training fingerprint must be a table", id="list"),
        pytest.param({"versions": {"torch": 2}}, "training versions torch must be a text", id="version is a number"),
        pytest.param({"cases": -1}, "training cases must be a whole number from 0", id="negative"),
        pytest.param({"seed": 2**63}, "training seed must be", id="seed beyond 64 bit"),
        pytest.param({"minutes": float("inf")}, "training minutes must be a number", id="infinite"),
    ],
)
def test_training_record_refuses(members: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        TrainingRecord(**members)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in document().items() if name != key}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "not JSON", id="nothing"),
        pytest.param("[]", "needs schema 1", id="list"),
        pytest.param("[" * 100_000, "nested too deeply", id="deep"),
        pytest.param('{"schema": 1, "schema": 1}', "the key 'schema' is there twice", id="key twice"),
        pytest.param(json.dumps(document(bf16_ok=float("nan"))), "NaN is no JSON number", id="NaN"),
        pytest.param(json.dumps(document(schema=2)), "needs schema 1; a newer", id="later schema"),
        pytest.param(json.dumps(document(schema=True)), "needs schema 1", id="schema is true"),
        pytest.param(json.dumps(document(code="x")), "unknown key 'code': known are network", id="unknown key"),
        pytest.param(json.dumps(without("mode")), "lacks the key mode", id="missing key"),
        pytest.param(json.dumps(document(channels=[3])), "a channel must be a JSON object; got 3", id="channel number"),
        pytest.param(json.dumps(document(channels={})), "channels must be a JSON list", id="channels object"),
        pytest.param(
            json.dumps(document(channels=[{"name": "T1"}])), "a channel lacks the key modality", id="channel half"
        ),
        pytest.param(json.dumps(document(channels=[{}] * 65)), "channels must be a JSON list of at most 64", id="many"),
        pytest.param(json.dumps(document(labels=["a"])), "labels must be a JSON object", id="labels list"),
        pytest.param(json.dumps(document(labels={"1.5": "a"})), "label ids must be whole", id="label fractional"),
        pytest.param(json.dumps(document(labels={"01": "a", "1": "b"})), "label ids must be whole", id="label 01"),
        pytest.param(json.dumps(document(labels={"٣": "a"})), "label ids must be whole", id="label Arabic digit"),
        pytest.param(json.dumps(document(labels={"9" * 5000: "a"})), "label ids must be whole", id="label long"),
        pytest.param(json.dumps(document(training=None)), "training must be a JSON object; got None", id="no training"),
        pytest.param(json.dumps(document(patch_zyx=[[[]]] * 3)), "patch_zyx must be a whole", id="patch nested"),
        pytest.param(json.dumps(document(network=["unet3d"])), "network must be a text", id="network list"),
        pytest.param(json.dumps(document(description="x" * 2**22)), "too long: at most 4194304", id="4 MB"),
    ],
)
def test_from_json_refuses(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        ModelSpec.from_json(text)
    assert len(str(refused.value)) < 300


def test_the_largest_spec_fits_in_a_file() -> None:
    names_ = {label: f"{label:04d}" + "日" * 196 for label in range(1, 4096)}
    big = spec(labels=names_, arguments={"out_channels": 4096}, description="x" * 20_000)
    assert ModelSpec.from_json(big.to_json()) == big


def test_to_json_refuses_what_no_file_could_hold() -> None:
    scores = {f"{i:05d}" + "日" * 190: float(i) for i in range(16_000)}
    with pytest.raises(InputError, match="too long: at most 4194304"):
        spec(training=TrainingRecord(validation=scores)).to_json()


def test_recipe_and_presets_go_through_json_and_older_files_have_none_of_them() -> None:
    recipe = Recipe(mirror_axes=(0, 2), mirrored=True, resampling="nnunet", statistics="box")
    told = spec(recipe=recipe, training=TrainingRecord(presets={"exact": 0.9, "fast": 0.8}))
    assert ModelSpec.from_json(told.to_json()) == told
    older = json.loads(spec().to_json())
    assert "recipe" not in older
    assert "presets" not in older["training"]
    assert ModelSpec.from_json(json.dumps(older)).recipe == Recipe()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Recipe(mirror_axes=(2, 0)), "mirror_axes are some of 0, 1, 2"),
        (lambda: Recipe(mirror_axes=(0, 3)), "mirror_axes are some of 0, 1, 2"),
        (lambda: Recipe(mirrored=True), "mirrored needs mirror_axes"),
        (lambda: Recipe(resampling="cubic"), "resampling is one of linear, nnunet"),  # type: ignore[arg-type]
        (lambda: Recipe(statistics="mask"), "statistics is one of image, box"),  # type: ignore[arg-type]
        (lambda: TrainingRecord(presets={"slow": 0.5}), "preset is one of exact, balanced, fast"),
        (lambda: TrainingRecord(presets={"fast": 1.5}), "training presets fast must be a number from 0 to 1"),
        (lambda: spec(recipe={}), "recipe must be a Recipe"),
    ],
)
def test_recipes_and_presets_out_of_bounds(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_what_the_training_saw_goes_through_json_and_older_files_have_none_of_it() -> None:
    with_it = spec(training=TrainingRecord(seen=SEEN))
    assert ModelSpec.from_json(with_it.to_json()) == with_it
    assert "seen" not in json.loads(spec().to_json())["training"]
    assert ModelSpec.from_json(spec().to_json()).training.seen is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"intensity": ((0.0, 1.0, 2.0),)}, "training intensity needs two values, low and high"),
        ({"intensity": ((0.0, float("nan")),)}, "training intensity must be a number"),
        ({"intensity": 5}, "training intensity must hold 1 to 64"),
        ({"intensity": (5,)}, "training intensity must hold 1 to 64"),
        ({"intensity": ()}, "training intensity must hold 1 to 64"),
        ({"spacing_zyx_mm": ((1.0, 1.0, 1.0),)}, "training spacing needs two values"),
        ({"spacing_zyx_mm": ((1.0, 1.0, 0.0), (1.0, 1.0, 1.0))}, "training spacing must be a number from 0.0001"),
        ({"extent_zyx_mm": (1.0, 1.0)}, r"training extent needs three numbers \(z, y, x\)"),
    ],
    ids=["three", "nan", "no_list", "no_pair", "no_channel", "one_spacing", "zero", "two_axes"],
)
def test_what_the_training_saw_is_checked(change: dict[str, Any], says: str) -> None:
    parts = {name: getattr(SEEN, name) for name in ("intensity", "spacing_zyx_mm", "extent_zyx_mm")}
    with pytest.raises(InputError, match=says):
        Seen(**{**parts, **change})
    document = json.loads(spec(training=TrainingRecord(seen=SEEN)).to_json())
    document["training"]["seen"]["more"] = 1
    with pytest.raises(InputError, match="seen has an unknown key"):
        ModelSpec.from_json(json.dumps(document))


def test_there_is_an_intensity_range_for_each_channel() -> None:
    two = Seen(intensity=((0.0, 1.0),) * 2, spacing_zyx_mm=SEEN.spacing_zyx_mm, extent_zyx_mm=SEEN.extent_zyx_mm)
    with pytest.raises(InputError, match="1 channels need as many training intensities"):
        spec(training=TrainingRecord(seen=two))
