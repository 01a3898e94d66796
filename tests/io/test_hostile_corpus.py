"""Every odd, broken or hostile image and label file of the corpus is read, told of or refused as its manifest says.

The generator of the corpus lies beside the repository, or in the folder that MEDSEG_TOOLS names; the tests are skipped
where it is absent.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from napari_medseg import geometry, io
from napari_medseg.cli.describe import describe
from napari_medseg.errors import MedsegError
from napari_medseg.volume import Volume

TOOLS = Path(os.environ.get("MEDSEG_TOOLS", Path(__file__).resolve().parents[3] / "shared" / "tools"))
GENERATOR = TOOLS / "make_bad_inputs.py"
KINDS = ("nifti", "itk", "zarr", "omezarr", "dicom", "label", "fs")
STATUS = {0: "ok", 2: "error"}
MIB = 512
"""Memory of the command and of each of its children, where the manifest sets no limit."""
HANGING_S = 600
"""A command that takes so long waits for what never comes. How long each takes: benchmarks/bench_bad_inputs.py."""


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


def test_info_says_what_the_manifest_says(case: Mapping[str, Any], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    status, told, mib = measured(arguments(case), canary)
    outcome = STATUS[status]
    if outcome == "ok" and told:
        outcome = "ok-with-warning"
    assert outcome in {case["expected"], *case.get("allow", [])}, told
    assert not canary.exists()
    assert mib < case.get("limits", {}).get("rss_mib", MIB)
    if outcome == "ok":
        return
    assert outcome == "ok-with-warning" or len(told) == 1
    text = " ".join(told)
    assert path_of(case).name.split(".")[0] in text
    said = text.lower().replace(str(path_of(case)).lower(), "")
    assert any(word in said for word in case["mention"]), text


def measured(command: list[str], canary: Path) -> tuple[int, list[str], float]:
    """A command in a process of its own: its status, lines of stderr, and the largest process in MiB."""
    child = [sys.executable, "-c", _MEASURE, sys.executable, "-m", "napari_medseg.cli", *command]
    environment = {**os.environ, "MEDSEG_CANARY": str(canary)}
    done = subprocess.run(child, capture_output=True, check=True, env=environment, timeout=HANGING_S)
    status, said, kib = json.loads(done.stdout)
    return status, [line for line in said.splitlines() if line.strip()], kib / 1024


_MEASURE = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True)
said = done.stderr.decode("utf-8", "replace")
print(json.dumps([done.returncode, said, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


@pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning")
def test_what_is_read_is_right(case: Mapping[str, Any]) -> None:
    if "check" not in case:
        pytest.skip("the manifest states no facts about it")
    facts = case["check"]
    allowed = contextlib.suppress(MedsegError) if "error" in case.get("allow", []) else contextlib.nullcontext()
    with allowed:
        if case["kind"] == "dicom":
            assert_planes(io.read(path_of(case)), path_of(case), facts)
        elif case["kind"] == "label":
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


def assert_planes(volume: Volume, folder: Path, facts: Mapping[str, Any]) -> None:
    """Every file's pixels, rescaled by its own numbers, lie at its own position, and no text of it is told."""
    data = np.asarray(volume.data[0])
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert len(slices) == data.shape[0] == facts.get("n", len(slices))
    for dataset in slices:
        index = volume.grid.world_to_index([float(v) for v in dataset.ImagePositionPatient[::-1]])
        np.testing.assert_allclose(index[1:], 0, atol=1e-3)
        rescaled = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        np.testing.assert_allclose(data[round(float(index[0]))], rescaled)
    assert volume.grid.spacing[::-1] == pytest.approx(facts.get("spacing", volume.grid.spacing[::-1]))
    assert "CANARY" not in " ".join([volume.name, *volume.channels, *describe(folder)])
