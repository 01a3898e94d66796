"""How much memory a file may ask for: the setting, else what the system has left."""

from __future__ import annotations

import pytest

from napari_medseg.errors import FileError, InputError
from napari_medseg.io.disk import memory


def test_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(memory.SETTING, "0.5")
    memory.check("a.nii", 1 << 29)
    with pytest.raises(FileError, match=r"a\.nii: too large for the memory: 1\.0 GiB needed, 0\.5 GiB allowed: set"):
        memory.check("a.nii", 1 << 30)


def test_a_large_image_in_a_small_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    memory.check("a.nii.gz", 1 << 33, 1 << 26, allowed=64 << 30)
    with pytest.raises(FileError, match=r"\(8\.0 GiB in memory\) in a suspiciously small file \(1 : 1024\)"):
        memory.check("a.nii.gz", 1 << 33, 1 << 23, allowed=64 << 30)
    monkeypatch.setenv(memory.SETTING, "16")
    memory.check("a.nii.gz", 1 << 33, 1 << 23)


@pytest.mark.parametrize("setting", ["much", "-1", "nan", "inf"])
def test_a_wrong_setting_is_told(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(memory.SETTING, setting)
    with pytest.raises(InputError, match="MEDSEG_MEMORY_GIB must be a number of GiB"):
        memory.limit_bytes()


def test_the_system_tells_its_memory() -> None:
    assert 1 << 26 < memory.available_bytes() < 1 << 50
