"""How long `napari-medseg info` takes over each odd, broken or hostile file, and how much memory: the slowest first.

    python benchmarks/bench_bad_inputs.py GENERATOR [--only nifti,itk,zarr,omezarr,dicom,label,fs] [--most 20]

GENERATOR is the program that makes the corpus: `GENERATOR FOLDER --only KINDS` writes files and a `manifest.json` with
the seconds and MiB that each may take. Seconds are CPU time of the command and of its children, so that another program
beside it changes little. Ends with status 1 where a file takes more than its manifest allows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS, MIB = 10.0, 512.0
"""What a file may take where the manifest sets no limit."""
HANGING_S = 600
"""A command that takes so long waits for what never comes."""

_MEASURE = """
import json, resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([status, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


@dataclass(frozen=True)
class Row:
    """What one file took, and may take."""

    name: str
    status: int
    seconds: float
    mib: float
    limits: tuple[float, float]

    @property
    def is_over(self) -> bool:
        return self.seconds >= self.limits[0] or self.mib >= self.limits[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path)
    parser.add_argument("--only", default="nifti,itk,zarr,omezarr,dicom,label,fs", help="kinds of files")
    parser.add_argument("--most", type=int, default=20, help="rows to print")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        make = [sys.executable, str(args.generator), folder, "--only", args.only]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        cases = json.loads((corpus / "manifest.json").read_text())["cases"]
        rows = sorted((measured(case, corpus) for case in cases), key=lambda row: -row.seconds)
    print(f"{'file':44} {'status':>6} {'CPU s':>7} {'of':>5} {'MiB':>6} {'of':>5}")
    for row in [r for i, r in enumerate(rows) if i < args.most or r.is_over]:
        seconds, mib = row.limits
        over = "  TOO MUCH" if row.is_over else ""
        print(f"{row.name:44.44} {row.status:6} {row.seconds:7.2f} {seconds:5.0f} {row.mib:6.0f} {mib:5.0f}{over}")
    print(f"{len(rows)} files, {sum(row.seconds for row in rows):.0f} CPU seconds")
    return int(any(row.is_over for row in rows))


def measured(case: Mapping[str, Any], corpus: Path) -> Row:
    """`info` on one file, in a process of its own."""
    relative = os.fsdecode(bytes.fromhex(case["path_hex"])) if "path_hex" in case else case["path"]
    path = str(corpus / relative)
    arguments = ["--labels", path, "--image", str(corpus / case["partner"])] if case["kind"] == "label" else [path]
    command = [sys.executable, "-c", _MEASURE, sys.executable, "-m", "napari_medseg.cli", "info", *arguments]
    done = subprocess.run(command, capture_output=True, check=True, timeout=HANGING_S)
    status, seconds, mib = json.loads(done.stdout)
    limits = case.get("limits", {})
    return Row(
        f"{case['kind']}/{case['name']}",
        status,
        seconds,
        mib,
        (float(limits.get("seconds", SECONDS)), float(limits.get("rss_mib", MIB))),
    )


if __name__ == "__main__":
    sys.exit(main())
