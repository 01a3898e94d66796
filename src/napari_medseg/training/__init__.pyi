from .fit import iter_train, train
from .planner import iter_plan, plan
from .planning.document import Plan, load_plan

__all__ = ["Plan", "iter_plan", "iter_train", "load_plan", "plan", "train"]
