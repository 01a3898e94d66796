"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from balls import LABELS, segmentation, volume
from napari_medseg import registry, write
from napari_medseg.models.file import Channel, ModelSpec, Normalisation, write_model

# By default an example that takes 200 ms fails, and so do examples that are made slowly: no test asserts a time.
hypothesis.settings.register_profile(
    "without clocks", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("without clocks")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the tests keep for later runs is not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def medseg_data() -> Path:
    """The folder of real volumes; the test is skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MEDSEG_DATA", beside))
    if not folder.is_dir():
        pytest.skip("real volumes are absent: set MEDSEG_DATA to their folder")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of a disk of its own, of 1 MiB; the test is skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that takes root on Linux")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # ITK leaves files open that it could not write


@pytest.fixture(scope="session")
def ball_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small unet3d of random weights: one channel, two labels."""
    import torch

    torch.manual_seed(0)
    spec = registry.network("unet3d")
    arguments = spec.arguments(in_channels=1, out_channels=3, channels=(4, 8), deep_supervision=False)
    model = ModelSpec(
        network="unet3d",
        arguments=arguments,
        channels=(Channel(name="CT", modality="CT"),),
        labels=LABELS,
        patch_zyx=(8, 16, 16),
        normalisation=(Normalisation(kind="zscore"),),
        deep_supervision=False,
    )
    path = tmp_path_factory.mktemp("models") / "balls.safetensors"
    write_model(path, model, spec.build_from(arguments).state_dict())
    return path


@pytest.fixture
def ball_images(tmp_path: Path) -> Path:
    """A folder with three images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        write(folder / f"case{number}.nii.gz", volume(seed=number))
    return folder


@pytest.fixture
def ball_labels(tmp_path: Path) -> Path:
    """A folder with the labels of the three images, in another format."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for number in range(3):
        write(folder / f"case{number}.nii", segmentation())
    return folder
