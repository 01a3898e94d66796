"""The Metrics panel and its tabs."""
