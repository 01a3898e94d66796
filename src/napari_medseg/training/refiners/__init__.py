"""Refiners: what a model gets wrong on the cases, and the plan and the patches from which a refiner learns it."""
