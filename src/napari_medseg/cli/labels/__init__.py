"""Commands on labels that are there."""
