"""Processor time that the refusal of each hostile model takes, from the start of the command to its end.

    python benchmarks/bench_refusals.py GENERATOR

GENERATOR is the script that makes the corpus of bad inputs. A case is refused within the seconds that its manifest
states, 10 where it states none; the cases that take longer are marked, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from napari_medseg.sample import sample_files

KINDS = ("model", "config", "archive")
SECONDS = 10.0
"""The limit of a case whose manifest states none."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path)
    generator = parser.parse_args().generator
    slow = 0
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "corpus"
        subprocess.run([sys.executable, generator, corpus, "--only", ",".join(KINDS)], check=True, capture_output=True)
        for case in json.loads((corpus / "manifest.json").read_text())["cases"]:
            limit = case.get("limits", {}).get("seconds", SECONDS)
            seconds = cpu_seconds(command_of(case["kind"], corpus / case["path"], Path(scratch)))
            slow += seconds > limit
            print(f"{case['name']:40} {seconds:6.2f} s of {limit:4.0f} s{'  SLOW' if seconds > limit else ''}")
    return min(slow, 1)


def command_of(kind: str, path: Path, folder: Path) -> list[str]:
    """The arguments of the command that refuses a case."""
    if kind == "model":
        return ["segment", str(sample_files()["image"]), "--model", str(path), "-o", str(folder / "o.nii.gz")]
    return ["convert", str(path), "-o", str(folder / "m.safetensors")]


def cpu_seconds(arguments: list[str]) -> float:
    """Of the command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "napari_medseg.cli", *arguments], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
