from .cleaning import clean, iter_clean

__all__ = ["clean", "iter_clean"]
