"""Scores as files, tables, plots and pictures."""
