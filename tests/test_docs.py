"""The code of the README and of the docs runs: a page's blocks, in order, in a folder with the sample."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from napari_medseg import write
from napari_medseg.cli import main
from napari_medseg.sample import phantom, sample_files

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(?P<language>python|bash)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A piece of code of a page."""

    language: str
    code: str
    place: str


def blocks(page: Path) -> list[Block]:
    """The runnable blocks of a page; what installs or opens a window is fenced as console."""
    text = page.read_text(encoding="utf-8")
    return [Block(match["language"], match["code"], f"{page.name}:{line_of(match)}") for match in FENCE.finditer(text)]


def line_of(match: re.Match[str]) -> int:
    """The line of the page on which a block's code begins, counted from 1."""
    return match.string.count("\n", 0, match.start("code")) + 1


NAME_VOXELS = {"interact.md"}
"""Pages that name voxels of the sample: they run on its image as it is."""
NEED_DATA = {"tutorial.md": "abdomen_ct"}
"""{page: the folder of real volumes that it reads}."""
SLOW = ("refine.md", "first-model.md", "interact.md")
"""Pages whose code takes many seconds."""
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if blocks(page)]


def _as_slow(page: Path) -> Any:
    return pytest.param(page, marks=pytest.mark.slow) if page.name in SLOW else page


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sample's files with an image of a single window, so that pages segment at once."""
    folder, shipped = tmp_path_factory.mktemp("sample"), sample_files()
    image, labels = phantom("ct", seed=0, shape_zyx=(32, 48, 64), spacing_zyx_mm=(5.0, 3.25, 3.25))
    write(folder / shipped["image"].name, image)
    write(folder / shipped["labels"].name, labels)
    shutil.copy(shipped["model"], folder)
    return {kind: folder / path.name for kind, path in shipped.items()}


@pytest.fixture
def workplace(sample: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: the sample's files, and a command on the path that notes its arguments in `calls`."""
    for path in sample.values():
        shutil.copy(path, tmp_path / path.name)
    command = tmp_path / "bin" / "napari-medseg"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" '' >> {tmp_path / 'calls'}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MEDSEG_MODELS", str(tmp_path))
    monkeypatch.setattr("napari_medseg.demo.sample_files", lambda: sample)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def calls_of(code: str, workplace: Path) -> list[list[str]]:
    """The arguments of each `napari-medseg` in a block, as the shell passes them; no argument is empty."""
    done = subprocess.run(["bash", "-euc", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    notes = workplace / "calls"
    calls = notes.read_text().removesuffix("\0\0").split("\0\0")
    notes.unlink()
    return [call.split("\0") for call in calls]


@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for a POSIX shell")
@pytest.mark.parametrize("page", [_as_slow(p) for p in PAGES], ids=lambda p: p.name)
def test_the_code_of_a_page_runs(page: Path, workplace: Path, request: pytest.FixtureRequest) -> None:
    if page.name in NAME_VOXELS:
        for path in sample_files().values():
            shutil.copy(path, workplace / path.name)
    if page.name in NEED_DATA:
        for path in (request.getfixturevalue("medseg_data") / NEED_DATA[page.name]).glob("*.nii.gz"):
            shutil.copyfile(path, workplace / path.name)
    # The shell runs in a process of its own; the commands run here, where torch and MONAI are loaded already.
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.code, block.place, "exec"), names)
        else:
            for arguments in calls_of(block.code, workplace):
                assert main(arguments) == 0, f"{block.place}: {arguments}"


def test_every_page_of_the_guide_has_code_that_runs() -> None:
    assert {p.name for p in PAGES} >= {"README.md", "index.md", "open.md", "segment.md", "train.md", "measure.md"}
    assert {p.name for p in PAGES} >= {"tutorial.md", "first-model.md"}
