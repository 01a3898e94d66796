from .fit import iter_train, train
from .planning.document import Plan, load_plan
from .refiners.deciding import decide_cleaning, iter_decide_cleaning
from .tasks.folds import Folds, iter_train_folds, train_folds
from .tasks.planner import iter_plan, plan
from .tasks.pruning import Pruned, Worth, iter_prune

__all__ = [
    "Folds",
    "Plan",
    "Pruned",
    "Worth",
    "decide_cleaning",
    "iter_decide_cleaning",
    "iter_plan",
    "iter_prune",
    "iter_train",
    "iter_train_folds",
    "load_plan",
    "plan",
    "train",
    "train_folds",
]
