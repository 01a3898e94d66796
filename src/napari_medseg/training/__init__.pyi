from .cases import Case, cases_from_folders
from .fit import iter_train, train

__all__ = [
    "Case",
    "cases_from_folders",
    "iter_train",
    "train",
]
