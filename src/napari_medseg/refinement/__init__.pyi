from .cleaning import clean, iter_clean
from .refining import iter_refine, refine

__all__ = ["clean", "iter_clean", "iter_refine", "refine"]
