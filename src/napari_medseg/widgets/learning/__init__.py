"""What the Train panel works with beside its form: what is painted, and what the model sees meanwhile."""
