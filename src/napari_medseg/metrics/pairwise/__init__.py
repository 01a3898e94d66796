"""A prediction against its reference: counts, surfaces, instances, and the scores that follow."""
