from .cleaning import clean, iter_clean
from .objects import delete_objects, merge_objects, split_object

__all__ = ["clean", "delete_objects", "iter_clean", "merge_objects", "split_object"]
