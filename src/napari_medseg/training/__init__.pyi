from .fit import iter_train, train
from .folds import Folds, iter_train_folds, train_folds
from .planner import iter_plan, plan
from .planning.document import Plan, load_plan

__all__ = [
    "Folds",
    "Plan",
    "iter_plan",
    "iter_train",
    "iter_train_folds",
    "load_plan",
    "plan",
    "train",
    "train_folds",
]
