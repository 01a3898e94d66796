from .candidates import Suggestion
from .measuring import doubts, iter_doubts
from .suggesting import iter_suggest, suggest

__all__ = ["Suggestion", "doubts", "iter_doubts", "iter_suggest", "suggest"]
