from .dataset import DataSet
from .layouts import open_dataset

__all__ = ["DataSet", "open_dataset"]
