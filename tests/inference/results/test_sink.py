"""Probabilities and doubts of logits, into stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import zarr

from napari_medseg.arrays.boxes import whole
from napari_medseg.geometry import AS_IT_IS
from napari_medseg.inference.blend import Piece
from napari_medseg.inference.results.sink import Outputs, Sink

SHAPE = (8, 2, 3)


def outputs(folder: Path) -> Outputs:
    labels = zarr.create_array(folder / "l", shape=SHAPE, chunks=SHAPE, dtype="u1")
    p, u = (
        zarr.create_array(folder / name, shape=(n, *SHAPE), chunks=(1, 2, *SHAPE[1:]), dtype="f4")
        for name, n in (("p", 3), ("u", 2))
    )
    return Outputs(labels, p, u)


def test_where_no_window_looked_it_is_background_without_doubt(tmp_path: Path) -> None:
    made = outputs(tmp_path)
    sink = Sink(made, AS_IT_IS, (0, 4, 7), whole(SHAPE))
    logits = torch.zeros(3, 8, 2, 2)
    logits[1, 2:] = 5.0
    sink.write(Piece((slice(0, 8), slice(0, 2), slice(0, 2)), logits))  # nothing comes for the last column
    sink.advance(8)
    looked = np.zeros(SHAPE, bool)
    looked[2:, :, :2] = True
    assert np.array_equal(made.labels[...], np.where(looked, 4, 0))
    p, u = np.asarray(made.probabilities[...]), np.asarray(made.uncertainty[...])
    np.testing.assert_array_equal(p[:, ~looked], [[1] * 24, [0] * 24, [0] * 24])
    np.testing.assert_array_equal(u[:, ~looked], [[0] * 24, [1] * 24])
    assert (p[1, looked] > 0.9).all()
    assert (u[0, looked] > 0.01).all()


def test_rows_of_all_classes_are_written_as_soon_as_they_are_whole(tmp_path: Path) -> None:
    made = outputs(tmp_path)
    sink = Sink(made, AS_IT_IS, (0, 4, 7), whole(SHAPE))
    for plane in range(5):
        sink.write(Piece((slice(plane, plane + 1), *whole(SHAPE)[1:]), torch.ones(3, 1, 2, 3)))
    assert (made.probabilities[...].sum(0)[:, 0, 0] > 0.9).tolist() == [True] * 4 + [False] * 4
