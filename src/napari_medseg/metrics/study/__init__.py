"""Many cases: which files belong together, their scores, and statistics over them."""
