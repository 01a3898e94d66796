from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import attempts
from attempts import ATTEMPTS, CONTENT, FILE, WRITES
from napari_medseg.io.sandbox.parent import Child, Limits

SMALL = Limits(memory_bytes=64 << 20, seconds=20, reply_bytes=1 << 20)
_LAYER = """
import json, sys
from pathlib import Path
from attempts import outcomes
from napari_medseg.io.sandbox import confine
holds = getattr(confine, sys.argv[1])()
print(json.dumps([holds, outcomes(Path(sys.argv[2])) if holds else {}]))
"""
_NAMES = "from napari_medseg.io.sandbox.confine import confine; print(*confine())"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / FILE).write_text(CONTENT)
    return tmp_path


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    layers = subprocess.run([sys.executable, "-c", _NAMES], capture_output=True, text=True, check=True).stdout.split()
    if not {"landlock", "seccomp"} & set(layers):
        pytest.skip(f"this system has neither Landlock nor seccomp, only {layers}")
    child = Child("sandbox_job")
    yield child
    child.close()


def test_a_child_reads_and_changes_nothing(child: Child, folder: Path) -> None:
    before = (folder / FILE).stat()
    outcomes = child.ask("a.nrrd", {"do": "attempt", "path": str(folder)}, SMALL).facts["outcomes"]
    assert {name: outcomes[name] for name in WRITES} == dict.fromkeys(WRITES, outcomes["create"])
    assert outcomes["create"] in ("EACCES", "EPERM")
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert (folder / FILE).read_text() == CONTENT
    assert (folder / FILE).stat().st_mtime_ns == before.st_mtime_ns
    assert child.ask("a.nrrd", {"do": "arrays"}, SMALL).facts["pid"] == child.pid, "it is well"


@pytest.mark.parametrize(
    ("layer", "refused", "error"), [("landlock", WRITES, "EACCES"), ("seccomp", ATTEMPTS, "EPERM")], ids=["l", "s"]
)
def test_each_layer_holds_alone(folder: Path, layer: str, refused: tuple[str, ...], error: str) -> None:
    path = [str(Path(attempts.__file__).parent), *(entry for entry in sys.path if entry)]
    start = f"import sys; sys.path[:0] = {path}\n"
    done = subprocess.run(
        [sys.executable, "-c", start + _LAYER, layer, str(folder)], capture_output=True, text=True, check=True
    )
    holds, outcomes = json.loads(done.stdout)
    if not holds:
        pytest.skip(f"this system has no {layer}")
    assert {name: outcomes[name] for name in refused} == dict.fromkeys(refused, error)
    assert [path.name for path in folder.iterdir()] == [FILE]
