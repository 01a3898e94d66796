"""Training on annotated volumes: `iter_train` and `train`."""

from napari_medseg.cases import Case, cases_from_folders
from napari_medseg.training.fit import iter_train, train

__all__ = ["Case", "cases_from_folders", "iter_train", "train"]
