"""How much memory a file may ask for: the setting, else what the system has left."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize(
    ("code", "variables", "kept"),
    [
        ("memory.keep_freed()", {}, True),
        ("memory.keep_freed()", {"MALLOC_TRIM_THRESHOLD_": "65536"}, False),
        ("import napari_medseg.widgets", {}, False),
        ("from napari_medseg.cli import parser; parser.main()", {}, True),
        ("from napari_medseg.cli import parser; parser.main([])", {}, False),
        ("from napari_medseg.training.apart import child; child.main()", {}, True),
    ],
    ids=["asked", "chosen by the user", "imported", "command line", "called by another program", "training"],
)
def test_a_process_of_ours_keeps_what_it_frees(code: str, variables: dict[str, str], kept: bool) -> None:
    program = f"""
import contextlib, crew_tasks
from napari_medseg.io.disk import memory
with contextlib.suppress(EOFError):  # the training is asked for nothing
    {code}
print(crew_tasks.faults_again(64))
"""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment = {**own, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    command = [sys.executable, "-c", program]
    nothing, both = subprocess.DEVNULL, subprocess.STDOUT
    told = subprocess.run(command, env=environment, stdin=nothing, stdout=subprocess.PIPE, stderr=both, check=True)
    assert (int(told.stdout.splitlines()[-1]) < 1000) == kept
