"""`refine`: labels made better by a trained refiner, which looks at the image along their boundaries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_medseg.config import RefineConfig, configured
from napari_medseg.events import Event, Work, finishing, run_to_end
from napari_medseg.inference.results.wanted import Wanted
from napari_medseg.metrics.inputs import require_segmentation
from napari_medseg.models.file import Model, as_model
from napari_medseg.volume import Segmentation, Volume


def refine(
    volume: Volume,
    segmentation: Segmentation,
    model: Model | str | Path,
    *,
    config: RefineConfig | None = None,
    **knobs: Any,
) -> Segmentation:
    """Labels of a volume, made better along their boundaries by a refiner.

    segmentation: labels of whatever made them, on the volume's grid, up to flips and permutations. model: a refiner or
    its path, as `train` with the scheme boundary-patch or point-rend makes it. Labels that it does not know stay as
    they are. config, or knobs: the fields of RefineConfig. Returns a Segmentation on the volume's grid.

    Raises GridMismatchError, ModelFileError, and InputError for a model of another kind, other channels, or labels that
    the refiner does not know.
    Sources: Tang et al., CVPR 2021 (boundary patches); Kirillov et al., CVPR 2020 (PointRend).
    """
    return run_to_end(refine_in_steps(volume, segmentation, model, configured(RefineConfig, config, knobs)))


def iter_refine(
    volume: Volume,
    segmentation: Segmentation,
    model: Model | str | Path,
    *,
    out: str | Path | None = None,
    config: RefineConfig | None = None,
    **knobs: Any,
) -> Iterator[Event]:
    """`refine`, step by step. out: a ".zarr" path for the labels; without it they are an array in memory.

    Image and labels are read box by box, never as a whole. Yields `Started` (with the Segmentation being filled), a
    `Progress` per row of chunks where the image is measured, a `Progress` per box, a `Filled` for each box of labels
    that is in its array from then on, and `Finished` with the Segmentation. `close()` cancels before the next box.
    """
    config = configured(RefineConfig, config, knobs)
    wanted = Wanted.of(out)
    return finishing(refine_in_steps(volume, segmentation, model, config, wanted.out))


def refine_in_steps(
    volume: Volume, segmentation: Segmentation, model: Model | str | Path, config: RefineConfig, out: Path | None = None
) -> Work[Segmentation]:
    """The work of `iter_refine`."""
    from napari_medseg.inference.refining.run import refining_labels

    require_segmentation(segmentation, "the labels")
    return (yield from refining_labels(volume, segmentation, as_model(model), config, out))
