"""What is built around a training: the plan made ahead, folds, and a look at a slice meanwhile."""
