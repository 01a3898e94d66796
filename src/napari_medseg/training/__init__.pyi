from .fit import iter_train, train

__all__ = ["iter_train", "train"]
