"""Images that lack a channel of the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

from balls import volume
from napari_medseg import Volume, load_model, registry, segment, write
from napari_medseg.cli import main
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.events import Notice
from napari_medseg.inference.engine import iter_segment
from napari_medseg.inference.source.absent import WithZeros, completed, require_absent
from napari_medseg.models.file import Model, write_model
from napari_medseg.models.spec import MISSING, Channel, Normalisation


@pytest.fixture(scope="module")
def two(ball_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of the channels T1 and CT, which encodes each by itself."""
    one = load_model(ball_model).spec
    arguments = registry.network("unet3d").arguments(
        **{**one.arguments, "in_channels": 2, "fusion": "layer"}  # type: ignore[arg-type]
    )
    ct = Normalisation(kind="clip_zscore", low=-50, high=150, mean=40.7, std=31.3)
    spec = replace(
        one,
        channels=(Channel(name="T1", modality="MR"), Channel(name="CT", modality="CT")),
        normalisation=(Normalisation(kind="zscore"), ct),
        arguments=arguments,
    )
    network = registry.network("unet3d").build_from(arguments)
    return write_model(tmp_path_factory.mktemp("two") / "two.safetensors", spec, network.state_dict())


def test_a_missing_channel_is_0_for_the_network_whatever_its_normalisation(two: Model) -> None:
    assert two.spec.arguments["fusion"] == "layer"
    t1 = volume(seed=3)
    found = segment(t1, two, missing=("ct",), device="cpu")
    constant = np.concatenate([t1.data, np.full_like(t1.data, 7)])
    whole, spec = completed(t1, two.spec, ["CT"])
    assert whole.channels == ("0", "CT") or whole.channels[1] == "CT"
    assert np.asarray(whole.data[1]).max() == 0
    plain = replace(two.spec, normalisation=spec.normalisation)
    blind = write_model(two.path.with_name("blind.safetensors"), plain, two.load_network().state_dict())
    wanted = segment(Volume(constant, t1.grid), blind, device="cpu")
    np.testing.assert_array_equal(np.asarray(found.data), np.asarray(wanted.data))
    lazy = replace(t1, data=da.from_array(t1.data, chunks=(1, 5, 8, 8)))
    again = segment(lazy, two, missing=("CT",), device="cpu")
    np.testing.assert_array_equal(np.asarray(again.data), np.asarray(found.data))


def test_zeros_are_added_box_by_box() -> None:
    data = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    seen = WithZeros(data, [0, None, 1])
    assert (seen.shape, seen.chunks, seen.ndim) == ((3, 3, 4, 5), (1, 3, 4, 5), 4)
    assert WithZeros(da.from_array(data, chunks=(1, 2, 4, 5)), [0, None, 1]).chunks[:2] == ((1, 1, 1), (2, 1))
    wanted = np.insert(data, 1, 0, axis=0)
    for key in (..., (slice(1, 3), 2), (2, slice(None), slice(1, 3))):
        np.testing.assert_array_equal(seen[key], wanted[key])


def test_a_model_that_always_saw_all_channels_is_doubted(two: Model) -> None:
    def told(model: Model) -> list[str]:
        events = iter_segment(volume(), model, missing=("CT",), device="cpu")
        return [e.message for e in events if isinstance(e, Notice) and "without CT" in e.message]

    assert len(told(two)) == 1
    record = replace(two.spec.training, fingerprint={MISSING: 0.3})
    spec = replace(two.spec, training=record)
    knows = write_model(two.path.with_name("knows.safetensors"), spec, two.load_network().state_dict())
    assert told(knows) == []


@pytest.mark.parametrize(
    ("missing", "channels", "message"),
    [
        (("T9",), 1, "missing T9: the model has no such channel, its channels are T1, CT"),
        (("T1", "CT"), 0, "the image needs one channel of the model at least"),
        (("T1",), 2, r"has 2 channels but model .* needs 1 \(CT\)"),
    ],
)
def test_what_cannot_be_missing_is_refused(two: Model, missing: tuple[str, ...], channels: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        segment(volume(channels or 1), two, missing=missing, device="cpu")


def test_the_command_takes_the_other_channels(two: Model, tmp_path: Path, capsys: Any) -> None:
    write(tmp_path / "t1.nii.gz", volume(seed=3))
    asked = ["segment", str(tmp_path / "t1.nii.gz"), "--model", str(two.path), "-o", str(tmp_path / "out.nii.gz")]
    assert main(asked) == 2
    assert "needs 2" in capsys.readouterr().err
    assert main([*asked, "--missing", "CT", "--device", "cpu"]) == 0
    assert main([*asked, "--missing", "CT", "--workers", "1"]) == 2
    assert "workers" in capsys.readouterr().err.splitlines()[-1]


def test_a_cascade_needs_all(two: Model) -> None:
    from napari_medseg.models.spec import Stage

    cascade = replace(two.spec, first=Stage(model=two.spec, guide="boxes"))
    with pytest.raises(NotSupportedError, match="need all channels"):
        require_absent(cascade, ["CT"])


def test_a_name_of_several_channels_is_refused_unless_it_is_written_so(two: Model) -> None:
    channels = tuple(
        replace(channel, name=name) for channel, name in zip(two.spec.channels, ("T1-c", "T1 c"), strict=True)
    )
    spec = replace(two.spec, channels=channels)
    assert require_absent(spec, ["T1 c"]) == (1,)
    with pytest.raises(
        InputError, match="missing t1_c: the model has several such channels, its channels are T1-c, T1 c"
    ):
        require_absent(spec, ["t1_c"])
