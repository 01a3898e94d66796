"""The code of the README and of the docs runs: a page's blocks, in order, in a folder with the sample."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from napari_medseg.sample import sample_files

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


PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if blocks(page)]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: the sample's files, and the command on the path."""
    for path in sample_files().values():
        shutil.copy(path, tmp_path / path.name)
    command = tmp_path / "bin" / "napari-medseg"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m napari_medseg.cli "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("MEDSEG_MODELS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for a POSIX shell")
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_code_of_a_page_runs(page: Path, workplace: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.code, block.place, "exec"), names)
        else:
            done = subprocess.run(["bash", "-euc", block.code], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block.place}\n{done.stderr}"


def test_every_page_of_the_guide_has_code_that_runs() -> None:
    assert {p.name for p in PAGES} >= {"README.md", "index.md", "open.md", "segment.md", "train.md", "measure.md"}
