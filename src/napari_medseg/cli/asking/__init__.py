"""Commands that ask a model about what it says."""
