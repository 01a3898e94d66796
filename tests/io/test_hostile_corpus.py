"""Every odd, broken or hostile image and label file of the corpus is read, told of or refused as its manifest says.

The generator of the corpus lies beside the repository, or where MEDSEG_BAD_INPUTS says; the tests are skipped where it
is absent.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_medseg import geometry, io
from napari_medseg.cli import main
from napari_medseg.errors import MedsegError
from napari_medseg.volume import Volume

GENERATOR = Path(
    os.environ.get("MEDSEG_BAD_INPUTS", Path(__file__).resolve().parents[3] / "shared" / "tools" / "make_bad_inputs.py")
)
KINDS = ("nifti", "itk", "zarr", "omezarr", "label", "fs")
STATUS = {0: "ok", 2: "error"}
#: seconds for what the manifest sets no limit; generous, for a busy machine
SECONDS = 30


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    command = [sys.executable, str(GENERATOR), str(folder), "--only", ",".join(KINDS)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def names() -> Iterator[Any]:
    """The cases by name; one that is skipped where there is no generator."""
    if not GENERATOR.is_file():
        yield pytest.param("", marks=pytest.mark.skip(reason=f"the generator of the corpus is absent: {GENERATOR}"))
        return
    command = [sys.executable, str(GENERATOR), "--list", "--only", ",".join(KINDS)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for line in listed.splitlines()[:-1]:
        kind, _, name = line.split()[:3]
        yield pytest.param(f"{kind}/{name}", id=f"{kind}/{name}")


@pytest.fixture(params=names())
def case(request: pytest.FixtureRequest, corpus: Path) -> Mapping[str, Any]:
    manifest = json.loads((corpus / "manifest.json").read_text())
    found = [c for c in manifest["cases"] if f"{c['kind']}/{c['name']}" == request.param]
    if not found:
        pytest.skip("the generator does not make this case here")
    return {**found[0], "corpus": corpus}


def path_of(case: Mapping[str, Any]) -> Path:
    corpus: Path = case["corpus"]
    relative = os.fsdecode(bytes.fromhex(case["path_hex"])) if "path_hex" in case else case["path"]
    return corpus / relative


def arguments(case: Mapping[str, Any]) -> list[str]:
    path = str(path_of(case))
    return ["info", path] if case["kind"] != "label" else ["info", "--labels", path, "--image", partner(case)]


def partner(case: Mapping[str, Any]) -> str:
    return str(case["corpus"] / case["partner"])


def test_info_says_what_the_manifest_says(
    case: Mapping[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("MEDSEG_CANARY", str(tmp_path / "canary"))
    started = time.monotonic()
    status = main(arguments(case))
    seconds = time.monotonic() - started
    told = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    outcome = STATUS[status]
    if outcome == "ok" and told:
        outcome = "ok-with-warning"
    assert outcome in {case["expected"], *case.get("allow", [])}, told
    assert not (tmp_path / "canary").exists()
    assert seconds < max(SECONDS, case.get("limits", {}).get("seconds", 0))
    if outcome == "ok":
        return
    assert outcome == "ok-with-warning" or len(told) == 1
    text = " ".join(told)
    assert path_of(case).name.split(".")[0] in text
    said = text.lower().replace(str(path_of(case)).lower(), "")
    assert any(word in said for word in case["mention"]), text


@pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning")
def test_what_is_read_is_right(case: Mapping[str, Any]) -> None:
    if "check" not in case:
        pytest.skip("the manifest states no facts about it")
    facts = case["check"]
    allowed = contextlib.suppress(MedsegError) if "error" in case.get("allow", []) else contextlib.nullcontext()
    with allowed:
        if case["kind"] == "label":
            assert np.unique(np.asarray(io.read_segmentation(path_of(case)).data)).tolist() == facts["labels"]
        else:
            assert_facts(io.read(path_of(case)), facts, plain_zarr=case["kind"] == "zarr")


def assert_facts(volume: Volume, facts: Mapping[str, Any], *, plain_zarr: bool) -> None:
    """The facts are in the order x, y, z, but for a plain zarr array, whose axes are not named and are kept."""
    data = np.asarray(volume.data[0])
    found: dict[str, Any] = {}
    found["shape"] = list(data.shape if plain_zarr else data.shape[::-1])
    found["sum"] = data.sum(dtype=np.float64)
    found["spacing"] = pytest.approx(volume.grid.spacing[::-1])
    found["spacing_zyx"] = pytest.approx(volume.grid.spacing)
    world = geometry.to_nifti(volume.grid.affine) @ [3, 4, 2, 1]
    found["ijk_3_4_2_world_ras"] = pytest.approx(world[:3].tolist(), abs=1e-4)
    for name, fact in facts.items():
        assert name == "undetectable" or found[name] == fact, name
