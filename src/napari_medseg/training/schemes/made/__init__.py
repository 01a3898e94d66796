"""Schemes with a second network that judges or makes up label maps and images."""
