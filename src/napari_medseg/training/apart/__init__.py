"""Training in a process of its own, which a crash or a full memory takes alone."""
