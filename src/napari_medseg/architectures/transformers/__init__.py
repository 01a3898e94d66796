"""Networks whose coarse levels are transformers or perceptrons on tokens."""
