"""What labels are by themselves: size, shape, intensity, change over time."""
