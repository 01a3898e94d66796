from .check import Check, check_explanation
from .explaining import explain, iter_explain
from .methods import METHODS, Method

__all__ = ["METHODS", "Check", "Method", "check_explanation", "explain", "iter_explain"]
