"""What the Labels panel changes of a layer, in layers of any number of axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from napari.layers import Labels
from napari.utils import DirectLabelColormap

from napari_medseg.widgets.canvas.layers import label_colours, label_names, placement, to_segmentation
from napari_medseg.widgets.labelling.layer_labels import Edit, rename, show_colours, with_hidden


@pytest.mark.parametrize("shape", [(12, 14), (3, 12, 14), (1, 3, 12, 14)], ids=len)
def test_an_edit_reaches_the_voxels_of_its_layer(shape: tuple[int, ...]) -> None:
    layer = Labels(np.zeros(shape, np.uint8), units=["mm"] * len(shape))
    before = to_segmentation(layer)
    wanted = np.zeros(before.data.shape, np.uint8)
    wanted[-1, 4, 5] = 3
    edit = Edit.between(before, replace(before, data=wanted), placement(layer))
    assert edit.apply(layer) == 1
    np.testing.assert_array_equal(to_segmentation(layer).data, wanted)


def test_a_hidden_label_keeps_its_colour_in_a_file() -> None:
    red, green = (1.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 1.0)
    full = DirectLabelColormap(color_dict={None: (0.0, 0.0, 0.0, 0.0), 1: red, 2: green})
    layer = Labels(np.ones((3, 4), np.uint8), colormap=full)
    colours = label_colours(layer)
    assert colours == {1: (255, 0, 0), 2: (0, 255, 0)}
    show_colours(layer, full, with_hidden(full, [1, 2], frozenset({1}), np.uint8))
    assert label_colours(layer) == colours


@pytest.mark.parametrize("has_index", [True, False])
def test_a_name_leaves_the_other_columns_and_rows_of_the_user(has_index: bool) -> None:
    table = pd.DataFrame({"grade": [0, 3, 2], "read by": ["", "A", "B"]})
    if has_index:
        table["index"] = [0, 7, 2]
    layer = Labels(np.ones((3, 4), np.uint8), features=table)
    second = 7 if has_index else 1
    rename(layer, second, "tumour")
    rename(layer, 9, "cyst")
    rename(layer, 2, "  ")
    assert label_names(layer) == {second: "tumour", 9: "cyst"}
    left = layer.features.set_index("index")
    assert (left.loc[second, "grade"], left.loc[2, "grade"], left.loc[2, "read by"]) == (3, 2, "B")
    assert list(left.index) == sorted([0, 2, second, 9])
    rename(layer, second, "")
    assert label_names(layer) == {9: "cyst"}
    assert layer.features.set_index("index").loc[second, "read by"] == "A"
