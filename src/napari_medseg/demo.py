"""The main job on the sample: segment, measure, write labels, scores and an overview, and show them in napari."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from napari_medseg import io
from napari_medseg.events import Event, Finished
from napari_medseg.inference import iter_segment
from napari_medseg.io.disk.files import replace_bytes
from napari_medseg.metrics import Scores, evaluate
from napari_medseg.overview import save_overview
from napari_medseg.sample import sample_files


@dataclass(frozen=True)
class DemoResult:
    """The scores and files of the demo."""

    scores: Scores
    shown: tuple[Path, ...]
    """The image and the labels found in it."""
    written: tuple[Path, ...]
    """The sample's files, the labels, the scores and the overview."""


def iter_demo(out: Path) -> Generator[Event, None, None]:
    """Segment and measure the sample, and write into the folder `out`, which exists; ends with a DemoResult.

    The sample's own files are copied beside the results: the image, its true labels and the model.
    """
    sample = {key: _copied(path, out) for key, path in sample_files().items()}
    volume, reference = io.read(sample["image"]), io.read_segmentation(sample["labels"])
    for event in iter_segment(volume, sample["model"]):
        if isinstance(event, Finished):
            prediction = event.result
        else:
            yield event
    scores = evaluate(prediction=prediction, reference=reference)
    labels, table, picture = out / "labels.nii.gz", out / "scores.csv", out / "overview.png"
    io.write(labels, prediction)
    scores.to_csv(table)
    save_overview(picture, volume, prediction)
    yield Finished(DemoResult(scores, (sample["image"], labels), (*sample.values(), labels, table, picture)))


def _copied(path: Path, folder: Path) -> Path:
    copy = folder / path.name
    replace_bytes(copy, path.read_bytes())
    return copy


def open_in_napari(result: DemoResult) -> str:
    """Start napari on the image and its labels in another process; returns a line that says so, or why not."""
    if importlib.util.find_spec("napari") is None:
        return 'napari is not installed: pip install "napari-medseg[all]"'
    if not has_display():
        return "no display: napari is not opened"
    subprocess.Popen(
        [sys.executable, "-m", "napari", "--plugin", "napari-medseg", *map(str, result.shown)],
        start_new_session=True,
    )
    return "opening napari"


def has_display() -> bool:
    """Whether a window can be opened: always assumed on Windows and macOS, by the environment elsewhere."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
