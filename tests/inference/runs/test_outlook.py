"""What a run takes, told before it, from plans made up here."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_medseg import Grid, registry
from napari_medseg.config import SegmentConfig
from napari_medseg.inference.device import Machine
from napari_medseg.inference.plan import ImageFacts, InferencePlan, resolve
from napari_medseg.inference.results.wanted import Wanted
from napari_medseg.inference.runs.outlook import Outlook, planned
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation

MIB = 1 << 20


def plan(planes: int) -> InferencePlan:
    spec = ModelSpec(
        network="unet3d",
        arguments=registry.network("unet3d").arguments(in_channels=1, out_channels=3, channels=(4, 8)),
        channels=(Channel(name="image", modality="other"),),
        labels={1: "one", 2: "two"},
        patch_zyx=(64, 64, 64),
        normalisation=(Normalisation(kind="none"),),
        deep_supervision=True,
    )
    facts = ImageFacts(Grid.from_spacing((planes, 128, 256), (1.0, 1.0, 1.0)), ("image",))
    return resolve(facts, spec, SegmentConfig(), Machine())


def test_memory_does_not_grow_with_the_slices_and_the_disk_does(tmp_path: Path) -> None:
    low, high = (planned(plan(n), Wanted(tmp_path / "new" / "a.zarr")) for n in (256, 512))
    assert low.memory_bytes == high.memory_bytes
    assert (low.disk_bytes, high.disk_bytes) == (8 * MIB, 16 * MIB)
    assert low.free_bytes is not None
    # Sums of three classes, the input of a row of windows twice, and a row of chunks of labels.
    assert low.memory_bytes == (64 * 3 * 4 + 2 * 64 * 4 + 64) * 128 * 256
    more = planned(plan(256), Wanted(tmp_path / "a.zarr", tmp_path / "p.zarr", tmp_path / "u.zarr"))
    assert more.disk_bytes == (1 + 4 * 5) * 8 * MIB


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "about 1 s, "), (80, "about 80 s, "), (600, "about 10 min, "), (9000, "about 2.5 h, ")]
)
def test_one_line_says_it(seconds: float, told: str) -> None:
    line = Outlook(300 * MIB, 20 * MIB, 5 * MIB, seconds).describe()
    assert line == f"{told}300 MiB of memory beside the network, at most 20 MiB on the disk (5 free)"
