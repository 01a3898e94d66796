from .cleaning import clean, iter_clean
from .filling import iter_propagate, propagate
from .objects import delete_objects, merge_objects, split_object
from .refining import iter_refine, refine

__all__ = [
    "clean",
    "delete_objects",
    "iter_clean",
    "iter_propagate",
    "iter_refine",
    "merge_objects",
    "propagate",
    "refine",
    "split_object",
]
