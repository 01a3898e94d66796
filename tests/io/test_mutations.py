"""Files with bytes flipped, cut, repeated or replaced: each is read or refused in one line, and nothing else happens.

MEDSEG_MUTATIONS multiplies their number, which is small by default.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from grids import grid
from napari_medseg import io
from napari_medseg.errors import MedsegError, MedsegWarning
from napari_medseg.volume import Segmentation
from reader_suite import LABELS

TIMES = int(os.environ.get("MEDSEG_MUTATIONS", "1"))
Mutation = Callable[[np.random.Generator, bytes], bytes]


def flip(rng: np.random.Generator, content: bytes) -> bytes:
    """Some bits of the first bytes, where headers are, or of any."""
    changed = bytearray(content)
    reach = len(content) if rng.random() < 0.3 else min(len(content), 600)
    for at in rng.integers(0, reach, rng.integers(1, 9)):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)


def cut(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: rng.integers(len(content))]


def repeat(rng: np.random.Generator, content: bytes) -> bytes:
    start, length = rng.integers(len(content)), rng.integers(1, 200)
    return content[:start] + content[start : start + length] * 3 + content[start + length :]


def number(rng: np.random.Generator, content: bytes) -> bytes:
    """A digit of a text, or a word of a binary header, becomes something extreme."""
    digits = [i for i, c in enumerate(content[:3000]) if chr(c).isdigit()]
    extremes = (b"-1", b"0", b"99999999999999999999", b"nan", b"1e400", b"\xff\xff\xff\x7f", b"\x00\x00\xc0\x7f")
    at = int(rng.choice(digits)) if digits else 0
    return content[:at] + extremes[rng.integers(len(extremes))] + content[at + 1 :]


MUTATIONS: tuple[Mutation, ...] = (flip, flip, flip, cut, repeat, number, number)


def labels() -> Segmentation:
    data = np.zeros((6, 5, 4), np.uint8)
    data[2:4, 1:3] = 7
    return Segmentation(data, grid("SAR", (6, 5, 4)), LABELS)


def assert_read_or_refused(path: Path) -> None:
    reason = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MedsegWarning)
        try:
            np.asarray(io.read_segmentation(path).data)
            np.asarray(io.read(path).data)
        except MedsegError as refused:
            reason = str(refused)
    assert not reason or path.name.split(".")[0] in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("suffix", "count"), [(".nii", 400), (".nii.gz", 100), (".nrrd", 150), (".mha", 150)], ids=lambda value: str(value)
)
def test_mutations_of_files(tmp_path: Path, suffix: str, count: int) -> None:
    rng = np.random.default_rng(20)
    path = tmp_path / f"mutant{suffix}"
    io.write(path, labels(), provenance={"overlap": 0.5})
    whole = path.read_bytes()
    for _ in range(count * TIMES):
        path.write_bytes(MUTATIONS[rng.integers(len(MUTATIONS))](rng, whole) or b"\0")
        assert_read_or_refused(path)


def test_mutations_of_stores(tmp_path: Path) -> None:
    rng = np.random.default_rng(21)
    path = tmp_path / "mutant.zarr"
    io.write(path, labels(), provenance={"overlap": 0.5})
    files = sorted(p for p in path.rglob("*") if p.is_file())
    for _ in range(200 * TIMES):
        file = files[rng.integers(len(files))]
        whole = file.read_bytes()
        file.write_bytes(MUTATIONS[rng.integers(len(MUTATIONS))](rng, whole))
        assert_read_or_refused(path)
        file.write_bytes(whole)
