"""Tables, plots and curves."""
