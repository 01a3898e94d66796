"""Which steps make a model's labels better: decided on validation cases, as nnU-Net does, and kept in its file.

Source: Isensee et al., Nature Methods 2021 (empirical post-processing, decided by cross-validation).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.cases import Case
from napari_medseg.config import CleanConfig, LossConfig, SegmentConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Notice, Progress, Work, finishing, result_of, run_to_end
from napari_medseg.inference.cleaning.steps import cleaning_labels
from napari_medseg.inference.engine import segmenting
from napari_medseg.metrics.pairwise.overlap import dice_per_label
from napari_medseg.models.file import Model, as_model, write_model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.cases import IGNORE, as_cases, class_indices
from napari_medseg.training.validate import Predict
from napari_medseg.volume import Segmentation, Volume

Mask = npt.NDArray[np.bool_]
Pair = tuple[Segmentation, Segmentation, Mask | None]
"""(what a model gave, the reference, which voxels nobody annotated; None where somebody annotated all)."""


def iter_decide_cleaning(
    cases: Iterable[Case | tuple[Volume, Segmentation]],
    model: Model | str | Path,
    *,
    out: str | Path | None = None,
    device: str = "auto",
) -> Iterator[Event]:
    """Decide on validation cases which steps make a model's labels better, and write the model with them.

    For each label the largest part alone, filled holes, and both are tried; what raises the mean Dice of the label most
    is kept, and nothing where none raises it. cases: annotated, and not among those that the model learned from. out:
    the model file to write; by default the model's own is replaced.

    Yields a Progress per case, a Notice per label that gets a step, and Finished with the Model. Raises InputError for
    a refiner, and as `iter_segment`.
    """
    return finishing(_deciding(as_cases(cases), as_model(model), device, out))


def decide_cleaning(
    cases: Iterable[Case | tuple[Volume, Segmentation]], model: Model | str | Path, **options: Any
) -> Model:
    """`iter_decide_cleaning` to its end: the Model with its steps."""
    found: Model = result_of(iter_decide_cleaning(cases, model, **options))
    return found


def _deciding(cases: Sequence[Case], model: Model, device: str, out: str | Path | None) -> Work[Model]:
    if model.spec.refines is not None:
        raise InputError(f"model {model.path} is a refiner: steps are of a model that segments")
    plain = replace(model, spec=replace(model.spec, cleaning=()))
    work = partial(segmenting, model=plain, config=SegmentConfig(device=device))
    steps = yield from deciding(cases, model.spec, lambda volume: run_to_end(work(volume)))
    return _written(model, replace(model.spec, cleaning=steps), Path(out) if out is not None else model.path)


def deciding(
    cases: Sequence[Case], spec: ModelSpec, predict: Predict, loss: LossConfig | None = None
) -> Work[tuple[CleanConfig, ...]]:
    """The steps that raise the mean Dice of a label on the cases. Yields a Progress per case, and Notices.

    loss: says which voxels are not annotated: they count neither way. None: all are.
    """
    pairs: list[Pair] = []
    for done, case in enumerate(cases, start=1):
        volume, reference = case.load()
        found = predict(volume)
        unknown = None if loss is None else class_indices(reference, spec, loss) == IGNORE
        pairs.append((replace(found, data=np.asarray(found.data[...])), reference, unknown))
        yield Progress(done, len(cases), "looking for steps that better the labels")
    steps = []
    for label, name in spec.labels.items():
        best, gain = best_steps(pairs, label)
        if best is not None:
            steps.append(best)
            yield Notice(f"{name}: {_named(best)} raises the mean Dice by {gain:.4f}")
    if not steps:
        yield Notice("no step raises the mean Dice of a label: the model gets none")
    return tuple(steps)


def best_steps(pairs: Sequence[Pair], label: int) -> tuple[CleanConfig | None, float]:
    """The steps that raise the mean Dice of a label most, and by how much; None where nothing raises it."""
    before = _mean_dice(pairs, label, ())
    tried: Mapping[CleanConfig, float] = {
        config: _mean_dice(pairs, label, (config,)) - before for config in _candidates(label)
    }
    best = max(tried, key=lambda config: tried[config])
    return (best, tried[best]) if tried[best] > 0 else (None, 0.0)


def _candidates(label: int) -> list[CleanConfig]:
    """The steps that are tried, the gentlest first: of equal ones the first is taken."""
    return [
        CleanConfig(labels=(label,), fill_holes=True),
        CleanConfig(labels=(label,), largest=True),
        CleanConfig(labels=(label,), fill_holes=True, largest=True),
    ]


def _mean_dice(pairs: Sequence[Pair], label: int, steps: Sequence[CleanConfig]) -> float:
    scores = []
    for found, reference, unknown in pairs:
        cleaned = replace(found, data=np.array(found.data))
        for _ in cleaning_labels(cleaned, steps):
            pass
        dice = dice_per_label(np.asarray(cleaned.data), np.asarray(reference.data[...]), (label,), ignore=unknown)
        scores.append(dice[label])
    return float(np.mean(scores))


def _named(config: CleanConfig) -> str:
    words = [text for on, text in ((config.fill_holes, "filled holes"), (config.largest, "the largest part")) if on]
    return " and ".join(words)


def _written(model: Model, spec: ModelSpec, path: Path) -> Model:
    import safetensors.torch

    return write_model(path, spec, safetensors.torch.load(model.path.read_bytes()))
