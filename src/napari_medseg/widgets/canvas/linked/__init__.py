"""The three linked views of a volume."""
