"""File > Save All Layers: a file for each layer, beside each other, under the name that was chosen."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Labels, Layer

from napari_medseg import io
from napari_medseg.errors import InputError
from napari_medseg.widgets.canvas.layers import to_segmentation, to_volume
from napari_medseg.widgets.canvas.napari_io import open_layers, refusals_as_file_errors

if TYPE_CHECKING:
    from napari_medseg.widgets.canvas.layers import LayerData

_SUFFIX = ".nii.gz"
"""Of a name without one."""
_NOT_IN_A_NAME = re.compile(r'[\\/:*?"<>|#%\x00-\x1f]+')
"""What some system does not take in a file name, or a path takes for a choice."""


@refusals_as_file_errors()
def write_layers(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Save image and Labels layers, each on its true grid, in files `STEM_LAYER.suffix` for a path `STEM.suffix`.

    All layers are checked before the first file is written, and no file is left where one cannot be written. Files that
    are there already are never replaced: only the chosen name was asked about. Raises FileError for them, and for
    layers that are no volumes.
    """
    if "#" in Path(path).name:
        raise InputError(f"{path}: a # in a file name chooses a part of a file: choose a name without it")
    made = [Layer.create(*content) for content in layers]
    among = [*open_layers(), *made]
    paths = paths_of(Path(path), [layer.name for layer in made])
    taken = [file.name for file in paths if file.exists()]
    if taken:
        more = f" and {len(taken) - 1} more" if taken[1:] else ""
        raise InputError(f"{path}: {taken[0]}{more} would be replaced: choose another name, or another folder")
    nouns = [to_segmentation(layer, among) if isinstance(layer, Labels) else to_volume(layer, among) for layer in made]
    try:
        for file, noun in zip(paths, nouns, strict=True):
            io.write(file, noun)
    except BaseException:
        for file in paths:  # none was there before
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        raise
    return [str(file) for file in paths]


def paths_of(path: Path, names: Sequence[str]) -> list[Path]:
    """The path of each layer's file: no two are equal, on systems that see no difference between A and a either."""
    stem = io.strip_suffix(path)
    suffix = path.name[len(stem) :] or _SUFFIX
    found: dict[str, Path] = {}
    for name in names:
        safe = _NOT_IN_A_NAME.sub("_", name).strip(" .") or "layer"
        file, number = path.with_name(f"{stem}_{safe}{suffix}"), 2
        while file.name.lower() in found:
            file, number = path.with_name(f"{stem}_{safe} {number}{suffix}"), number + 1
        found[file.name.lower()] = file
    return list(found.values())
