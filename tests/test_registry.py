from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import pytest

from napari_medseg import registry
from napari_medseg.errors import InputError, MedsegError, UnknownNameError
from napari_medseg.registry import NetworkSpec, Parameter


@pytest.fixture(params=sorted(registry.networks()))
def spec(request: pytest.FixtureRequest) -> NetworkSpec:
    return registry.network(request.param)


def test_the_table_cannot_be_changed_from_outside() -> None:
    registry.networks().clear()
    assert registry.networks()


def test_unknown_network_lists_the_choices() -> None:
    message = r"unknown network 'unet4d': did you mean unet3d.*\? choose one of .*unet3d, .*vnet"
    with pytest.raises(UnknownNameError, match=message):
        registry.network("unet4d")


def test_every_entry_is_complete(spec: NetworkSpec) -> None:
    assert registry.networks()[spec.name] is spec
    assert spec.target.startswith("napari_medseg.architectures.")
    assert spec.summary
    assert spec.when.endswith(".")
    assert str(spec.year) in spec.reference
    assert spec.family in registry.FAMILIES
    assert spec.takes in get_args(registry.Takes)
    assert set(spec.dims) <= {2, 3}
    assert (spec.paper is None) == (spec.parameters_paper is None)
    assert all(parameter.doc for parameter in spec.parameters.values())
    assert not set(spec.parameters) & set(registry.COMMON)
    assert spec.deep_supervision == ("deep_supervision" in spec.parameters)


PUBLISHED = {
    "vnet": "45,597,898",
    "unet3d": "19,069,955",
    "nonlocal_unet": "1,760,452",
    "hdenseunet": "44,862,339",
    "unet": "31,030,658",
    "unetpp": "9,163,329",
    "unet3plus": "26,971,777",
    "r2unet": "39,091,393",
    "multiresunet": "7,251,376",
    "attention_unet": "34,878,573",
    "monai_attention_unet": "94,482,930",
    "cenet": "29,003,093",
    "transunet": "105,277,081",
    "setr": "318.31 million",
    "unext": "1,471,921",
    "hrnet": "65,859,379",
    "sassnet": "9,448,866",
    "canet": "24,491,330",
    "saunet": "32,896,505",
    "deepigeos_pnet": "48,262",
    "deepigeos_rnet": "49,558",
    "mem3d": "73,591,763",
    "miniseg": "82,506",
    "segnet": "29,443,010",
    "deeplabv3": "58,158,402",
    "densevoxelnet": "1,783,152",
    "skipdensenet3d": "1,551,262",
    "fcn3d": "12,210,926",
}
"""As published, or counted from the originals; `counting` says how ours differs."""


def test_networks_that_are_not_from_image_to_labels() -> None:
    takes = {name: spec.takes for name, spec in registry.networks().items() if spec.takes != "image"}
    assert takes == {
        "deepigeos_rnet": "image+prompts",
        "mem3d": "memory",
        "graph_unet": "graph",
        "mask_rcnn": "instances",
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_count_is_ours_or_the_difference_is_stated(name: str) -> None:
    spec = registry.network(name)
    assert PUBLISHED[name] == f"{spec.parameters_paper:,}" or PUBLISHED[name] in spec.counting


def test_every_preset_is_within_its_own_bounds(spec: NetworkSpec) -> None:
    default = spec.arguments()
    assert default == spec.arguments(**default)  # type: ignore[arg-type]  # no preset among them
    if spec.paper is not None:
        assert spec.arguments("paper") == {**default, **spec.paper}
        assert {"in_channels", "out_channels"} <= set(spec.paper), "a count is of a number of channels and classes"


def test_overrides_beat_the_preset() -> None:
    arguments = registry.network("unet3d").arguments("paper", norm="instance", out_channels=5)
    assert arguments["norm"] == "instance"
    assert arguments["out_channels"] == 5
    assert arguments["down"] == "maxpool"


def test_a_network_without_a_paper_preset_says_so() -> None:
    spec = replace(registry.network("unet3d"), name="mine", paper=None)
    with pytest.raises(ValueError, match="network mine has no paper preset: use preset='default'"):
        spec.build("paper")


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match="preset is default or paper; got 'small'"):
        registry.network("vnet").build("small")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        pytest.param({"depth": 3}, "unet3d has no argument 'depth': its arguments are in_channels", id="unknown"),
        pytest.param({"out_channels": 0}, "out_channels must lie in 1 to 4096; got 0", id="too small"),
        pytest.param({"out_channels": 4097}, "out_channels must lie in 1 to 4096; got 4097", id="too large"),
        pytest.param({"in_channels": 65}, "in_channels must lie in 1 to 64; got 65", id="channels"),
        pytest.param({"spatial_dims": 4}, "spatial_dims must lie in 2 to 3; got 4", id="dimensions"),
        pytest.param({"spatial_dims": "3"}, "spatial_dims must be of type int, like 3; got '3'", id="text"),
        pytest.param({"spatial_dims": None}, "spatial_dims must be of type int, like 3; got None", id="none"),
        pytest.param({"in_channels": 1.0}, "in_channels must be of type int", id="fraction"),
        pytest.param({"bias": 1}, "bias must be of type bool, like False; got 1", id="flag"),
        pytest.param({"norm": "layer"}, "norm is one of instance, batch; got 'layer'", id="choice"),
        pytest.param({"channels": (32,)}, "channels must hold 2 to 8 numbers; got 1", id="one level"),
        pytest.param({"channels": (32, 0)}, r"channels must lie in 1 to 2048; got \(32, 0\)", id="no features"),
        pytest.param({"channels": (32, True)}, "channels must be of type tuple", id="features of truth"),
        pytest.param({"channels": (32, 64.0)}, "channels must be of type tuple", id="features fractional"),
        pytest.param({"channels": 32}, "channels must be of type tuple", id="one number"),
    ],
)
def test_build_refuses_before_torch_is_asked(overrides: Mapping[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        registry.network("unet3d").build(**overrides)  # type: ignore[arg-type]  # no preset among them


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        pytest.param(Parameter(0.5, "", 0, 1), 1, 1.0, id="whole number as float"),
        pytest.param(Parameter(None, "", 0, 1), None, None, id="none where it is the default"),
        pytest.param(Parameter((1, 2), "", 1, 9), [3, 4], (3, 4), id="list as tuple"),
        pytest.param(Parameter(False, ""), True, True, id="flag"),
    ],
)
def test_values_are_brought_to_their_type(parameter: Parameter, value: object, expected: object) -> None:
    checked = parameter.check("network x", "y", value)
    assert checked == expected
    assert type(checked) is type(expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 10**400])
def test_numbers_stay_in_bounds(value: float) -> None:
    with pytest.raises(MedsegError, match="network x argument y must lie in 0 to 1"):
        Parameter(0.5, "", 0, 1).check("network x", "y", value)


def fresh_interpreter(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_listing_loads_neither_torch_nor_monai() -> None:
    done = fresh_interpreter(
        "import sys; from napari_medseg import registry; s = registry.network('unet3d'); s.arguments('paper');"
        "print(sorted({'torch', 'monai', 'napari', 'qtpy'} & set(sys.modules)))"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_importing_every_architecture_is_silent() -> None:
    """What they print when they are built is asserted by the suite of each network."""
    done = fresh_interpreter(
        "import importlib\n"
        "from napari_medseg import registry\n"
        "for module in {spec.target.partition(':')[0] for spec in registry.networks().values()}:\n"
        "    importlib.import_module(module)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
