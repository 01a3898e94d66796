"""The cases of kinds model, config and archive of the shared corpus, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_medseg import sample

GENERATOR = Path(os.environ.get("MEDSEG_TOOLS", Path(__file__).parents[3] / "shared/tools")) / "make_bad_inputs.py"
KINDS = ("model", "config", "archive")
_MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
print(json.dumps([done.returncode, done.stderr, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    if not GENERATOR.is_file():
        pytest.skip(f"the generator of bad inputs is not here: {GENERATOR}")
    folder = tmp_path_factory.mktemp("bad") / "out"
    subprocess.run([sys.executable, GENERATOR, folder, "--only", ",".join(KINDS)], check=True, capture_output=True)
    return folder, json.loads((folder / "manifest.json").read_text())["cases"]


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux reports it")
@pytest.mark.parametrize("kind", KINDS)
def test_every_case_is_refused_in_one_line(
    kind: str, corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    folder, cases = corpus
    chosen = [case for case in cases if case["kind"] == kind]
    assert chosen
    wrong = {case["name"]: fault for case in chosen if (fault := _fault(folder, case, tmp_path))}
    assert not wrong


def _fault(folder: Path, case: dict[str, Any], tmp_path: Path) -> str:
    """What is wrong with how a case is refused; empty where nothing is."""
    path, canary = folder / case["path"], tmp_path / "canary"
    if case["kind"] == "model":
        argv = ["segment", sample.sample_files()["image"], "--model", path, "-o", tmp_path / "o.nii.gz"]
    else:
        argv = ["convert", path, "-o", tmp_path / "m.safetensors"]
    command = [sys.executable, "-c", _MEASURED, sys.executable, "-m", "napari_medseg.cli", *map(str, argv)]
    environment = {**os.environ, "MEDSEG_CANARY": str(canary)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=120)
    status, told, mib = json.loads(done.stdout)
    # The two that the manifest calls right are refused for their missing ModelSpec.
    words = case["mention"] if case["expected"] == "error" else ["modelspec"]
    checks = {
        f"status {status}": status == 2,
        f"not one line: {told}": told.count("\n") == 1 and told.endswith("\n"),
        f"does not name the file: {told}": path.name in told,
        f"not in words that help: {told}": any(word in told.lower() for word in words),
        f"advice to switch safety off: {told}": "weights_only" not in told and "allow_pickle" not in told,
        f"{mib:.0f} MiB": mib <= 512,
        "wrote something, or ran": not list(tmp_path.iterdir()),
    }
    return next((fault for fault, right in checks.items() if not right), "")
