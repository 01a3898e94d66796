"""Light networks for slices."""
