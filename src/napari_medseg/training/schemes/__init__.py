"""Ways to train: each decides which networks there are, and what one step does to them."""
