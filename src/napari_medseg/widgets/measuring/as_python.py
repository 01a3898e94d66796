"""What the panel does, as a script that names public faces only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.widgets.canvas.layers import path_of

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_medseg.config import MetricsConfig, RegionsConfig

_FROM_VIEWER = [
    "import napari",
    "import napari_medseg as ms",
    "from napari_medseg.widgets import to_segmentation",
    "",
    "layers = napari.current_viewer().layers",
]


def evaluation_script(prediction: Labels, reference: Labels, config: MetricsConfig) -> str:
    """The call of `evaluate` on the two layers.

    A layer that was opened from a file is read from that file; the script says that later strokes are not in it. Any
    other layer is taken from the viewer: that script runs in napari's console.
    """
    sources = {"prediction": prediction, "reference": reference}
    lines = ["import napari_medseg as ms", ""]
    if not all(path_of(layer) for layer in sources.values()):
        lines = [*_FROM_VIEWER]
    if any(path_of(layer) for layer in sources.values()):
        lines.append("# The files as they are on disk: what was painted since they were opened is not in them.")
    lines += [f"{role} = {_source(layer)}" for role, layer in sources.items()]
    lines += [
        f"scores = ms.evaluate(prediction=prediction, reference=reference, {_definitions(config)})",
        "print(scores.to_frame())",
    ]
    return "\n".join(lines) + "\n"


def folders_script(prediction: Path, reference: Path, config: MetricsConfig, regions: RegionsConfig) -> str:
    """The call that measures two folders, whose files are matched by name."""
    merged = f"merge={dict(regions.merge)!r}" if regions.merge else "foreground=True" if regions.foreground else ""
    return f"""from pathlib import Path

from napari_medseg.config import MetricsConfig, RegionsConfig
from napari_medseg.events import result_of
from napari_medseg.metrics import Sources, StudyConfig, iter_measure, match_files, study_of

sources = Sources(prediction=Path({_quoted(str(prediction))}), reference=Path({_quoted(str(reference))}))
config = StudyConfig(metrics=MetricsConfig({_definitions(config)}), regions=RegionsConfig({merged}))
cases, unmatched = match_files(sources)
batch = result_of(iter_measure(cases, config))
scores = study_of(batch.measured, config, batch.failed).scores
print(scores.to_frame())
"""


def _definitions(config: MetricsConfig) -> str:
    return f"preset={_quoted(config.preset)}, nsd_tolerance_mm={config.nsd_tolerance_mm!r}"


def _source(layer: Labels) -> str:
    path = path_of(layer)
    if path:
        return f"ms.read_segmentation({_quoted(path)})"
    return f"to_segmentation(layers[{_quoted(layer.name)}], layers)"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
