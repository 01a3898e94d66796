"""The networks that `bench_interact.py` measures: what each makes of the prompts of a structure.

memory: FILE, of `bench_memory.py train-memory`, which learned from phantoms. rnet: FOLDER, of `bench_memory.py
deepigeos`, which learned from other hippocampi, and is measured on the anterior ones alone; P-Net's labels come first.
residual: FILE, of `bench_promptable.py`, which learned from synthetic worlds. on the spot: a network that learns the
slices themselves for half a minute, as soon as three of them hold the structure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interact_cases import Case, Mask
from residual_network import CLICKS, Corrected, Residual, answering
from safetensors.torch import load_file

import napari_medseg as ms
from napari_medseg.interactive import correct

Answer = Callable[[Any], Mask]
SOURCE = Path(__file__).parent.parent / "src" / "napari_medseg"
GUIDED = sorted((SOURCE / "interactive" / "guided").glob("*.py"))
MINUTES = 0.5
"""For a network that learns on the spot."""


@dataclass(frozen=True)
class Network:
    """A network among the methods of a kind of prompts."""

    title: str
    kind: str
    sources: tuple[Path, ...]
    """What its masks depend on, beside the weights."""
    answer: Callable[[Case, Path], Answer]
    anywhere: bool = True
    """Whether it segments any structure, and not only anterior hippocampi."""

    def fits(self, case: Case) -> bool:
        return self.anywhere or case.name.startswith("anterior hippocampus")


def residual(case: Case, path: Path) -> Answer:
    network = Residual()
    network.load_state_dict(load_file(path))
    session, corrected = ms.interact(case.volume), Corrected(network, CLICKS)
    z, y, x = (slice(0, n) for n in case.mask.shape)

    def answer(prompt: Any) -> Mask:
        with answering(corrected):
            session.add(prompt)
            return session.mask(1).within((z, y, x))

    return answer


def rnet(case: Case, folder: Path) -> Answer:
    prompts: list[Any] = []
    labels = ms.segment(case.volume, folder / "pnet.safetensors", device="cpu")

    def answer(prompt: Any) -> Mask:
        nonlocal labels
        prompts.append(prompt)
        labels = correct(case.volume, labels, prompts, folder / "rnet.safetensors")
        return np.asarray(labels.data[...]) == 1

    return answer


def memory(case: Case, path: Path) -> Answer:
    return _filling(case, method="memory", model=path)


def on_the_spot(case: Case, path: Path) -> Answer:
    return _filling(case, method="learn", minutes=MINUTES)


def _filling(case: Case, **how: Any) -> Answer:
    """Fills the volume from all the slices so far."""
    some, given = np.zeros(case.mask.shape, np.uint8), list[int]()

    def answer(prompt: Any) -> Mask:
        given.append(prompt.index)
        some[prompt.index] = prompt.mask if prompt.positive else 0
        drawn = ms.Segmentation(some.copy(), case.volume.grid)
        filled = ms.propagate(case.volume, drawn, slices={0: sorted(given)}, **how)
        return np.asarray(filled.data[...]) == 1

    return answer


def take_one_thread() -> None:
    """Trainings and networks take one thread."""
    torch.set_num_threads(1)


RESIDUAL = Path(__file__).with_name("residual_network.py")
SLICES = (SOURCE / "interactive" / "propagation.py", SOURCE / "refinement" / "filling.py")
NETWORKS = {
    "residual": Network("engine and network (worlds)", "clicks", (RESIDUAL,), residual),
    "rnet": Network("R-Net (hippocampi)", "clicks", tuple(GUIDED), rnet, anywhere=False),
    "memory": Network("memory network (phantoms)", "slices", (*GUIDED, *SLICES), memory),
    "on the spot": Network("learning on the spot", "slices", SLICES, on_the_spot),
}
"""{name: network}; the engine's own modules count for all of them."""
