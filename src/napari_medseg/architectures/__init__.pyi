from .blocks.base import attention_maps
from .costs import Costs, costs_of

__all__ = [
    "Costs",
    "attention_maps",
    "costs_of",
]
