"""A run in blocks that may be worked on anywhere: a block is its coordinates, and the labels go into the same store.

A block writes whole chunks of its own, and writing them again changes nothing. The process that asked for the run keeps
the lock of the output and the journal.
"""

from __future__ import annotations

import functools
import math
import pickle
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg.arrays.boxes import Box
from napari_medseg.cases import Case
from napari_medseg.events import Event, Filled, Notice, Progress
from napari_medseg.inference.job import Job, Written, careful, regions_left, working
from napari_medseg.inference.plan import InferencePlan
from napari_medseg.inference.planes import ChannelStatistics
from napari_medseg.inference.results.journal import Journal
from napari_medseg.inference.results.sink import Outputs
from napari_medseg.inference.scale.crew import Crew, on_threads, torch_threads
from napari_medseg.inference.windows import Windows

if TYPE_CHECKING:
    from napari_medseg.models.file import Model

_BLOCKS_A_WORKER = 2
"""Blocks that each worker gets about: more of them share the work more evenly, and run more windows twice."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What all blocks of a run have in common."""

    case: Case
    model: Path
    plan: InferencePlan
    statistics: ChannelStatistics
    windows: Windows
    stores: tuple[Path | None, ...]
    """The arrays of labels, probabilities and uncertainty; None for one that is not wanted."""


@dataclass(frozen=True, eq=False)
class Block:
    """One block of a run."""

    setup: bytes
    """The Setup, pickled: a worker opens image and model once."""
    box: Box
    """In the output's grid, in the model's axis order."""
    threads: int
    """Of torch in the process that asks."""


@dataclass(frozen=True, eq=False)
class BlockDone:
    """What a worker reports."""

    box: Box
    written: tuple[Box, ...]
    """The boxes of labels that are in the store, in stored order."""
    notices: tuple[str, ...]


def do_block(block: Block) -> BlockDone:
    """In a worker: segment a block into the stores."""
    written, notices = [], []
    with on_threads(block.threads):
        job, outputs = _opened(block.setup)
        for event in working(job, block.box, outputs, careful(job.predictor, job.plan)):
            if isinstance(event, Written):
                written.append(event.box)
            elif isinstance(event, Notice):
                notices.append(event.message)
    return BlockDone(block.box, tuple(written), tuple(notices))


@functools.lru_cache(maxsize=1)
def _opened(setup: bytes) -> tuple[Job, Outputs]:
    """Image, model and stores of a run, opened once in a worker."""
    import zarr

    from napari_medseg.inference.predictor import load_predictor
    from napari_medseg.models.file import load_model

    run: Setup = pickle.loads(setup)  # made by our own process
    model = load_model(run.model)
    predictor = load_predictor(model, run.plan)
    job = Job(run.case.volume(), run.plan, predictor, run.statistics, run.windows)
    arrays: list[Any] = [
        None if path is None else zarr.open_array(path, mode="r+").with_config({"write_empty_chunks": True})
        for path in run.stores
    ]
    return job, Outputs(*arrays)


def segment_blocks(
    job: Job, case: Case, model: Model, outputs: Outputs, journal: Journal, crew: Crew
) -> Generator[Event, None, None]:
    """Segment what is left of a case by the workers of a crew, as `segment_regions` does it here."""
    arrays = (outputs.labels, outputs.probabilities, outputs.uncertainty)
    stores = tuple(None if array is None else array.store.root.absolute() for array in arrays)
    setup = pickle.dumps(Setup(case, model.path.absolute(), job.plan, job.statistics, job.windows, stores))
    boxes = regions_left(job, outputs, journal, deepest=_deepest(job, crew.size))
    threads = torch_threads()
    blocks = [Block(setup, box, threads) for box in boxes]
    total = max(1, len(blocks))
    for done, result in enumerate(crew.run(do_block, blocks), start=1):
        for message in result.notices:
            yield Notice(message)
        for box in result.written:
            journal.record(box)
            yield Filled(box)
        if done < total:
            yield Progress(done, total, "blocks")
    yield Progress(total, total, "blocks")


def _deepest(job: Job, workers: int) -> int:
    """The planes of a block, so that each worker gets a few."""
    return math.ceil(job.plan.image_grid.shape[0] / (workers * _BLOCKS_A_WORKER))
